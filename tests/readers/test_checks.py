"""Every fault is planted into a sound tree; code, path and text of the error are asserted."""

from __future__ import annotations

import io
import logging
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from shopfloor.readers import DatasetError, available_readers, find_root, load_reader, read_index
from shopfloor.readers.category_files import CategoryFiles
from shopfloor.readers.checks import check_category
from shopfloor.readers.findings import Finding
from shopfloor.readers.index_table import INDEX_DTYPES, build_index, split_paths
from shopfloor.readers.measure import measure
from shopfloor.readers.split_checks import bad_in_train
from shopfloor.readers.types import FileFacts, Sample
from tests.readers.trees import SIDE, make_tree, read, save_image, save_mask


def error_of(root: Path, category: str = "bolt") -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        read(root, category)
    return caught.value


def assert_only(error: DatasetError, code: str, path: str, *texts: str) -> None:
    assert [finding.code for finding in error.findings] == [code]
    assert error.code == code
    assert (error.dataset, error.category) == ("demo", "bolt")
    assert error.paths[0] == path
    assert error.message.startswith(f"[{code}] demo/bolt: ")
    for text in texts:
        assert text in error.message


def warnings_of(root: Path, caplog: pytest.LogCaptureFixture) -> tuple[pd.DataFrame, list[str]]:
    with caplog.at_level(logging.WARNING, logger="shopfloor.readers.checks"):
        index = read(root, "bolt")
    return index, [record.getMessage() for record in caplog.records]


def test_a_sound_tree_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_tree(tmp_path)
    index, warnings = warnings_of(tmp_path, caplog)
    assert len(index) == 9
    assert warnings == []


# --- damaged files


def corrupt_jpeg(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4)


def zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def truncated_bmp(path: Path) -> None:
    data = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(data, "BMP")
    path.write_bytes(data.getvalue()[: SIDE * SIDE])


def truncated_jpeg(path: Path) -> None:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(data, "JPEG")
    path.write_bytes(data.getvalue()[:-300])


def flipped_bit_png(path: Path) -> None:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(data, "PNG")
    damaged = bytearray(data.getvalue())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(bytes(damaged))


def text_file(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1")


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("900.jpg", corrupt_jpeg, ""),
        ("900.png", zero_bytes, "the file is empty"),
        ("900.bmp", truncated_bmp, "truncated"),
        ("900.jpg", truncated_jpeg, "truncated"),
        ("900.png", flipped_bit_png, "checksum"),
        ("900.png", text_file, "not an image"),
    ],
)
def test_damaged_image(tmp_path: Path, name: str, damage, reason: str) -> None:
    damage(make_tree(tmp_path) / "train/good" / name)
    path = f"bolt/train/good/{name}"
    error = error_of(tmp_path)
    assert_only(error, "IMAGE_UNREADABLE", path, f"1 images cannot be decoded (first: {path}: ", reason, "Unpack")
    assert error.total == 1


def test_a_pipe_with_the_name_of_an_image_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(make_tree(tmp_path) / "train/good/900.png")
    assert_only(error_of(tmp_path), "IMAGE_UNREADABLE", "bolt/train/good/900.png", "not a regular file")


def test_damaged_mask(tmp_path: Path) -> None:
    zero_bytes(make_tree(tmp_path) / "ground_truth/scratch/001_mask.png")
    path = "bolt/ground_truth/scratch/001_mask.png"
    assert_only(error_of(tmp_path), "MASK_UNREADABLE", path, "1 masks cannot be decoded", "the file is empty")


def test_decompression_bomb_is_an_unreadable_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path)
    save_image(tmp_path / "bolt/train/good/huge.png", 99, side=200)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert_only(error_of(tmp_path), "IMAGE_UNREADABLE", "bolt/train/good/huge.png", "exceeds limit")


# --- kinds and sizes of images


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bit_grey_is_refused(tmp_path: Path, extension: str) -> None:
    path = make_tree(tmp_path) / f"train/good/deep.{extension}"
    Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE)).save(path)
    path_in_root = f"bolt/train/good/deep.{extension}"
    assert_only(error_of(tmp_path), "IMAGE_MODE", path_in_root, "more than 8 bits", "16 bits", "Convert")


def test_sixteen_bit_colour_is_refused_although_pillow_would_cut_it(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = make_tree(tmp_path) / "train/good/deep.png"
    cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), 40_000, dtype=np.uint16))
    assert Image.open(path).mode == "RGB"
    assert_only(error_of(tmp_path), "IMAGE_MODE", "bolt/train/good/deep.png", "16 bits")


def test_float_image_is_refused(tmp_path: Path) -> None:
    path = make_tree(tmp_path) / "train/good/float.tif"
    Image.fromarray(np.full((SIDE, SIDE), 0.5, dtype=np.float32)).save(path)
    assert_only(error_of(tmp_path), "IMAGE_MODE", "bolt/train/good/float.tif", "mode F")


def test_palette_alpha_and_orientation_are_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = make_tree(tmp_path) / "train/good"
    Image.open(save_image(good / "p.png", 50)).quantize(16).save(good / "p.png")
    Image.open(save_image(good / "a.png", 51)).convert("RGBA").save(good / "a.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(save_image(good / "t.jpg", 52)).save(good / "t.jpg", exif=turned)
    _, warnings = warnings_of(tmp_path, caplog)
    assert [warning.split("]")[0] for warning in warnings] == ["[IMAGE_MODE", "[IMAGE_ORIENTATION"]
    assert "2 images have a palette or an alpha channel" in warnings[0]
    assert "bolt/train/good/t.jpg" in warnings[1]


def test_small_image_is_an_error_and_other_size_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_tree(tmp_path)
    save_image(tmp_path / "bolt/train/good/other.png", 50, side=48)
    _, warnings = warnings_of(tmp_path, caplog)
    assert len(warnings) == 1
    assert warnings[0].startswith("[IMAGE_SIZE] demo/bolt: images have 2 different sizes")
    assert "40 x 40 pixels, 9 of 10" in warnings[0]
    save_image(tmp_path / "bolt/train/good/small.png", 51, side=31)
    assert_only(error_of(tmp_path), "IMAGE_SIZE", "bolt/train/good/small.png", "31 x 31")


# --- masks


def test_mask_missing(tmp_path: Path) -> None:
    (make_tree(tmp_path) / "ground_truth/scratch/001_mask.png").unlink()
    assert_only(
        error_of(tmp_path),
        "MASK_MISSING",
        "bolt/test/scratch/001.png",
        "1 of 3 bad test images have no mask",
        "expected bolt/ground_truth/scratch/001_mask.png",
    )


def test_partly_filled_ground_truth_is_not_a_dataset_without_labels(tmp_path: Path) -> None:
    category = make_tree(tmp_path)
    for mask in (category / "ground_truth/scratch").iterdir():
        mask.unlink()
    (category / "ground_truth/scratch").rmdir()
    error = error_of(tmp_path)
    assert_only(error, "MASK_MISSING", "bolt/test/scratch/000.png", "2 of 3")
    assert error.paths == ("bolt/test/scratch/000.png", "bolt/test/scratch/001.png")


def test_mask_of_image_one_does_not_serve_image_ten(tmp_path: Path) -> None:
    scratch = make_tree(tmp_path) / "test/scratch"
    scratch.joinpath("001.png").rename(scratch / "1.png")
    (tmp_path / "bolt/ground_truth/scratch/001_mask.png").rename(tmp_path / "bolt/ground_truth/scratch/10_mask.png")
    error = error_of(tmp_path)
    assert [finding.code for finding in error.findings] == ["MASK_MISSING", "MASK_ORPHAN"]
    assert error.findings[0].paths == ("bolt/test/scratch/1.png",)
    assert error.findings[1].paths == ("bolt/ground_truth/scratch/10_mask.png",)


def test_orphan_mask(tmp_path: Path) -> None:
    make_tree(tmp_path)
    save_mask(tmp_path / "bolt/ground_truth/rust/000_mask.png")
    path = "bolt/ground_truth/rust/000_mask.png"
    assert_only(error_of(tmp_path), "MASK_ORPHAN", path, "1 masks belong to no image", "Remove")


def test_mask_one_pixel_too_wide(tmp_path: Path) -> None:
    make_tree(tmp_path)
    save_mask(tmp_path / "bolt/ground_truth/bent/000_mask.png", width=SIDE + 1)
    path = "bolt/ground_truth/bent/000_mask.png"
    assert_only(error_of(tmp_path), "MASK_SIZE", path, f"mask {path} is 41 x 40, its image is 40 x 40 (1 such")


def test_mask_on_good(tmp_path: Path) -> None:
    make_tree(tmp_path)
    save_mask(tmp_path / "bolt/ground_truth/good/001.png")
    assert_only(error_of(tmp_path), "MASK_ON_GOOD", "bolt/test/good/001.png", "1 good images have a mask")


def test_zero_mask_on_good_is_fine_and_leaves_no_trace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_tree(tmp_path)
    save_mask(tmp_path / "bolt/ground_truth/good/001.png", value=0)
    index, warnings = warnings_of(tmp_path, caplog)
    assert warnings == []
    mask_columns = ["masks", "mask_sha256", "mask_file_size"]
    assert (index.loc[index["label"] == "good", mask_columns] == "").all(axis=None)


def test_empty_and_lossy_masks_are_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    masks = make_tree(tmp_path) / "ground_truth"
    save_mask(masks / "bent/000_mask.png", value=0)
    (masks / "scratch/000_mask.png").unlink()
    save_mask(masks / "scratch/000_mask.jpg")
    _, warnings = warnings_of(tmp_path, caplog)
    assert len(warnings) == 2
    assert warnings[0].startswith("[MASK_EMPTY] demo/bolt: 1 bad images")
    assert "bolt/test/bent/000.png" in warnings[0]
    assert warnings[1].startswith("[MASK_VALUES]")
    assert "bolt/ground_truth/scratch/000_mask.jpg" in warnings[1]


def test_undocumented_mask_value_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_tree(tmp_path)
    samples = [
        Sample("train", "good", "good", "bolt/train/good/000.png"),
        Sample("test", "good", "good", "bolt/test/good/000.png"),
        Sample("test", "bad", "bent", "bolt/test/bent/000.png", ("bolt/ground_truth/bent/000_mask.png",)),
    ]
    for documented, expected in (({255}, 0), ({1, 2}, 1)):
        caplog.clear()
        files = CategoryFiles(tmp_path, "demo", "bolt", samples, True, documented_values=frozenset(documented))
        check_category(files, measure(files))
        assert len(caplog.records) == expected
    assert "undocumented values; any value above 0 is a defect (first: bolt/ground_truth" in caplog.messages[0]
    assert ": 255)" in caplog.messages[0]


# --- identical bytes


def test_duplicate_between_train_and_test(tmp_path: Path) -> None:
    category = make_tree(tmp_path)
    (category / "test/good/copy.png").write_bytes((category / "train/good/002.png").read_bytes())
    assert_only(
        error_of(tmp_path),
        "DUPLICATE_TRAIN_TEST",
        "bolt/test/good/copy.png",
        "1 files are identical in train and test (first: bolt/train/good/002.png = bolt/test/good/copy.png)",
    )


def test_duplicate_under_both_labels(tmp_path: Path) -> None:
    category = make_tree(tmp_path)
    (category / "test/good/copy.png").write_bytes((category / "test/bent/000.png").read_bytes())
    error = error_of(tmp_path)
    assert_only(error, "DUPLICATE_LABEL", "bolt/test/bent/000.png", "both good and bad")
    assert error.total == 2


def test_duplicate_within_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    category = make_tree(tmp_path)
    (category / "train/good/copy.png").write_bytes((category / "train/good/002.png").read_bytes())
    _, warnings = warnings_of(tmp_path, caplog)
    assert len(warnings) == 1
    assert warnings[0].startswith("[DUPLICATE_WITHIN] demo/bolt: 1 files")
    assert "bolt/train/good/002.png = bolt/train/good/copy.png" in warnings[0]


# --- names


@pytest.mark.parametrize("name", ["000.JPG", "000.bmp"])
def test_names_that_differ_in_case_or_extension_only(tmp_path: Path, name: str) -> None:
    save_image(make_tree(tmp_path) / "train/good" / name, 77)
    assert_only(error_of(tmp_path), "NAME_COLLISION", "bolt/train/good/000." + ("JPG" if "J" in name else "bmp"))


def test_two_masks_for_one_image(tmp_path: Path) -> None:
    make_tree(tmp_path)
    save_mask(tmp_path / "bolt/ground_truth/bent/000_mask.bmp")
    error = error_of(tmp_path)
    assert_only(error, "NAME_COLLISION", "bolt/ground_truth/bent/000_mask.bmp", "several masks one image")


@pytest.mark.parametrize(
    ("name", "shown"), [("a;b.png", "a;b.png"), ("a\nb.png", r"a\nb.png"), ("\x1b[31m.png", r"\x1b[31m.png")]
)
def test_names_that_the_table_cannot_hold(tmp_path: Path, name: str, shown: str) -> None:
    save_image(make_tree(tmp_path) / "train/good" / name, 77)
    error = error_of(tmp_path)
    assert_only(error, "NAME_INVALID", f"bolt/train/good/{name}", shown, "Rename the files")
    assert "\x1b" not in error.message


# --- the error itself


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    category = make_tree(tmp_path)
    zero_bytes(category / "train/good/000.png")
    (category / "ground_truth/bent/000_mask.png").unlink()
    save_mask(category / "ground_truth/scratch/000_mask.png", height=SIDE - 1)
    save_mask(category / "ground_truth/scratch/999_mask.png")
    error = error_of(tmp_path)
    codes = [finding.code for finding in error.findings]
    assert codes == ["IMAGE_UNREADABLE", "MASK_MISSING", "MASK_ORPHAN", "MASK_SIZE"]
    assert len(error.message.splitlines()) == 4


def test_paths_are_cut_to_ten_and_counted(tmp_path: Path) -> None:
    category = make_tree(tmp_path)
    for number in range(25):
        zero_bytes(category / f"train/good/{100 + number}.png")
    error = error_of(tmp_path)
    assert error.total == 25
    assert error.paths == tuple(f"bolt/train/good/{100 + number}.png" for number in range(10))


def test_error_survives_pickling() -> None:
    error = DatasetError(
        Finding("MASK_MISSING", "demo", "bolt", "1 missing", "first: a", "Do it", ("a",)),
        Finding("IMAGE_SIZE", "demo", "bolt", "too small"),
    )
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, DatasetError)
    assert copy.findings == error.findings
    assert (copy.code, copy.paths, copy.total) == ("MASK_MISSING", ("a",), 1)
    assert copy.message == "[MASK_MISSING] demo/bolt: 1 missing (first: a). Do it.\n[IMAGE_SIZE] demo/bolt: too small."


def test_command_line_shows_the_text_without_traceback() -> None:
    import click

    @click.command()
    def command() -> None:
        raise DatasetError(Finding("ROOT_MISSING", "demo", "", "folder x does not exist", action="Set the path"))

    result = CliRunner().invoke(command)
    assert result.exit_code == 1
    assert result.output == "Error: [ROOT_MISSING] demo: folder x does not exist. Set the path.\n"


def test_bad_in_train_names_the_images(tmp_path: Path) -> None:
    make_tree(tmp_path)
    save_image(tmp_path / "bolt/train/bad/000.png", 70)
    index = read(tmp_path, "bolt")
    one_class = CategoryFiles(tmp_path, "demo", "bolt", [], False)
    findings = list(bad_in_train(one_class, index, {}))
    assert [(finding.code, finding.paths) for finding in findings] == [("BAD_IN_TRAIN", ("bolt/train/bad/000.png",))]
    assert not list(bad_in_train(one_class, index.query("label == 'good'"), {}))
    assert not list(bad_in_train(replace(one_class, allows_bad_in_train=True), index, {}))


# --- the table


def test_index_survives_parquet(tmp_path: Path) -> None:
    facts = FileFacts(file_size=7, sha256="0" * 64, width=40, height=50)
    samples = [
        Sample("test", "bad", "None", 'null/a, "b" é.png', ("m/1.png", "m/2.png"), "nan"),
        Sample("train", "good", "good", "001.png"),
    ]
    paths = ["001.png", 'null/a, "b" é.png', "m/1.png", "m/2.png"]
    index = build_index("NA", "007", samples, True, dict.fromkeys(paths, facts))
    index.to_parquet(tmp_path / "index.parquet")
    back = pd.read_parquet(tmp_path / "index.parquet")
    pd.testing.assert_frame_equal(back, index)
    assert list(back.columns) == list(INDEX_DTYPES)
    assert back["category"].tolist() == ["007", "007"]
    assert back["masks"].map(split_paths).tolist() == [[], ["m/1.png", "m/2.png"]]


def test_rows_are_in_byte_order(tmp_path: Path) -> None:
    good = make_tree(tmp_path) / "train/good"
    for seed, name in enumerate(["Z.png", "é.png", "10.png", "9.png", "_.png"], start=60):
        save_image(good / name, seed)
    images = read(tmp_path, "bolt")["image"].tolist()
    assert images == sorted(images, key=lambda path: path.encode())
    names = [Path(image).name for image in images if "/train/" in image]
    assert names == ["000.png", "001.png", "002.png", "003.png", "10.png", "9.png", "Z.png", "_.png", "é.png"]


# --- choosing a reader


def test_unknown_reader_names_the_available_ones() -> None:
    for name in ("mvtecc", "../folder", "no.such.module"):
        with pytest.raises(DatasetError, match=r"READER_UNKNOWN.*aebad_s, btad, elpv, folder") as caught:
            load_reader(name)
        assert name in caught.value.message
    with pytest.raises(DatasetError, match="lacks LAYOUT, categories or list_files"):
        load_reader("checks")


def test_users_own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_company"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "line_four.py").write_text(
        "from shopfloor.readers.folder import LAYOUT, categories, list_files\n"
        "from pathlib import Path\n"
        f"def default_root():\n    return Path({str(tmp_path / 'parts')!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    make_tree(tmp_path / "parts")
    assert find_root("my_company.line_four", None) == tmp_path / "parts"
    assert len(read_index("my_company.line_four", None, "demo", "bolt")[0]) == 9


def test_broken_module_of_the_user_is_not_called_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_reader_dir").mkdir()
    (tmp_path / "my_reader_dir/reader.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        load_reader("my_reader_dir.reader")


def test_unknown_option_names_the_accepted_ones(tmp_path: Path) -> None:
    make_tree(tmp_path)
    with pytest.raises(DatasetError, match=r"OPTION_INVALID.*unknown option manifst.*accepted: manifest"):
        read_index("folder", tmp_path, "demo", "bolt", {"manifst": "a.csv"})
    with pytest.raises(DatasetError, match="no root is configured"):
        find_root("folder", None)


@pytest.mark.parametrize("options", [{"strict_counts": "false"}, {"strict_counts": 1}])
def test_an_option_of_the_wrong_kind_is_not_taken_for_true(tmp_path: Path, options: dict[str, object]) -> None:
    make_tree(tmp_path)
    with pytest.raises(DatasetError, match="OPTION_INVALID.*strict_counts: ('false'|1)"):
        read_index("folder", tmp_path, "demo", "bolt", options)


def test_importing_the_readers_is_light() -> None:
    import subprocess
    import sys

    code = f"import sys, importlib\nfor n in {available_readers()}: importlib.import_module('shopfloor.readers.' + n)\n"
    code += "print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "numpy", "cv2", "torch", "PIL", "elpv_dataset"} & set(loaded)
