"""What training and prediction share when they run: the Trainer, the device, the size of the images."""

from __future__ import annotations

import gc
import logging
import os
from typing import Any

import lightning.pytorch as pl
import torch

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.building import DetectorError

# Set here because Lightning raises its own level to INFO when it is imported: which devices it found, what it sells.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def quiet_trainer(**arguments: Any) -> pl.Trainer:
    """A Lightning Trainer on one device that writes no file, runs no validation loop, shows only its progress bar.

    Args:
        **arguments: Trainer arguments; they win over the defaults.
    """
    defaults: dict[str, Any] = {
        "accelerator": "cuda" if torch.cuda.is_available() else "cpu",
        "devices": 1,
        # tqdm's own variable, which Lightning overrules: on a worker of a cluster bars would write over each other.
        "enable_progress_bar": os.environ.get("TQDM_DISABLE") != "1",
        "deterministic": "warn",  # "True" fails on a GPU for operations that have no deterministic form
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(**{**defaults, **arguments})


def device_name(device: torch.device) -> str:
    """Name of a GPU, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def synchronize(device: torch.device) -> None:
    """Waits until a GPU has done all that was asked of it, so that times are its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_memory() -> None:
    """Gives back what a finished training held; a Trainer and its module refer to each other and would stay a while."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def check_image_size(part: ImagePart, image_size: int) -> None:
    """Refuses images that are not square and of the given side, in pixels.

    Raises:
        DetectorError: If they are not.
    """
    height, width = part.stack.shape[1:3]
    if (height, width) != (image_size, image_size):
        raise DetectorError(
            f"The images are {height} x {width} pixels, the detector is for {image_size} x {image_size}. "
            "Take the stack of images that was prepared for this size."
        )
