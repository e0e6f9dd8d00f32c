"""Say what readers tell of a file: the image as it is listed, and the facts of a file that was read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One image as a reader lists it, before anything is decoded; paths are relative to the dataset root."""

    split: str
    label: str
    defect_type: str
    image: str
    masks: tuple[str, ...] = ()
    domain: str = ""


@dataclass(frozen=True)
class FileFacts:
    """Facts about one image or mask file.

    Attributes:
        file_size: Bytes.
        sha256: Digest of the content.
        width: Pixels, 0 where the file cannot be decoded.
        height: Pixels, 0 where the file cannot be decoded.
        format: Format by content, e.g. ``JPEG``.
        mode: Pillow's mode, e.g. ``L`` or ``RGB``.
        bits: Bits per channel as stored.
        oriented: Whether an EXIF tag asks for the image to be turned.
        values: Different values of a mask, at most the 64 smallest; empty for an image.
        problem: Why the file cannot be read, empty where it can.
    """

    file_size: int = 0
    sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    bits: int = 0
    oriented: bool = False
    values: tuple[float, ...] = ()
    problem: str = ""
