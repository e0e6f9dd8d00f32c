"""Files of weights, read as plain tensors; of any other file it is said what it is and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from timm.models import load_state_dict

_HEAD = 1024  # bytes that are looked at
_POINTER = (
    "a pointer of Git LFS, which stands for the file until that is fetched. Run `git lfs pull` in its repository, or "
    "download the file itself"
)
_WEB_PAGE = (
    "a web page: the download brought a page, mostly an error or a login, in the place of the file. Get it again from "
    "the link of the file itself"
)
_BEGINNINGS = {
    b"version https://git-lfs": _POINTER,
    **dict.fromkeys((b"<!doctype html", b"<html", b"<head", b"<?xml"), _WEB_PAGE),
}


class NoWeightsError(Exception):
    """A file holds no usable weights; the text says what it is and what to do, and goes on from the file's name."""


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from a ``.pth`` or ``.safetensors`` file; no code of the file is run.

    Args:
        path: A file that exists. A state dict below ``state_dict`` or ``model`` is found too.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        NoWeightsError: The file is none of weights, is damaged, holds more than tensors, or values that are not finite.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD).lstrip().lower()
    if not head:
        raise NoWeightsError("is empty. Get it again.")
    if found := next((what for start, what in _BEGINNINGS.items() if head.startswith(start)), None):
        raise NoWeightsError(f"is {found}.")
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # torch and safetensors raise errors of many types
        raise NoWeightsError(_unreadable(path, error)) from None
    if not isinstance(weights, Mapping) or not all(isinstance(each, torch.Tensor) for each in weights.values()):
        raise NoWeightsError(
            "is no state dict, tensors by their names. Save it again with torch.save(network.state_dict(), ...)."
        )
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise NoWeightsError(
            f"holds values that are not finite (NaN or infinite) in {len(broken)} of {len(weights)} tensors, the "
            f"first: {broken[0]}. A training that went astray leaves such weights, or half precision that overflowed; "
            "take others."
        )
    return dict(weights)


def _unreadable(path: Path, error: Exception) -> str:
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # errors of many types: no file of torch's, or a damaged one
        foreign = []
    if foreign:
        return (
            f"is not a file of plain weights: it also holds {', '.join(sorted(foreign))}, and reading that could run "
            "code. Where you trust it, read it yourself and save its tensors alone: "
            "torch.save(network.state_dict(), ...)."
        )
    said = str(error).strip().partition("\n")[0]
    reason = "" if "weights_only" in said or not said else f" ({said})"  # not torch's advice to read it unsafely
    return (
        f"is not a file of plain weights that can be read: it is damaged, cut short ({path.stat().st_size:,} bytes) or "
        f"of another kind{reason}. Get it again; .pth (PyTorch) and .safetensors are read."
    )
