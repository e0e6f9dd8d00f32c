"""Image files as anomalib's own data module reads them, which trains on the good ones only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from PIL import Image


def folder_of(root: Path, good: np.ndarray, bad: np.ndarray, size: tuple[int, int] | None = None) -> Folder:
    """Writes images (N, S, S, 3), uint8, as files below a folder.

    Args:
        root: The folder.
        good: Good images; anomalib takes a fifth of them for testing.
        bad: Bad images, all for testing.
        size: Width and height of the files; None keeps that of the images.

    Returns:
        A data module of batches of four.
    """
    for name, stack in (("good", good), ("bad", bad)):
        (root / name).mkdir(parents=True)
        for number, image in enumerate(stack):
            file = Image.fromarray(image)
            (file if size is None else file.resize(size)).save(root / name / f"{number:03}.png")
    return Folder("parts", "good", root, "bad", train_batch_size=4, eval_batch_size=4, num_workers=0, seed=0)


def white_ones_are_found(detector: AnomalibModule, stack: np.ndarray, folder: Path) -> bool:
    """Trains by anomalib's Engine, with validation, on ten images of a stack, and tests on others and white ones.

    Args:
        detector: With post-processor and evaluator, two epochs are enough for it.
        stack: Images (N, S, S, 3), uint8, more than ten.
        folder: Where the files may lie.

    Returns:
        Whether the post-processor has its bounds, and every white image scores higher than every other.
    """
    data = folder_of(folder / "parts", stack[:10], np.full_like(stack[10:], 255), size=(96, 80))
    quiet: dict[str, Any] = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False}
    engine = Engine(default_root_dir=folder, max_epochs=2, **quiet)
    engine.fit(detector, datamodule=data)  # validates after each epoch
    post_processor: Any = detector.post_processor
    (metrics,) = engine.test(detector, datamodule=data)
    return bool(post_processor.image_min.isfinite()) and metrics["image_AUROC"] == 1.0
