"""Reads VAD (Valeo Anomaly Dataset), one category ``vad``, in any of its three releases (dataset specification 4.7).

Tree::

    vad/train/good/*.png                             release a, b, c
       /train/bad/*.png                              a: bad images for supervised training
       /test/good/*.png, /test/bad/*.png             a, b, c
       /test/bad_unseen_defects/*.png                a, b, c: rare defects that training does not have
       /low_shot_train.json                          a: {"<number>": ["<file in train/bad>", ...], ...}
       /ground_truth/bad, /ground_truth/bad_unseen_defects      c

Masks are left aside unless asked for, since the paper had none (protocol 5, no. 30). (Baitieva et al. 2024, Supervised
Anomaly Detection for Complex Industrial Images; repository abc-125/vad.)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shopfloor.readers.category_files import CategoryFiles, Expected
from shopfloor.readers.findings import Finding
from shopfloor.readers.layout_checks import missing_files, missing_folders, split_file_invalid
from shopfloor.readers.split_file import SplitFileError, path_inside, read_object
from shopfloor.readers.tree import Place, Tree, list_tree

LAYOUT = "train/good, test/good, test/bad, test/bad_unseen_defects"
CATEGORY = "vad"
LOW_SHOT = "low_shot_train.json"
TRAIN_BAD = "train/bad"
BAD = ("bad", "bad_unseen_defects")

_TEST = Expected(
    train_good=2000, train_bad=0, test_good=1000, test_bad=1000, defects={"bad": 835, "bad_unseen_defects": 165}
)
EXPECTED = {CATEGORY: _TEST}


def categories(root: Path) -> dict[str, str]:
    """The one category, where ``train/good`` and ``test/bad`` lie directly below the root."""
    return {CATEGORY: "."} if (root / "train/good").is_dir() or (root / "test" / BAD[1]).is_dir() else {}


def release(root: Path) -> str:
    """``a`` (with bad training images), ``c`` (with masks) or ``b`` (with neither)."""
    if (root / TRAIN_BAD).is_dir():
        return "a"
    return "c" if (root / "ground_truth").is_dir() else "b"


def list_files(
    root: Path,
    dataset: str,
    category: str,
    folder: str,
    *,
    pixel_labels: bool = False,
    needed_by: str | None = None,
    low_shot: str | None = None,
) -> CategoryFiles:
    """List the category.

    Args:
        pixel_labels: Whether to use the masks of release c.
        needed_by: Experiment that needs the bad training images of release a.
        low_shot: Key of ``low_shot_train.json``: of the bad training images those that it names.
    """
    found = release(root)
    with_masks = pixel_labels and (root / "ground_truth").is_dir()
    masks = {name: f"ground_truth/{name}" if with_masks else "" for name in ("good", *BAD)}
    tree = Tree(
        places=[
            Place("train/good", "train", "good"),
            Place(TRAIN_BAD, "train", "bad"),
            Place("test/good", "test", "good", masks=masks["good"]),
            *(Place(f"test/{name}", "test", "bad", name, masks=masks[name]) for name in BAD),
        ],
        required=["train/good", "test/good", *(f"test/{name}" for name in BAD)],
        mask_folders=["ground_truth"] if with_masks else [],
        mask_stems=("{stem}", "{stem}_mask"),
        unused=["ground_truth"],
        expected={CATEGORY: replace(_TEST, train_bad=1000 if found == "a" and low_shot is None else None)},
        allows_bad_in_train=True,
    )
    listed = list_tree(root, dataset, category, folder, tree)
    needed = [(TRAIN_BAD, f"experiment {needed_by}")] if needed_by else []
    needed += [(f"ground_truth/{name}", "option pixel_labels") for name in BAD if pixel_labels]
    for path, user in needed:
        listed = _with(listed, missing_folders(dataset, category, root, [path], f"this is release {found}, {user}"))
    return listed if low_shot is None else _only_low_shot(listed, str(low_shot))


def _with(files: CategoryFiles, findings: list[Finding]) -> CategoryFiles:
    return replace(files, findings=(*files.findings, *findings))


def _only_low_shot(files: CategoryFiles, key: str) -> CategoryFiles:
    """Keep the bad training images that the list of one key names."""
    place = (files.dataset, files.category, files.root)
    expected = 'an object {"<number>": ["<file in train/bad>", ...]}'
    try:
        lists = read_object(files.root / LOW_SHOT)
        names = lists.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise SplitFileError(1, f"key {key!r} is no list of files; keys: {', '.join(lists) or 'none'}")
        if len(set(names)) < len(names):
            raise SplitFileError(1, f"key {key!r} names a file twice")
        paths = [path_inside(files.root, files.root / TRAIN_BAD, name) for name in names]
    except ValueError as error:
        problem = (error.line, error.reason) if isinstance(error, SplitFileError) else (1, str(error))
        return _with(files, split_file_invalid(*place[:2], LOW_SHOT, [problem], expected))
    listed = dict(zip(paths, range(1, len(paths) + 1), strict=True))
    kept = [s for s in files.samples if (s.split, s.label) != ("train", "bad") or s.image in listed]
    return _with(replace(files, samples=kept), missing_files(*place, listed, LOW_SHOT, "entry"))
