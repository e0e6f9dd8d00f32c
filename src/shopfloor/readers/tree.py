"""Datasets that are trees of folders: the folder says what an image is, names say which mask belongs to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from shopfloor.readers.category_files import UNKNOWN, CategoryFiles, Expected
from shopfloor.readers.layout_checks import ignored_files, missing_folders
from shopfloor.readers.listing import files_below, list_folder, pair_masks
from shopfloor.readers.types import Sample


@dataclass(frozen=True)
class Place:
    """A folder of images of one kind.

    Attributes:
        folder: Relative to the dataset root.
        split: train, val or test.
        label: good or bad.
        defect_type: The defect's name, ``good`` for good images.
        domain: Recording condition.
        masks: Folder of their masks, if they have any.
    """

    folder: str
    split: str
    label: str
    defect_type: str
    domain: str = ""
    masks: str = ""

    @property
    def kind(self) -> tuple[str, str]:
        """Split and label."""
        return self.split, self.label


@dataclass(frozen=True)
class Tree:
    """The folders of one category; all paths are relative to the dataset root.

    Attributes:
        top: Folder of the category; every file below it must have a place.
        places: Its folders of images; those that do not exist are empty.
        required: Folders that must exist.
        mask_folders: Folders of all its masks; none for a category without pixel labels.
        mask_stems: How the mask of an image is called within the place's folder of masks, best first, e.g.
            ``("{stem}_mask", "{stem}")``; ``{stem}/*`` takes every file of the folder named like the image.
        mask_extension: What masks end with, for messages.
        unused: Folders that belong to the layout and are not read.
        expected: What a complete category holds.
        allows_bad_in_train: Whether bad training images belong to the dataset.
    """

    top: str
    places: Sequence[Place]
    required: Sequence[str]
    mask_folders: Sequence[str] = ()
    mask_stems: Sequence[str] = ()
    mask_extension: str = "png"
    unused: Sequence[str] = ()
    expected: Expected = UNKNOWN
    allows_bad_in_train: bool = False


def places_of_train(root: Path, folder: str) -> list[Place]:
    """``train/good`` of a category; any other folder of ``train`` is one of bad images, which has no business there.

    Args:
        root: Dataset root.
        folder: Folder of the category, relative to the root.

    Returns:
        ``train/good``, whether it exists or not, and the other folders that exist.
    """
    others = [name for name in list_folder(root / folder / "train").folders if name != "good"]
    return [
        Place(f"{folder}/train/good", "train", "good", "good"),
        *(Place(f"{folder}/train/{name}", "train", "bad", name) for name in others),
    ]


def places_of_test(root: Path, folder: str) -> list[Place]:
    """The folders of ``test`` of a category: ``good``, and one per defect type.

    Args:
        root: Dataset root.
        folder: Folder of the category, relative to the root.

    Returns:
        ``test/good``, whether it exists or not, and the other folders that exist, each with the folder of the same name
        below ``ground_truth`` for its masks.
    """
    defects = [name for name in list_folder(root / folder / "test").folders if name != "good"]
    masks = f"{folder}/ground_truth"
    return [
        Place(f"{folder}/test/good", "test", "good", "good", masks=f"{masks}/good"),
        *(Place(f"{folder}/test/{name}", "test", "bad", name, masks=f"{masks}/{name}") for name in defects),
    ]


def unpaired_folders(root: Path, folder: str) -> list[str]:
    """Folders of defects that only one of ``test`` and ``ground_truth`` has, as the paths that are missing."""
    tested, masked = (set(list_folder(root / folder / part).folders) - {"good"} for part in ("test", "ground_truth"))
    return [
        *sorted(f"{folder}/ground_truth/{name}" for name in tested - masked),
        *sorted(f"{folder}/test/{name}" for name in masked - tested),
    ]


def list_tree(root: Path, dataset: str, category: str, tree: Tree) -> CategoryFiles:
    """List a category whose folders say what is in them.

    Args:
        root: Dataset root.
        dataset: Name of the dataset.
        category: Name of the category.
        tree: Its folders.

    Returns:
        The category, with findings on missing folders and on files without a place.
    """
    samples: list[Sample] = []
    ignored: list[str] = []
    masks_at: dict[str, list[tuple[str, str]]] = {}
    for place in tree.places:
        content = list_folder(root / place.folder)
        ignored += [f"{place.folder}/{name}" for name in (*content.folders, *content.unknown)]
        for image in content.images:
            path = f"{place.folder}/{image}"
            samples.append(Sample(*place.kind, place.defect_type, path, domain=place.domain))
            masks_at[path] = (
                _mask_places(place.masks, PurePosixPath(image).stem, tree.mask_stems) if place.masks else []
            )
    known = [*(place.folder for place in tree.places), *tree.mask_folders, *tree.unused]
    ignored += _without_place(root, tree.top, known)
    below = [files_below(root, root / folder) for folder in tree.mask_folders]
    pairing = pair_masks(list(masks_at), [mask for masks, _ in below for mask in masks], masks_at)
    return CategoryFiles(
        root,
        dataset,
        category,
        [replace(sample, masks=pairing.masks.get(sample.image, ())) for sample in samples],
        has_pixel_labels=bool(tree.mask_folders),
        folders={
            ("test", "bad"): f"{tree.top}/test/<defect>",
            **{place.kind: place.folder for place in reversed(tree.places)},
        },
        orphan_masks=pairing.orphans,
        ambiguous_masks=pairing.ambiguous,
        expected_mask=lambda image: "{}/{}.{}".format(*masks_at[image][0], tree.mask_extension),
        allows_bad_in_train=tree.allows_bad_in_train,
        expected=tree.expected,
        findings=(
            *missing_folders(dataset, category, root, tree.required, "every experiment"),
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
