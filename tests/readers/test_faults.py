"""Every fault is planted into every miniature that can have it; code, path and text of the finding are asserted.

What comes along with the asked-for finding is bounded too: a fault must not be reported under a wrong name beside the
right one.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shopfloor.readers import DatasetError, list_categories, read_index
from shopfloor.readers.findings import Finding
from tests.readers.miniatures import (
    HEIGHT,
    MINIATURES,
    TEST_BAD,
    TEST_GOOD,
    TRAIN_GOOD,
    WIDTH,
    Miniature,
    Place,
    Tree,
    add_entry,
    append_line,
    drop_entries,
    real_iad_entry,
    real_iad_path,
)

EVERY = pytest.mark.parametrize("miniature", MINIATURES.values(), ids=MINIATURES)
PAGE = "the page of the project"
OF_A_MINIATURE = {"COUNT_MISMATCH", "IMAGE_SIZE"}


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Roots of all sound miniatures, not to be changed."""
    return {name: miniature.write(tmp_path_factory.mktemp(name)) for name, miniature in MINIATURES.items()}


@pytest.fixture
def root(miniature: Miniature, sound: dict[str, Path], tmp_path: Path) -> Iterator[Path]:
    """Root of a copy of the miniature, the only thing in its folder; links stand for the other categories."""
    source, copy = sound[miniature.name], tmp_path / "data" / miniature.top
    category = source / (miniature.category_folder or "none/none")
    beside = [path for path in category.parent.glob("*") if path.is_dir() and path != category]
    others = [path for path in beside if not any(name in path.name for name in ("split_csv", "realiad"))]
    shutil.copytree(source, copy, ignore=lambda folder, names: [n for n in names if Path(folder, n) in others])
    for other in others:
        (copy / other.relative_to(source)).symlink_to(other)
    yield copy
    shutil.rmtree(tmp_path)


def findings_of(miniature: Miniature, root: Path, category: str | None = None, **options: Any) -> list[Finding]:
    """Errors, or the warnings where there is no error; anything else that is raised fails the test."""
    options = {**miniature.options, **options}
    category = miniature.category if category is None else category
    try:
        return read_index(miniature.reader, root, miniature.reader, category, options, project_page=PAGE)[1]
    except DatasetError as error:
        return list(error.findings)


@dataclass(frozen=True)
class Expected:
    """The finding that a fault must give.

    Attributes:
        code: Its code, or several of which any will do, joined by ``|``.
        path: One of its paths; empty where it names none.
        texts: Parts of its text.
        level: Its level; empty where both will do.
        also: Codes that may come along.
    """

    code: str
    path: str = ""
    texts: tuple[str, ...] = ()
    level: str = "error"
    also: tuple[str, ...] = ()


def assert_found(findings: list[Finding], expected: Expected, miniature: Miniature) -> None:
    shown = "\n".join(finding.text for finding in findings)
    codes = expected.code.split("|")
    found = [f for f in findings if f.code in codes and (not expected.path or expected.path in f.paths)]
    assert found, f"no {expected.code} with {expected.path!r} in:\n{shown}"
    text = found[0].text
    assert not expected.level or found[0].level == expected.level
    place = f"{miniature.reader}/{miniature.category}" if found[0].category else miniature.reader
    assert text.startswith(f"[{found[0].code}] {place}: ")
    for part in expected.texts:
        assert part in text
    known = OF_A_MINIATURE | ({"MASK_EMPTY"} if miniature.name == "btad_03" else set())
    assert {finding.code for finding in findings} <= known | set(codes) | set(expected.also), shown


# --- the root


def raised(miniature: Miniature, root: Path) -> list[DatasetError]:
    """What reading and listing the categories raise."""
    name = miniature.reader
    with pytest.raises(DatasetError) as on_reading:
        read_index(name, root, name, miniature.category, miniature.options, project_page=PAGE)
    with pytest.raises(DatasetError) as on_listing:
        list_categories(name, root, miniature.options, dataset=name, project_page=PAGE)
    return [on_reading.value, on_listing.value]


@EVERY
def test_missing_root(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / miniature.top
    for error in raised(miniature, root):
        assert error.message.startswith(f"[ROOT_MISSING] {miniature.reader}: folder {root} does not exist. Download ")
        assert PAGE in error.message
        assert "set the path in the configuration" in error.message


@EVERY
def test_root_that_is_a_file(miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / miniature.top
    root.touch()
    for error in raised(miniature, root):
        assert error.message.startswith(f"[ROOT_MISSING] {miniature.reader}: {root} is not a folder")


@EVERY
def test_root_one_level_too_high(miniature: Miniature, root: Path) -> None:
    for error in raised(miniature, root.parent):
        assert error.code == "LAYOUT_UNKNOWN"
        assert f"{root.parent} does not look like {miniature.reader}" in error.message
        assert f"found {miniature.top}" in error.message
        assert f"{root} looks right: use that path" in error.message


@EVERY
def test_root_one_level_too_low(miniature: Miniature, root: Path) -> None:
    for error in raised(miniature, root / miniature.too_low):
        assert error.code == "LAYOUT_UNKNOWN"
        assert f"{root} looks right: use that path" in error.message


@EVERY
def test_root_of_something_else(miniature: Miniature, tmp_path: Path) -> None:
    Tree(tmp_path / "holiday").image("beach/001.png")
    for error in raised(miniature, tmp_path / "holiday"):
        assert error.code == "LAYOUT_UNKNOWN"
        assert "xpected" in error.message
        assert "found beach" in error.message
        assert "looks right" not in error.message


@EVERY
def test_empty_root(miniature: Miniature, tmp_path: Path) -> None:
    for error in raised(miniature, tmp_path):
        assert error.code == "LAYOUT_UNKNOWN"
        assert "looks right" not in error.message


# --- the category and its folders


@EVERY
@pytest.mark.parametrize("category", ["no_such_part", "", ".", "..", "a/b", "a\0b"])
def test_unknown_category(miniature: Miniature, category: str, sound: dict[str, Path]) -> None:
    findings = findings_of(miniature, sound[miniature.name], category)
    assert [finding.code for finding in findings] == ["CATEGORY_MISSING"]
    assert "vailable: " in findings[0].text
    assert all(name in findings[0].text for name in miniature.categories)


@pytest.mark.parametrize("miniature", [m for m in MINIATURES.values() if m.category_folder], ids=lambda m: m.name)
def test_missing_category_folder(miniature: Miniature, root: Path) -> None:
    assert miniature.category_folder
    shutil.rmtree(root / miniature.category_folder)
    findings = findings_of(miniature, root)
    if miniature.split_file:  # the list still names the category: its folder or its files are missing
        assert {finding.code for finding in findings} <= {"CATEGORY_MISSING", "FOLDER_MISSING", "FILE_MISSING"}
    else:
        assert [finding.code for finding in findings] == ["CATEGORY_MISSING"]
        assert f"category {miniature.category} not found" in findings[0].text
    assert miniature.category in findings[0].text


REQUIRED = [pytest.param(m, f, id=f"{m.name}-{f}") for m in MINIATURES.values() for f in m.required]


@pytest.mark.parametrize("replaced", [False, True], ids=["gone", "a file"])
@pytest.mark.parametrize(("miniature", "folder"), REQUIRED)
def test_missing_folder(miniature: Miniature, folder: str, replaced: bool, root: Path) -> None:
    shutil.rmtree(root / folder)
    if replaced:
        (root / folder).touch()
    findings = findings_of(miniature, root)
    also = ("SPLIT_EMPTY", "MASK_ORPHAN", "MASK_MISSING", "FILE_MISSING", "DOMAIN_MISSING")
    assert_found(findings, Expected("FOLDER_MISSING", also=also), miniature)
    missing = [finding for finding in findings if finding.code == "FOLDER_MISSING"]
    assert all(finding.paths[0].startswith(folder) for finding in missing)  # or the folders in it
    assert all(f"required folder {finding.paths[0]} is missing; " in finding.text for finding in missing)
    assert all("needs it" in finding.text for finding in missing)
    assert not any("no row" in finding.text for finding in findings), "a tree has folders, no rows"


EMPTIED = [
    pytest.param(m, place, id=f"{m.name}-{' '.join(place)}")
    for m in MINIATURES.values()
    for place in (TRAIN_GOOD, TEST_GOOD, TEST_BAD)
    if place in m.folders or m.split_file
]


@pytest.mark.parametrize(("miniature", "place"), EMPTIED)
def test_empty_part(miniature: Miniature, place: Place, root: Path) -> None:
    texts: tuple[str, ...] = (f"no {place[1]} image in {place[0]}",)
    if miniature.split_file:
        drop_entries(miniature, root, place)
    else:
        for folder in miniature.folders[place]:
            for image in [path for path in (root / folder).iterdir() if path.is_file()]:
                image.rename(image.with_suffix(".gif"))
        texts += ("accepted extensions bmp, jpg, jpeg, png", "ignored")
    also = ("MASK_ORPHAN", "FILE_UNLISTED", "FILE_IGNORED", "DOMAIN_MISSING", "FILE_MISSING")
    assert_found(findings_of(miniature, root), Expected("SPLIT_EMPTY", "", texts, also=also), miniature)


# --- one file or one name


Plant = Callable[[Miniature, Path], Expected]
Applies = Callable[[Miniature], bool]
FAULTS: dict[str, tuple[Plant, Applies]] = {}


def fault(applies: Applies = lambda _: True) -> Callable[[Plant], Plant]:
    """Enters a function that plants a fault and says what must be found."""

    def enter(plant: Plant) -> Plant:
        FAULTS[plant.__name__] = (plant, applies)
        return plant

    return enter


def is_tree(miniature: Miniature) -> bool:
    return miniature.split_file is None


def is_listed(miniature: Miniature) -> bool:
    return not is_tree(miniature)


def has_masks(miniature: Miniature) -> bool:
    return miniature.mask is not None


def is_first_of_reader(miniature: Miniature) -> bool:
    """For what no two variants of a dataset can treat differently."""
    return miniature is next(m for m in MINIATURES.values() if m.reader == miniature.reader)


def mask_of(miniature: Miniature) -> str:
    assert miniature.mask
    return miniature.mask


def beside(path: str, name: str) -> str:
    return (PurePosixPath(path).parent / name).as_posix()


def new_image(miniature: Miniature, suffix: str | None = None) -> str:
    """Name for one more image beside the good training images."""
    image = PurePosixPath(miniature.train_good[0])
    stem = "000999_C1_" if miniature.reader == "real_iad" else "000999"
    return image.with_name(stem + (suffix or image.suffix)).as_posix()


def noise(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def encoded(image: Image.Image, kind: str) -> bytes:
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


def flipped(data: bytes) -> bytes:
    damaged = bytearray(data)
    damaged[len(damaged) // 2] ^= 1
    return bytes(damaged)


DAMAGED = {
    "zero_bytes": (b"", "the file is empty"),
    "corrupt_jpeg": (b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4, ""),
    "truncated_jpeg": (encoded(noise(1), "JPEG")[:-300], "truncated"),
    "truncated_bmp": (encoded(noise(2), "BMP")[:2000], "truncated"),
    "flipped_png": (flipped(encoded(noise(3), "PNG")), ""),
    "cut_png": (encoded(noise(4), "PNG")[:20], ""),
    "text": (b"version https://git-lfs.github.com/spec/v1", "not an image"),
}


def _damage(name: str, path_of: Callable[[Miniature], str], applies: Applies, code: str, kind: str) -> None:
    data, reason = DAMAGED[name]

    def plant(miniature: Miniature, root: Path) -> Expected:
        path = path_of(miniature)
        (root / path).write_bytes(data)
        return Expected(
            code, path, (f"1 {kind} cannot be decoded (first: {path}: ", reason, "Unpack the archive again")
        )

    FAULTS[f"{name} as {path_of.__name__}"] = (plant, applies)


def train_image(miniature: Miniature) -> str:
    return miniature.train_good[1]


def good_image(miniature: Miniature) -> str:
    return miniature.test_good


def bad_image(miniature: Miniature) -> str:
    return miniature.test_bad


for _name in DAMAGED:
    _damage(_name, train_image, is_first_of_reader, "IMAGE_UNREADABLE", "images")
for _image in (good_image, bad_image):
    _damage("zero_bytes", _image, lambda _: True, "IMAGE_UNREADABLE", "images")
_damage("zero_bytes", mask_of, has_masks, "MASK_UNREADABLE", "masks")
for _name in ("flipped_png", "text"):
    _damage(_name, mask_of, lambda m: has_masks(m) and is_first_of_reader(m), "MASK_UNREADABLE", "masks")


@fault()
def image_of_sixteen_bits(miniature: Miniature, root: Path) -> Expected:
    deep = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    Image.fromarray(deep).save(root / miniature.train_good[0], "PNG")
    return Expected("IMAGE_MODE", miniature.train_good[0], ("16 bits",))


@fault()
def image_of_floats(miniature: Miniature, root: Path) -> Expected:
    Image.fromarray(np.full((HEIGHT, WIDTH), 0.5, np.float32)).save(root / miniature.test_bad, "TIFF")
    return Expected("IMAGE_MODE", miniature.test_bad, ("1 images",))


@fault(is_first_of_reader)
def image_with_palette(miniature: Miniature, root: Path) -> Expected:
    noise(5).quantize(16).save(root / miniature.train_good[0], "PNG")
    return Expected("IMAGE_MODE", miniature.train_good[0], level="warning")


@fault(is_first_of_reader)
def image_with_alpha(miniature: Miniature, root: Path) -> Expected:
    noise(5).convert("RGBA").save(root / miniature.test_good, "PNG")
    return Expected("IMAGE_MODE", miniature.test_good, level="warning")


@fault()
def image_too_small(miniature: Miniature, root: Path) -> Expected:
    noise(6, 31, 40).save(root / miniature.test_good, "PNG")
    return Expected("IMAGE_SIZE", miniature.test_good, ("31 x 40",))


@fault(is_first_of_reader)
def image_of_another_size(miniature: Miniature, root: Path) -> Expected:
    noise(6, WIDTH, HEIGHT + 8).save(root / miniature.train_good[0], "PNG")
    return Expected("IMAGE_SIZE", miniature.train_good[0], level="warning")


@fault()
def image_that_is_a_dangling_link(miniature: Miniature, root: Path) -> Expected:
    path = root / miniature.train_good[0]
    path.unlink()
    path.symlink_to("nowhere.png")
    return Expected("IMAGE_UNREADABLE|FILE_MISSING", miniature.train_good[0])


@fault()
def image_that_is_a_link_to_itself(miniature: Miniature, root: Path) -> Expected:
    path = root / miniature.train_good[0]
    path.unlink()
    path.symlink_to(path.name)
    code = "IMAGE_UNREADABLE" if is_tree(miniature) else "FILE_MISSING|SPLITFILE_INVALID"
    return Expected(code, miniature.train_good[0] if is_tree(miniature) else "", also=("FILE_UNLISTED",))


@fault()
def image_that_is_a_folder(miniature: Miniature, root: Path) -> Expected:
    path = root / miniature.train_good[0]
    path.unlink()
    path.mkdir()
    if miniature.name in ("visa_anomalib", "visa_owners"):  # one image less than in the list is an error
        return Expected("COUNT_MISMATCH")
    return Expected("FILE_IGNORED|IMAGE_UNREADABLE|FILE_MISSING", miniature.train_good[0], level="")


@fault()
def file_of_unknown_kind(miniature: Miniature, root: Path) -> Expected:
    path = new_image(miniature, ".psd")
    Tree(root).text(path)
    return Expected("FILE_IGNORED", path, (path,), level="warning")


# --- masks


@fault(has_masks)
def mask_missing(miniature: Miniature, root: Path) -> Expected:
    mask = mask_of(miniature)
    (root / mask).unlink()
    if is_listed(miniature):
        return Expected("FILE_MISSING", mask, also=("MASK_MISSING",))
    expected = mask if miniature.reader != "mvtec_loco" else PurePosixPath(mask).parent.as_posix()
    texts = (f"bad test images have no mask (first: {miniature.test_bad}; expected {expected}",)
    return Expected("MASK_MISSING", miniature.test_bad, texts)


@fault(has_masks)
def mask_orphan(miniature: Miniature, root: Path) -> Expected:
    assert miniature.orphan
    Tree(root).mask(miniature.orphan)
    if is_listed(miniature):
        return Expected("MASK_ORPHAN|FILE_UNLISTED", miniature.orphan, level="")
    return Expected("MASK_ORPHAN", miniature.orphan, (f"1 masks belong to no image (first: {miniature.orphan})",))


@fault(has_masks)
def mask_one_pixel_too_wide(miniature: Miniature, root: Path) -> Expected:
    mask = mask_of(miniature)
    Tree(root).mask(mask, width=WIDTH + 1)
    text = f"mask {mask} is {WIDTH + 1} x {HEIGHT}, its image is {WIDTH} x {HEIGHT} (1 such pairs)"
    return Expected("MASK_SIZE", mask, (text,))


@fault(has_masks)
def mask_empty(miniature: Miniature, root: Path) -> Expected:
    Tree(root).mask(mask_of(miniature), 0)
    return Expected("MASK_EMPTY", miniature.test_bad, level="warning")


@fault(has_masks)
def mask_on_a_good_image(miniature: Miniature, root: Path) -> Expected:
    if miniature.mask_on_good:
        Tree(root).mask(miniature.mask_on_good)
        return Expected("MASK_ON_GOOD", miniature.test_good)
    assert miniature.orphan
    image = new_image(miniature)
    Tree(root).image(image)
    Tree(root).mask(miniature.orphan)
    add_entry(miniature, root, image, TEST_GOOD, miniature.orphan)
    return Expected("MASK_ON_GOOD", image)


@fault(has_masks)
def mask_that_is_a_folder(miniature: Miniature, root: Path) -> Expected:
    (root / mask_of(miniature)).unlink()
    (root / mask_of(miniature)).mkdir()
    return Expected("MASK_MISSING|MASK_UNREADABLE|FILE_MISSING")


@fault(has_masks)
def mask_that_is_a_dangling_link(miniature: Miniature, root: Path) -> Expected:
    (root / mask_of(miniature)).unlink()
    (root / mask_of(miniature)).symlink_to("nowhere.png")
    return Expected("MASK_MISSING|MASK_UNREADABLE|FILE_MISSING")


@fault(lambda m: has_masks(m) and is_tree(m) and m.reader != "mvtec_loco")
def two_masks_of_one_image(miniature: Miniature, root: Path) -> Expected:
    mask = PurePosixPath(mask_of(miniature))
    other = mask.with_suffix(".png" if mask.suffix == ".bmp" else ".bmp").as_posix()
    Tree(root).mask(other)
    return Expected("NAME_COLLISION", other, also=("MASK_ORPHAN",))


# --- equal bytes


@fault()
def same_bytes_in_train_and_test(miniature: Miniature, root: Path) -> Expected:
    train, test = miniature.train_good[0], miniature.test_good
    (root / test).write_bytes((root / train).read_bytes())
    texts = (f"1 files are identical in train and test (first: {train} = {test})", "Test results would be invalid")
    return Expected("DUPLICATE_TRAIN_TEST", test, texts)


@fault()
def same_bytes_good_and_bad(miniature: Miniature, root: Path) -> Expected:
    (root / miniature.test_good).write_bytes((root / miniature.test_bad).read_bytes())
    return Expected("DUPLICATE_LABEL", miniature.test_good, (miniature.test_bad,))


@fault()
def same_bytes_good_in_train_and_bad_in_test(miniature: Miniature, root: Path) -> Expected:
    (root / miniature.test_bad).write_bytes((root / miniature.train_good[0]).read_bytes())
    return Expected("DUPLICATE_TRAIN_TEST", miniature.test_bad, also=("DUPLICATE_LABEL",))


@fault()
def same_bytes_twice_within(miniature: Miniature, root: Path) -> Expected:
    first, second = miniature.train_good
    (root / second).write_bytes((root / first).read_bytes())
    return Expected("DUPLICATE_WITHIN", second, (first,), level="warning")


# --- names


@fault()
def names_that_differ_in_case(miniature: Miniature, root: Path) -> Expected:
    image = PurePosixPath(miniature.train_good[0])
    return _collision(miniature, root, image.with_suffix(image.suffix.swapcase()).as_posix())


@fault()
def names_that_differ_in_extension(miniature: Miniature, root: Path) -> Expected:
    return _collision(miniature, root, PurePosixPath(miniature.train_good[0]).with_suffix(".tif").as_posix())


def _collision(miniature: Miniature, root: Path, other: str) -> Expected:
    Tree(root).image(other)
    add_entry(miniature, root, other, TRAIN_GOOD)
    return Expected("NAME_COLLISION", other, (miniature.train_good[0],))


@fault()
def name_with_a_semicolon(miniature: Miniature, root: Path) -> Expected:
    image = new_image(miniature).replace("000999", "000;999")
    Tree(root).image(image)
    add_entry(miniature, root, image, TRAIN_GOOD)
    return Expected("NAME_INVALID", image)


@fault(is_tree)
def name_with_a_line_break(miniature: Miniature, root: Path) -> Expected:
    image = new_image(miniature).replace("000999", "000\n999")
    Tree(root).image(image)
    return Expected("NAME_INVALID", image, (r"000\n999",))


@fault(is_tree)
def name_that_is_not_text(miniature: Miniature, root: Path) -> Expected:
    image = new_image(miniature).replace("000999", os.fsdecode(b"\xff\xfe"))
    (root / image).write_bytes(encoded(noise(7), "PNG"))
    return Expected("NAME_INVALID", image)


# --- the split


@fault(lambda m: m.bad_in_train is not None)
def bad_image_in_train(miniature: Miniature, root: Path) -> Expected:
    image = miniature.bad_in_train
    assert image
    Tree(root).image(image)
    if is_listed(miniature):
        assert miniature.orphan
        Tree(root).mask(miniature.orphan)
        add_entry(miniature, root, image, ("train", "bad"), miniature.orphan)
    text = f"1 bad images in the training list of a one-class run (first: {image})"
    return Expected("BAD_IN_TRAIN", image, (text,))


@fault(is_listed)
def listed_file_missing(miniature: Miniature, root: Path) -> Expected:
    image, other = miniature.train_good
    for path in (image, other):
        (root / path).unlink()
    text = f"files named in {miniature.split_file} do not exist (first: {image}, "
    return Expected("FILE_MISSING", other, ("2 of ", text), also=("SPLIT_EMPTY",))


@fault(is_listed)
def file_unlisted(miniature: Miniature, root: Path) -> Expected:
    image = new_image(miniature)
    Tree(root).image(image)
    return Expected("FILE_UNLISTED", image, (image,), level="warning")


@fault(lambda m: is_listed(m) and m.name != "manifest")
def split_file_missing(miniature: Miniature, root: Path) -> Expected:
    assert miniature.split_file
    (root / miniature.split_file).unlink()
    if miniature.reader == "real_iad":  # its lists are what says which categories there are
        return Expected("SPLITFILE_INVALID|CATEGORY_MISSING", "", (miniature.category,))
    return Expected("SPLITFILE_INVALID", "", (miniature.split_file,))


@fault(is_listed)
def listed_twice(miniature: Miniature, root: Path) -> Expected:
    assert miniature.split_file
    add_entry(miniature, root, miniature.train_good[0], TRAIN_GOOD)
    return Expected("SPLITFILE_INVALID", "", (miniature.split_file, miniature.train_good[0]))


ALIKE = ("btad_02", "visa_owners")
"""Variants that differ from others in nothing that these faults touch."""

CASES = [
    pytest.param(miniature, plant, id=f"{name}-{miniature.name}")
    for name, (plant, applies) in FAULTS.items()
    for miniature in MINIATURES.values()
    if applies(miniature) and miniature.name not in ALIKE
]


@pytest.mark.parametrize(("miniature", "plant"), CASES)
def test_planted_fault_is_found(miniature: Miniature, plant: Plant, root: Path) -> None:
    expected = plant(miniature, root)
    assert_found(findings_of(miniature, root), expected, miniature)


# --- split files that cannot be used


def invalid(miniature: Miniature, *texts: str) -> Expected:
    assert miniature.split_file
    return Expected("SPLITFILE_INVALID", "", (miniature.split_file, *texts), also=("FILE_UNLISTED",))


OUTSIDE = [
    ("", "empty path"),
    ("../outside.png", "path ../outside.png leaves the root"),
    ("images/../../outside.png", "leaves the root"),
    ("/etc/passwd", "absolute path /etc/passwd"),
    (r"C:\parts\a.png", "absolute path"),
    (r"..\outside.png", "leaves the root"),
    ("link/outside.png", "leaves the root through a link"),
    ("a\0b.png", ""),
    ("a" * 5000 + "_C1_.png", ""),
]


def link_outside(miniature: Miniature, root: Path, folder: str = "") -> None:
    """A file outside the root, and a link inside that leads to it."""
    Tree(root.parent).image("elsewhere/outside.png", "outside.png")
    (root / folder / "link").symlink_to(root.parent / "elsewhere")


CSV_ROWS = [
    *[({"image": path}, reason) for path, reason in OUTSIDE],
    *[({"label": "bad", "mask": path}, reason) for path, reason in OUTSIDE[1:]],
    ({"split": "validation"}, "split 'validation'"),
    ({"split": ""}, "split ''"),
    ({"split": "Train"}, "split 'Train'"),
    ({"label": "ok"}, "label 'ok'"),
    ({"label": ""}, "label ''"),
]
CSV_LISTS = pytest.mark.parametrize("name", ["visa", "manifest"])


@CSV_LISTS
@pytest.mark.parametrize(("changed", "reason"), CSV_ROWS)
def test_row_that_cannot_be_used(name: str, changed: dict[str, str], reason: str, tmp_path: Path) -> None:
    miniature = MINIATURES[name]
    root = miniature.write(tmp_path / "data")
    link_outside(miniature, root)
    cells = {"image": "new.png", "split": "test", "label": "good", "mask": "", **changed}
    if name == "visa":
        label = {"good": "normal", "bad": "anomaly"}.get(cells["label"], cells["label"])
        row = ",".join(["candle", cells["split"], label, cells["image"], cells["mask"]])
    else:
        row = ",".join([cells["image"], cells["split"], cells["label"], cells["mask"], "", ""])
    assert miniature.split_file
    line = append_line(root / miniature.split_file, row)
    if "a" * 5000 in row:
        expected = Expected("SPLITFILE_INVALID|FILE_MISSING", also=("MASK_MISSING", "FILE_MISSING"))
    else:
        expected = invalid(miniature, f", line {line}: ", reason, "xpected columns")
    expected = Expected(expected.code, "", expected.texts, also=(*expected.also, "FILE_MISSING", "MASK_MISSING"))
    assert_found(findings_of(miniature, root), expected, miniature)


@CSV_LISTS
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: b"", "line 1"),
        (lambda text: text.replace(b"image", b"picture", 1), "line 1"),
        (lambda text: text.replace(b",label", b"", 1), "line 1"),
        (lambda text: text.replace(b",", b";"), "line 1"),
        (lambda text: text.replace(b"label", b"split", 1), "line 1"),
        (lambda text: text + b"a,b\n", "line "),
        (lambda text: text + b'"open,test\n', "line "),
        (lambda text: text + b"\xff\xfe,,,,\n", "UTF-8"),
        (lambda text: text.decode("utf-8-sig").encode("utf-16"), "UTF-8"),
        (lambda text: b"\0" * 100, "line 1"),
        (lambda text: text + b"a" * 200_000 + b",,,,\n", "line "),
        (lambda text: b"[]", "line 1"),
    ],
)
def test_csv_that_cannot_be_read(name: str, change: Callable[[bytes], bytes], reason: str, tmp_path: Path) -> None:
    miniature = MINIATURES[name]
    root = miniature.write(tmp_path)
    assert miniature.split_file
    path = root / miniature.split_file
    path.write_bytes(change(path.read_bytes()))
    assert_found(findings_of(miniature, root), invalid(miniature, reason), miniature)


BROKEN_JSON = {
    "empty": b"",
    "list": b"[]",
    "number": b"7",
    "null": b"null",
    "text": b'"train"',
    "truncated": b'{"meta": {"prefix": "phone_battery/"}, "train": [{"category": "pho',
    "deep list": b"[" * 100_000,
    "deep object": b'{"meta":' * 100_000,
    "closed deep list": b"[" * 100_000 + b"]" * 100_000,
    "long number": b'{"meta": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"meta": "\xff\xfe"}',
    "UTF-16": '{"meta": {}}'.encode("utf-16"),
    "zeros": b"\0" * 100,
    "comma": b'{"train": [], "test": [],}',
}


@pytest.mark.parametrize("content", BROKEN_JSON.values(), ids=BROKEN_JSON)
@pytest.mark.parametrize(
    ("name", "path", "options"),
    [
        ("real_iad", "realiad_jsons/realiad_jsons_sv/phone_battery.json", {}),
        ("real_iad_flat", "realiad_jsons_sv/phone_battery.json", {}),
        ("vad_a", "low_shot_train.json", {"low_shot": "1"}),
        ("mvtec_loco", "screw_bag/defects_config.json", {}),
    ],
)
def test_json_that_cannot_be_read(
    name: str, path: str, options: dict[str, Any], content: bytes, tmp_path: Path
) -> None:
    miniature = MINIATURES[name]
    root = miniature.write(tmp_path)
    (root / path).write_bytes(content)
    findings = findings_of(miniature, root, **options)
    if name == "mvtec_loco" and content == b"[]":  # a list without an entry documents no value
        assert {finding.code for finding in findings} <= {"SPLITFILE_INVALID", "MASK_VALUES"} | OF_A_MINIATURE
    else:
        assert_found(findings, Expected("SPLITFILE_INVALID", "", (path,)), miniature)


REAL_IAD = MINIATURES["real_iad"]
GOOD = real_iad_path("phone_battery", 3)
NEW = real_iad_path("phone_battery", 33)


def changed_real_iad(root: Path, change: Callable[[Any], None]) -> list[Finding]:
    """Findings of Real-IAD after its list was changed."""
    assert REAL_IAD.split_file
    path = root / REAL_IAD.split_file
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return findings_of(REAL_IAD, root)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("train"),
        lambda content: content.pop("test"),
        lambda content: content.pop("meta"),
        lambda content: content.update(train={}),
        lambda content: content.update(test=None),
        lambda content: content.update(test="abc"),
        lambda content: content.update(meta=[]),
        lambda content: content.update(meta={"normal_class": ["OK"], "prefix": "phone_battery/"}),
    ],
)
def test_list_of_real_iad_with_wrong_keys(change: Callable[[Any], None], tmp_path: Path) -> None:
    root = REAL_IAD.write(tmp_path)
    assert_found(changed_real_iad(root, change), invalid(REAL_IAD), REAL_IAD)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        *[(real_iad_entry("phone_battery", path), reason) for path, reason in OUTSIDE[:-1]],
        *[(real_iad_entry("phone_battery", NEW, "AK", path), reason) for path, reason in OUTSIDE[:-1]],
        (real_iad_entry("phone_battery", "../../../outside_C1_.png"), "leaves the root"),
        (real_iad_entry("pcb", NEW), "pcb"),
        ({**real_iad_entry("phone_battery", NEW), "image_path": None}, ""),
        ({**real_iad_entry("phone_battery", NEW), "image_path": 7}, ""),
        ({**real_iad_entry("phone_battery", NEW), "image_path": [NEW]}, ""),
        ({**real_iad_entry("phone_battery", NEW), "mask_path": 7}, ""),
        ({**real_iad_entry("phone_battery", NEW), "mask_path": {}}, ""),
        ({**real_iad_entry("phone_battery", NEW), "anomaly_class": None}, ""),
        ({**real_iad_entry("phone_battery", NEW), "anomaly_class": 7}, ""),
        ({**real_iad_entry("phone_battery", NEW), "anomaly_class": ""}, ""),
        ({**real_iad_entry("phone_battery", NEW), "category": None}, ""),
        ({**real_iad_entry("phone_battery", NEW), "camera": "C1"}, ""),
        ({"category": "phone_battery", "image_path": NEW, "mask_path": None}, ""),
        ({}, ""),
        ([], ""),
        (None, ""),
        (NEW, ""),
        (7, ""),
    ],
)
def test_entry_of_real_iad_that_cannot_be_used(entry: Any, reason: str, tmp_path: Path) -> None:
    root = REAL_IAD.write(tmp_path / "data")
    link_outside(REAL_IAD, root, "realiad_1024/phone_battery")
    findings = changed_real_iad(root, lambda content: content["test"].append(entry))
    expected = invalid(REAL_IAD, "entry 5", reason)
    assert_found(findings, expected, REAL_IAD)


@pytest.mark.parametrize("path", ["a" * 5000 + "_C1_.jpg", "\ud800_C1_.jpg", "\u202e_C1_.jpg", "a\n_C1_.jpg"])
def test_strange_path_in_the_list_of_real_iad(path: str, tmp_path: Path) -> None:
    root = REAL_IAD.write(tmp_path)
    findings = changed_real_iad(root, lambda content: content["train"].append(real_iad_entry("phone_battery", path)))
    assert_found(findings, Expected("SPLITFILE_INVALID|FILE_MISSING|NAME_INVALID"), REAL_IAD)
    for finding in findings:
        finding.text.encode()


@pytest.mark.parametrize(
    "names", [None, 7, "3.png", {}, [3], [None], [""], ["../good/1.png"], ["/etc/passwd"], ["3.png", "3.png"], [[]]]
)
def test_low_shot_names_that_cannot_be_used(names: Any, tmp_path: Path) -> None:
    miniature = MINIATURES["vad_a"]
    root = miniature.write(tmp_path)
    Tree(root).json("low_shot_train.json", {"1": names})
    findings = findings_of(miniature, root, low_shot="1")
    assert_found(findings, Expected("SPLITFILE_INVALID", "", ("low_shot_train.json",)), miniature)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"defects": []},
        [7],
        [None],
        [[]],
        [{}],
        [{"defect_name": "d", "pixel_value": None}],
        [{"defect_name": "d", "pixel_value": [255]}],
        [{"defect_name": "d", "pixel_value": float("nan")}],
    ],
)
def test_defects_of_loco_that_cannot_be_used(content: Any, tmp_path: Path) -> None:
    miniature = MINIATURES["mvtec_loco"]
    root = miniature.write(tmp_path)
    Tree(root).json("screw_bag/defects_config.json", content)
    expected = Expected("SPLITFILE_INVALID", "", ("screw_bag/defects_config.json",))
    assert_found(findings_of(miniature, root), expected, miniature)


@pytest.mark.parametrize("name", ["visa", "real_iad"])
def test_folder_in_place_of_the_split_file(name: str, tmp_path: Path) -> None:
    miniature = MINIATURES[name]
    root = miniature.write(tmp_path)
    assert miniature.split_file
    (root / miniature.split_file).unlink()
    (root / miniature.split_file).mkdir()
    assert_found(findings_of(miniature, root), invalid(miniature), miniature)


@EVERY
def test_several_faults_are_reported_at_once(miniature: Miniature, root: Path) -> None:
    (root / miniature.train_good[0]).write_bytes(b"")
    noise(8, 31, 31).save(root / miniature.test_good, "PNG")
    if miniature.mask:
        (root / miniature.mask).write_bytes(b"")
    codes = {finding.code for finding in findings_of(miniature, root)} - {"COUNT_MISMATCH"}
    assert codes == {"IMAGE_UNREADABLE", "IMAGE_SIZE", *(["MASK_UNREADABLE"] if miniature.mask else [])}
