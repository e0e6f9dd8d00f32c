"""Reads Real-IAD, camera C1 from above: 30 categories, of which the benchmark uses 8 (dataset specification 4.8).

Tree::

    Real-IAD/realiad_1024/<category>/OK/S0001/<category>_0001_OK_C1_<time>.jpg      or <category>/ below the root
            /                       /NG/<code>/S0001/..._NG_<code>_C1_<time>.jpg, mask .png
            /realiad_jsons/realiad_jsons_sv/<category>.json                         or realiad_jsons_sv/ below the root

What is in which split comes from the single-view lists only; paths in them are relative to the category's folder. The
lists of five cameras and those with contaminated training sets (``fuiad``) are not read. (Wang et al. 2024, Real-IAD: A
Real-World Multi-View Dataset for Benchmarking Versatile Industrial Anomaly Detection. Counts per category are those of
the lists.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from shopfloor.readers.category_files import CategoryFiles, Expected
from shopfloor.readers.findings import DatasetError, Finding
from shopfloor.readers.layout_checks import (
    ignored_files,
    missing_files,
    missing_folders,
    split_file_invalid,
    unlisted_files,
)
from shopfloor.readers.listing import files_below
from shopfloor.readers.split_file import SplitFileError, path_inside, read_object
from shopfloor.readers.types import Sample

LAYOUT = "realiad_jsons/realiad_jsons_sv/<category>.json and realiad_1024/<category>"
CAMERA = "_C1_"
NORMAL = "OK"
EXPECTED: Mapping[str, Expected] = {}
_LISTS = ("realiad_jsons/realiad_jsons_sv", "realiad_jsons_sv")
_ENTRY_KEYS = {"category", "anomaly_class", "image_path", "mask_path"}
_LIST_FORM = "meta, train and test with entries of category, anomaly_class, image_path, mask_path"


def categories(root: Path) -> dict[str, str]:
    """The single-view list of each category."""
    return {
        path.stem: f"{folder}/{path.name}" for folder in reversed(_LISTS) for path in (root / folder).glob("*.json")
    }


def list_files(root: Path, dataset: str, category: str, folder: str, *, resolution: int = 1024) -> CategoryFiles:
    """List one category.

    Args:
        resolution: Which release of the images to read (protocol 5, no. 27): 1024, 512 or 256.

    Raises:
        DatasetError: ``SPLITFILE_INVALID``: the list cannot be read at all; ``FOLDER_MISSING``: no images.
    """
    try:
        content = read_object(root / folder)
        entries = [(split, number, entry) for split in ("train", "test") for number, entry in _entries(content, split)]
        if content["meta"]["normal_class"] != NORMAL:
            raise SplitFileError(1, f"meta.normal_class is {content['meta']['normal_class']!r} and not {NORMAL!r}")
    except (SplitFileError, KeyError, TypeError) as error:
        problem = (
            (error.line, error.reason) if isinstance(error, SplitFileError) else (1, "meta.normal_class is missing")
        )
        raise DatasetError(*split_file_invalid(dataset, category, folder, [problem], _LIST_FORM)) from error

    places = (f"realiad_{resolution}/{category}", category)
    images = next((place for place in places if (root / place).is_dir()), places[0])
    if absent := missing_folders(dataset, category, root, [images], "every experiment"):
        raise DatasetError(*absent)
    samples: dict[str, Sample] = {}
    named: dict[str, int] = {}
    problems: list[tuple[int, str]] = []
    for split, number, entry in entries:
        try:
            sample = _sample(root, root / images, split, entry, category)
            if sample.image in samples:
                first = f"{samples[sample.image].split} entry {named[sample.image]}"
                raise ValueError(f"{sample.image} occurs a second time, first as {first}")
        except ValueError as error:
            problems.append((number, f"in {split}: {error}"))
            continue
        samples[sample.image] = sample
        named |= dict.fromkeys((sample.image, *sample.masks), number)

    missing = missing_files(dataset, category, root, named, folder, "entry")
    lost = {path for finding in missing for path in finding.paths}
    on_disk, others = files_below(root, root / images)
    on_disk = [path for path in on_disk if CAMERA in PurePosixPath(path).name]
    return CategoryFiles(
        root,
        dataset,
        category,
        [sample for sample in samples.values() if lost.isdisjoint((sample.image, *sample.masks))],
        has_pixel_labels=True,
        expected_mask=lambda image: f"a path in mask_path, {folder} test entry {named[image]}",
        findings=(
            *split_file_invalid(dataset, category, folder, problems, _LIST_FORM, "entry"),
            *missing,
            *unlisted_files(dataset, category, on_disk, named, folder),
            *ignored_files(dataset, category, others),
            *_view_mixed(dataset, category, list(samples)),
        ),
    )


def _entries(content: dict[str, Any], split: str) -> list[tuple[int, Any]]:
    entries = content.get(split)
    if not isinstance(entries, list):
        raise SplitFileError(1, f"key {split} is missing or no list")
    return list(enumerate(entries, start=1))


def _sample(root: Path, folder: Path, split: str, entry: Any, category: str) -> Sample:
    """The sample of one entry; raises ValueError with the reason."""
    if not isinstance(entry, dict) or set(entry) != _ENTRY_KEYS:
        raise ValueError(f"keys {', '.join(map(str, entry)) if isinstance(entry, dict) else repr(entry)[:40]}")
    image, mask, kind = entry["image_path"], entry["mask_path"], entry["anomaly_class"]
    if not isinstance(image, str) or not isinstance(kind, str) or not kind or not isinstance(mask, str | None):
        raise ValueError("image_path and anomaly_class must be texts, mask_path a text or null")
    if entry["category"] != category:
        raise ValueError(f"category {entry['category']!r} is not {category}")
    is_good = kind == NORMAL
    masks = () if mask is None else (path_inside(root, folder, mask),)
    return Sample(
        split, "good" if is_good else "bad", "good" if is_good else kind, path_inside(root, folder, image), masks
    )


def _view_mixed(dataset: str, category: str, images: list[str]) -> list[Finding]:
    """Files of another camera than C1."""
    other = tuple(image for image in images if CAMERA not in PurePosixPath(image).name)
    if not other:
        return []
    what = f"{len(other)} images are not of camera C1"
    action = "Use the single-view lists (realiad_jsons_sv)"
    return [Finding("VIEW_MIXED", dataset, category, what, f"first: {other[0]}", action, other)]
