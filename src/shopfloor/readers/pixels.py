"""From an image file to 8-bit pixels, and from pixels to the model's input size.

Every file is opened by its content, never by its extension, and is accepted only when nothing is lost by
turning it into 8-bit RGB. Orientation tags (EXIF) are *not* applied: masks are drawn on the pixels as they
are stored, and a camera on a production line does not write the tag. The checks warn about files that carry
one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

Scalar = TypeVar("Scalar", bound=np.generic)

FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
EIGHT_BITS = 8
_PNG_BIT_DEPTH = 24  # offset of the bit depth in a PNG file: signature 8, chunk head 8, width 4, height 4
_TIFF_BITS_PER_SAMPLE = 258
_UPRIGHT = 1


Image.init()  # without it Pillow knows only some of the formats


class ImageError(ValueError):
    """A file that cannot be turned into 8-bit pixels without loss; the text gives the reason."""


def read_image(path: str | Path, size: int | None = None, *, sha256: str = "") -> NDArray[np.uint8]:
    """Read an image as RGB, and resize it if asked to.

    Grey is repeated, alpha is dropped, a palette is resolved; of a file with several frames the first is
    taken.

    Args:
        path: File in one of ``FORMATS``, whatever its extension.
        size: Side of the square to resize to, see :func:`resize_image`; None keeps the image as it is.
        sha256: Digest that the file must have; empty for any.

    Returns:
        Array (H, W, 3), uint8, in the orientation in which the pixels are stored.

    Raises:
        ImageError: Not decodable, larger than Pillow's limit, more than 8 bits per channel, or another file than meant.
        OSError: The file cannot be read.
    """
    data = _content(path, sha256)
    try:
        image = decode(data)
        bits = bits_per_channel(image, data)
        if bits > EIGHT_BITS:
            raise ImageError(f"{bits} bits per channel; convert it to 8 bits, the scaling is a choice of yours")
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    # Resized before it becomes an array: copies of the whole image would cost more than decoding it. Grey stays one
    # channel until then; repeating it gives the same values before and after.
    image = image if image.mode in ("L", "RGB") else image.convert("RGB")
    return np.asarray((image if size is None else _resized(image, size)).convert("RGB"))


def _content(path: str | Path, sha256: str) -> bytes:
    """Read a file, which must not have changed since it was checked."""
    data = Path(path).read_bytes()
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ImageError(
            f"{path}: the file changed after it was checked; run again, with --params=hash_everything=true if its size "
            "and time are what they were"
        )
    return data


def read_mask(paths: Sequence[str | Path], shape: tuple[int, int], *, sha256: Sequence[str] = ()) -> NDArray[np.uint8]:
    """Read the masks of one image as their union; any value above 0 is a defect.

    Args:
        paths: Mask files; none gives an all-zero mask.
        shape: Height and width of the image in pixels.
        sha256: Digest that each file must have; empty for any.

    Returns:
        Array (H, W), uint8, values 0 and 1.

    Raises:
        ImageError: Not decodable, of another size than the image, or another file than meant.
        OSError: A file cannot be read.
    """
    union = np.zeros(shape, dtype=bool)
    for path, digest in zip(paths, sha256 or [""] * len(paths), strict=True):
        data = _content(path, digest)
        try:
            values = mask_values(decode(data), data)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        if values.shape != shape:
            raise ImageError(
                f"{path}: the mask is {values.shape[1]} x {values.shape[0]} pixels, "
                f"its image is {shape[1]} x {shape[0]}"
            )
        union |= values > 0
    return union.astype(np.uint8)


def mask_values(mask: Image.Image, data: bytes) -> NDArray[Any]:
    """One value per pixel of a mask: the grey value, or the largest of the colour channels.

    Args:
        mask: The decoded mask. Sixteen bits are fine for a grey one (label numbers), not for a colour one.
        data: The file it was decoded from.

    Returns:
        Array (H, W); alpha is ignored.

    Raises:
        ImageError: More than 8 bits per colour channel.
    """
    if mask.mode in ("I", "F") or mask.mode.startswith("I;16"):
        return np.asarray(mask)
    if (bits := bits_per_channel(mask, data)) > EIGHT_BITS:
        raise ImageError(f"colour mask of {bits} bits per channel; convert it to 8 bits")
    if mask.mode == "L":
        return np.asarray(mask)
    return np.asarray(mask.convert("RGB")).max(axis=2)


def decode(data: bytes) -> Image.Image:
    """Decode a file completely, so that damage anywhere in it is found.

    Args:
        data: Content of the file.

    Returns:
        The loaded image in its own mode.

    Raises:
        ImageError: Empty, truncated, damaged, of an unknown format or larger than
            ``PIL.Image.MAX_IMAGE_PIXELS`` allows.
    """
    if not data:
        raise ImageError("the file is empty")
    try:
        if data.startswith(b"\x89PNG"):
            Image.open(io.BytesIO(data), formats=("PNG",)).verify()  # checksums, which loading alone leaves unread
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"not an image in one of the formats {', '.join(FORMATS)}") from error
    except Exception as error:  # decoders meet hostile bytes: struct.error, SyntaxError, EOFError, MemoryError, ...
        raise ImageError(str(error) or type(error).__name__) from error
    return image


def bits_per_channel(image: Image.Image, data: bytes) -> int:
    """Bits per channel as stored; Pillow cuts 16-bit colour to 8 bits without a word.

    Args:
        image: The decoded image.
        data: The file it was decoded from.

    Returns:
        1 to 8 for images that fit into 8-bit RGB, 16 or 32 for those that do not.
    """
    if image.mode in ("I", "F"):
        return 32
    if image.mode.startswith("I;16"):
        return 16
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH]
    if image.format == "TIFF":
        return max(image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,)))  # type: ignore[attr-defined]  # TIFF images have it
    return EIGHT_BITS


def asks_for_turn(image: Image.Image) -> bool:
    """Whether an orientation tag (EXIF) asks viewers to turn or mirror the image."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT) != _UPRIGHT
    except Exception:  # a damaged tag asks for nothing
        return False


def resize_image(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize to a square with antialiased bilinear interpolation, aspect ratio not kept (protocol 2.1).

    Pillow's filter grows with the reduction, as torchvision's does with ``antialias=True``.

    Args:
        image: Array (H, W, 3), uint8.
        size: Side of the result in pixels.

    Returns:
        Array (size, size, 3), uint8.
    """
    return np.asarray(_resized(Image.fromarray(image), size))


def _resized(image: Image.Image, size: int) -> Image.Image:
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def resize_mask(mask: NDArray[Scalar], size: int) -> NDArray[Scalar]:
    """Resize to a square with nearest neighbour, aspect ratio not kept (protocol 2.1).

    Row ``i`` of the result is row ``floor(i * H / size)`` of the mask, columns alike: the convention of
    torchvision's ``InterpolationMode.NEAREST`` for tensors and of OpenCV's ``INTER_NEAREST``. Pillow and
    ``NEAREST_EXACT`` sample at pixel centres, ``floor((i + 0.5) * H / size)``, which shifts the mask by up to
    half a reduced pixel.

    Args:
        mask: Array (H, W), a mask or numbered regions.
        size: Side of the result in pixels.

    Returns:
        Array (size, size) of the same type.
    """
    height, width = mask.shape
    rows = np.arange(size) * height // size
    columns = np.arange(size) * width // size
    return mask[rows[:, None], columns]
