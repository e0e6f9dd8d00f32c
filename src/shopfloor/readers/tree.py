"""Datasets that are trees of folders: the folder says what an image is, names say which mask belongs to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from shopfloor.readers.category_files import UNKNOWN, CategoryFiles, Expected
from shopfloor.readers.layout_checks import ignored_files, missing_folders
from shopfloor.readers.listing import files_below, list_folder, pair_masks
from shopfloor.readers.types import Sample


@dataclass(frozen=True)
class Place:
    """A folder of images of one kind; paths are relative to the category's folder.

    Attributes:
        folder: The folder.
        split: train, val or test.
        label: good or bad.
        defect_type: The defect's name; like the label if not said.
        domain: Recording condition.
        masks: Folder of their masks, if they have any.
    """

    folder: str
    split: str
    label: str
    defect_type: str = ""
    domain: str = ""
    masks: str = ""


@dataclass(frozen=True)
class Tree:
    """The folders of a category; all paths are relative to the category's folder.

    Attributes:
        places: Its folders of images; those that do not exist are empty. Every file of the category must have a place.
        required: Folders that must exist.
        mask_folders: Folders of all its masks; none for a category without pixel labels.
        mask_stems: How the mask of an image is called within the place's folder of masks, best first, e.g.
            ``("{stem}_mask", "{stem}")``; ``{stem}/*`` takes every file of the folder named like the image.
        mask_extension: What masks end with, for messages.
        unused: Folders that belong to the layout and are not read.
        expected: What complete categories hold, by name.
        allows_bad_in_train: Whether bad training images belong to the dataset.
    """

    places: Sequence[Place]
    required: Sequence[str]
    mask_folders: Sequence[str] = ()
    mask_stems: Sequence[str] = ("{stem}",)
    mask_extension: str = "png"
    unused: Sequence[str] = ()
    expected: Mapping[str, Expected] = field(default_factory=dict)
    allows_bad_in_train: bool = False


def places_of_train(folder: Path) -> list[Place]:
    """``train/good`` of a category, and the other folders of ``train``: bad images, which have no business there."""
    others = [name for name in list_folder(folder / "train").folders if name != "good"]
    return [Place("train/good", "train", "good"), *(Place(f"train/{name}", "train", "bad", name) for name in others)]


def places_of_test(folder: Path) -> list[Place]:
    """``test/good`` of a category, and its folders of defects; masks have the same folders below ``ground_truth``."""
    defects = [name for name in list_folder(folder / "test").folders if name != "good"]
    return [
        Place("test/good", "test", "good", masks="ground_truth/good"),
        *(Place(f"test/{name}", "test", "bad", name, masks=f"ground_truth/{name}") for name in defects),
    ]


def unpaired_folders(folder: Path) -> list[str]:
    """Folders of defects that only one of ``test`` and ``ground_truth`` has, as the paths that are missing."""
    tested, masked = (set(list_folder(folder / part).folders) - {"good"} for part in ("test", "ground_truth"))
    return [
        *sorted(f"ground_truth/{name}" for name in tested - masked),
        *sorted(f"test/{name}" for name in masked - tested),
    ]


def list_tree(root: Path, dataset: str, category: str, folder: str, tree: Tree) -> CategoryFiles:
    """List a category whose folders say what is in them.

    Args:
        root, dataset, category, folder: As a reader's ``list_files`` gets them.
        tree: Its folders.

    Returns:
        The category, with findings on missing folders and on files without a place.
    """

    def at(*path: str) -> str:
        return PurePosixPath(folder, *path).as_posix()

    samples: list[Sample] = []
    ignored: list[str] = []
    masks_at: dict[str, list[tuple[str, str]]] = {}
    for place in tree.places:
        content = list_folder(root / at(place.folder))
        ignored += [at(place.folder, name) for name in (*content.folders, *content.unknown)]
        for image in content.images:
            path = at(place.folder, image)
            defect = place.defect_type or place.label
            samples.append(Sample(place.split, place.label, defect, path, domain=place.domain))
            stem = PurePosixPath(image).stem
            masks_at[path] = _mask_places(at(place.masks), stem, tree.mask_stems) if place.masks else []
    known = [*(place.folder for place in tree.places), *tree.mask_folders, *tree.unused]
    ignored += _without_place(root, folder, map(at, known))
    below = [files_below(root, root / at(masks)) for masks in tree.mask_folders]
    pairing = pair_masks(list(masks_at), [mask for masks, _ in below for mask in masks], masks_at)
    return CategoryFiles(
        root,
        dataset,
        category,
        [replace(sample, masks=pairing.masks.get(sample.image, ())) for sample in samples],
        has_pixel_labels=bool(tree.mask_folders),
        folders={
            ("test", "bad"): at("test/<defect>"),
            **{(place.split, place.label): at(place.folder) for place in reversed(tree.places)},
        },
        orphan_masks=pairing.orphans,
        ambiguous_masks=pairing.ambiguous,
        expected_mask=lambda image: "{}/{}.{}".format(*masks_at[image][0], tree.mask_extension),
        allows_bad_in_train=tree.allows_bad_in_train,
        expected=tree.expected.get(category, UNKNOWN),
        findings=(
            *missing_folders(dataset, category, root, map(at, tree.required), "every experiment"),
            *ignored_files(dataset, category, [*ignored, *(name for _, others in below for name in others)]),
        ),
    )


def _mask_places(folder: str, stem: str, mask_stems: Sequence[str]) -> list[tuple[str, str]]:
    """Where the mask of an image may lie, best first, as (folder, stem)."""
    return [
        (f"{folder}/{stem}", "*") if pattern == "{stem}/*" else (folder, pattern.format(stem=stem))
        for pattern in mask_stems
    ]


def _without_place(root: Path, top: str, known: Iterable[str]) -> list[str]:
    """What lies on the way from the category's folder down to the known folders and is none of them."""
    ends = {PurePosixPath(path) for path in known}
    on_the_way = {PurePosixPath(top), *(parent for path in ends for parent in path.parents)}
    ignored = []
    for folder in sorted(folder for folder in on_the_way - ends if folder.is_relative_to(top)):
        content = list_folder(root / folder)
        strangers = [name for name in content.folders if folder / name not in ends | on_the_way]
        ignored += [(folder / name).as_posix() for name in (*content.images, *content.unknown, *strangers)]
    return ignored
