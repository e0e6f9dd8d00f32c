"""Where the part is in a training image, and where only background, for detectors that make defects on the part alone.

Three ways: masks that the user gives, GrabCut, or MobileSAM with its weights as a local file. The paper used SAM.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from kornia.contrib.visual_prompter import VisualPrompter
from kornia.models.sam import Sam, SamConfig

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.tensor_files import NoWeightsError, read_tensors
from shopfloor.planning.settings import ForegroundSettings
from shopfloor.readers.pixels import ImageError, decode, mask_values, resize_mask

_BORDER = 1 / 32  # of the side: the strip along the edge that GrabCut takes for background
_ITERATIONS = 4
_WORKING_SIZE = 256  # GrabCut takes seconds above it, and the outline of a part needs no more
_LEAST_SHARE = 0.02  # less than this of an image is no part
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")


def grab_cut(image: np.ndarray) -> np.ndarray:
    """Segments the part by GrabCut (Rother et al., SIGGRAPH 2004; OpenCV), with the edge of the image as background.

    Made for a part in front of a background that surrounds it. Where the background does not reach the edge, or the
    surface fills the image, nothing is left of the part, and the whole image counts as foreground.

    Args:
        image: Image ``(S, S, 3)``, RGB, uint8.

    Returns:
        Mask ``(S, S)``, uint8, 1 on the part.
    """
    size = image.shape[:2]
    small = cv2.resize(image, (_WORKING_SIZE,) * 2, interpolation=cv2.INTER_AREA) if size[0] > _WORKING_SIZE else image
    border = max(1, round(len(small) * _BORDER))
    labels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    labels[border:-border, border:-border] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)
    model = np.zeros((1, 65))
    cv2.grabCut(
        np.ascontiguousarray(small[..., ::-1]),
        labels,
        None,  # type: ignore[call-overload]  # no rectangle: the labels say where the part may be
        model,
        model.copy(),
        _ITERATIONS,
        cv2.GC_INIT_WITH_MASK,
    )
    mask = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    if mask.mean() < _LEAST_SHARE:
        return np.ones(size, np.uint8)
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)


class MobileSam:
    """Segments the part by MobileSAM (Zhang et al., arXiv 2306.14289; kornia), asked for what is in GrabCut's box.

    Args:
        weights: File ``mobile_sam.pt`` (Apache-2.0).

    Raises:
        DetectorError: If there is no such file, or it does not hold these weights.
    """

    def __init__(self, weights: str | Path | None) -> None:
        if not weights or not Path(weights).is_file():
            raise DetectorError(
                f"FOREGROUND_WEIGHTS: MobileSAM's weights are not at {str(weights)!r}. Get mobile_sam.pt (Apache-2.0, "
                "https://github.com/ChaoningZhang/MobileSAM) and name it with foreground: {mobile_sam: <path>}, or "
                "choose foreground: automatic."
            )
        network = Sam.from_name("mobile_sam")
        try:
            network.load_state_dict(read_tensors(Path(weights)))
        except NoWeightsError as error:
            raise DetectorError(f"FOREGROUND_WEIGHTS: '{weights}' {error}") from error
        except RuntimeError as error:
            raise DetectorError(
                f"FOREGROUND_WEIGHTS: '{weights}' does not hold MobileSAM's weights. {error}"
            ) from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._lock = threading.Lock()  # a prompter holds one image, and images are segmented on all cores
        self._prompter = VisualPrompter(SamConfig("mobile_sam"), device=torch.device(device))
        self._prompter.model = network.to(device).eval()

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Segments an image ``(S, S, 3)``, RGB, uint8.

        Returns:
            Mask ``(S, S)``, uint8, 1 on the part.
        """
        rows, columns = grab_cut(image).nonzero()
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        device = self._prompter.device
        pixels = torch.from_numpy(image.copy()).to(device).permute(2, 0, 1).float() / 255
        with self._lock:
            self._prompter.set_image(pixels)
            answer = self._prompter.predict(boxes=torch.tensor([box], dtype=torch.float32, device=device))
        best = int(answer.scores[0].argmax())
        return answer.binary_masks[0, best].cpu().numpy().astype(np.uint8)


def read_foreground(folder: str | Path | None, category: str, image: str, image_size: int) -> np.ndarray:
    """Reads the user's foreground mask of an image.

    Args:
        folder: Folder of the masks; inside it a mask lies where its image lies in the dataset's folder.
        category: Category of the image.
        image: Path of the image relative to the dataset's folder.
        image_size: Side S of the result, in pixels.

    Returns:
        Mask ``(S, S)``, uint8, 1 where the file has any value above 0.

    Raises:
        DetectorError: If there is no such mask, or it cannot be read.
    """
    if not folder or not Path(folder).is_dir():
        raise DetectorError(
            f"FOREGROUND_MISSING: there is no folder {str(folder)!r} of foreground masks for {category}. Name it with "
            "foreground_folder in the dataset's entry, or choose another way to find the foreground."
        )
    root = Path(folder).resolve()
    place = (root / image).resolve()
    if not place.is_relative_to(root):
        raise DetectorError(f"FOREGROUND_MISSING: '{image}' leads out of the folder '{folder}'.")
    found = next((file for suffix in _MASK_SUFFIXES if (file := place.with_suffix(suffix)).is_file()), None)
    if found is None:
        raise DetectorError(
            f"FOREGROUND_MISSING: there is no foreground mask '{place.with_suffix(_MASK_SUFFIXES[0])}' for '{image}'."
        )
    try:
        data = found.read_bytes()
        marked = (mask_values(decode(data), data) > 0).astype(np.uint8)
    except (OSError, ImageError) as error:
        raise DetectorError(f"FOREGROUND_MISSING: '{found}' cannot be read as a mask: {error}.") from error
    return resize_mask(marked, image_size)


def segmenter(method: str, settings: ForegroundSettings) -> Callable[[np.ndarray], np.ndarray]:
    """The function that segments an image.

    Args:
        method: ``automatic`` (GrabCut) or ``mobile_sam``.
        settings: Where MobileSAM's weights are.

    Raises:
        DetectorError: If weights are missing.
        ValueError: For another method.
    """
    if method == "automatic":
        return grab_cut
    if method == "mobile_sam":
        return MobileSam(settings.mobile_sam)
    raise ValueError(f"{method!r} does not segment images.")
