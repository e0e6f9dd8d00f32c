"""Every reader reads its miniature exactly as written down here by hand; then the quirks of each dataset."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shopfloor.readers import DatasetError, list_categories, read_index
from shopfloor.readers.findings import Finding
from shopfloor.readers.index_table import INDEX_DTYPES, split_paths
from tests.readers.miniatures import (
    AEBAD_DEFECTS,
    HEIGHT,
    MINIATURES,
    TEST_BAD,
    TEST_GOOD,
    WIDTH,
    Miniature,
    Tree,
    add_entry,
    append_line,
    real_iad_path,
)

EVERY = pytest.mark.parametrize("miniature", MINIATURES.values(), ids=MINIATURES)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Roots of all sound miniatures, only to be read."""
    return {name: miniature.write(tmp_path_factory.mktemp(name)) for name, miniature in MINIATURES.items()}


def read(miniature: Miniature, root: Path, **options: Any) -> tuple[pd.DataFrame, list[Finding]]:
    """Reads the miniature's category; counts and sizes of a miniature are not those of the real dataset."""
    options = {**miniature.options, **options}
    index, warnings = read_index(miniature.reader, root, miniature.reader, miniature.category, options)
    return index, [warning for warning in warnings if warning.code not in ("COUNT_MISMATCH", "IMAGE_SIZE")]


def error_of(miniature: Miniature, root: Path, **options: Any) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        read(miniature, root, **options)
    return caught.value


def assert_only(error: DatasetError, code: str, path: str, *texts: str) -> None:
    assert [finding.code for finding in error.findings] == [code], error.message
    assert path in error.paths
    for text in texts:
        assert text in error.message


def rows(index: pd.DataFrame) -> list[str]:
    """``split label defect_type [domain] | image | mask | ...`` of every row, in the order of the table."""
    columns = index[["split", "label", "defect_type", "domain", "image", "masks"]]
    return [
        " | ".join([" ".join(filter(None, facts)), image, *split_paths(masks)])
        for *facts, image, masks in columns.itertuples(index=False)
    ]


# --- the sound miniatures

EXPECTED = {
    "btad_01": """
        test bad ko | 01/test/ko/0000.bmp | 01/ground_truth/ko/0000.png
        test bad ko | 01/test/ko/0001.bmp | 01/ground_truth/ko/0001.png
        test good good | 01/test/ok/0000.bmp
        test good good | 01/test/ok/0001.bmp
        train good good | 01/train/ok/0000.bmp
        train good good | 01/train/ok/0001.bmp
        train good good | 01/train/ok/0002.bmp
        """,
    "btad_02": """
        test bad ko | 02/test/ko/0000.png | 02/ground_truth/ko/0000.png
        test bad ko | 02/test/ko/0001.png | 02/ground_truth/ko/0001.png
        test good good | 02/test/ok/0000.png
        test good good | 02/test/ok/0001.png
        train good good | 02/train/ok/0000.png
        train good good | 02/train/ok/0001.png
        train good good | 02/train/ok/0002.png
        """,
    "btad_03": """
        test bad ko | 03/test/ko/0027.bmp | 03/ground_truth/ko/0027.bmp
        test bad ko | 03/test/ko/0028.bmp | 03/ground_truth/ko/0028.bmp
        test good good | 03/test/ok/0000.bmp
        test good good | 03/test/ok/0001.bmp
        train good good | 03/train/ok/0000.bmp
        train good good | 03/train/ok/0001.bmp
        train good good | 03/train/ok/0002.bmp
        """,
    "mpdd": """
        test good good | bracket_black/test/good/000.png
        test good good | bracket_black/test/good/001.png
        test bad hole | bracket_black/test/hole/000.png | bracket_black/ground_truth/hole/000_mask.png
        test bad scratches | bracket_black/test/scratches/000.png | bracket_black/ground_truth/scratches/000_mask.png
        test bad scratches | bracket_black/test/scratches/001.png | bracket_black/ground_truth/scratches/001_mask.png
        train good good | bracket_black/train/good/000.png
        train good good | bracket_black/train/good/001.png
        train good good | bracket_black/train/good/002.png
        """,
    "sensum_sodf": """
        train good good | capsule/negative/data/000.png
        test good good | capsule/negative/data/001.png
        train good good | capsule/negative/data/002.png
        train good good | capsule/negative/data/003.png
        test good good | capsule/negative/data/004.png
        train good good | capsule/negative/data/005.png
        test bad bad | capsule/positive/data/000.png | capsule/positive/annotation/000.png
        test bad bad | capsule/positive/data/001.png | capsule/positive/annotation/001.png
        """,
    "mvtec_loco": """
        test good good | screw_bag/test/good/000.png
        test good good | screw_bag/test/good/001.png
        test bad logical_anomalies | screw_bag/test/logical_anomalies/000.png \
| screw_bag/ground_truth/logical_anomalies/000/000.png | screw_bag/ground_truth/logical_anomalies/000/001.png
        test bad logical_anomalies | screw_bag/test/logical_anomalies/001.png \
| screw_bag/ground_truth/logical_anomalies/001/000.png
        test bad structural_anomalies | screw_bag/test/structural_anomalies/000.png \
| screw_bag/ground_truth/structural_anomalies/000/000.png
        train good good | screw_bag/train/good/000.png
        train good good | screw_bag/train/good/001.png
        train good good | screw_bag/train/good/002.png
        val good good | screw_bag/validation/good/000.png
        """,
    "visa": """
        test bad bad | candle/Data/Images/Anomaly/000.JPG | candle/Data/Masks/Anomaly/000.png
        test bad bad | candle/Data/Images/Anomaly/001.JPG | candle/Data/Masks/Anomaly/001.png
        train good good | candle/Data/Images/Normal/0000.JPG
        test good good | candle/Data/Images/Normal/0001.JPG
        train good good | candle/Data/Images/Normal/0002.JPG
        test good good | candle/Data/Images/Normal/0003.JPG
        train good good | candle/Data/Images/Normal/0004.JPG
        """,
    "visa_anomalib": """
        test bad bad | visa_pytorch/candle/test/bad/000.JPG | visa_pytorch/candle/ground_truth/bad/000.png
        test bad bad | visa_pytorch/candle/test/bad/001.JPG | visa_pytorch/candle/ground_truth/bad/001.png
        test good good | visa_pytorch/candle/test/good/0001.JPG
        test good good | visa_pytorch/candle/test/good/0003.JPG
        train good good | visa_pytorch/candle/train/good/0000.JPG
        train good good | visa_pytorch/candle/train/good/0002.JPG
        train good good | visa_pytorch/candle/train/good/0004.JPG
        """,
    "visa_owners": """
        test bad bad | VisA_pytorch/1cls/candle/test/bad/000.JPG | VisA_pytorch/1cls/candle/ground_truth/bad/000.png
        test bad bad | VisA_pytorch/1cls/candle/test/bad/001.JPG | VisA_pytorch/1cls/candle/ground_truth/bad/001.png
        test good good | VisA_pytorch/1cls/candle/test/good/0001.JPG
        test good good | VisA_pytorch/1cls/candle/test/good/0003.JPG
        train good good | VisA_pytorch/1cls/candle/train/good/0000.JPG
        train good good | VisA_pytorch/1cls/candle/train/good/0002.JPG
        train good good | VisA_pytorch/1cls/candle/train/good/0004.JPG
        """,
    "aebad_s": """
        test bad ablation background | T/ablation/background/IMG_1.png | M/ablation/background/IMG_1.png
        test bad ablation illumination | T/ablation/illumination/IMG_1.png | M/ablation/illumination/IMG_1.png
        test bad ablation same | T/ablation/same/IMG_1.png | M/ablation/same/IMG_1.png
        test bad ablation view | T/ablation/view/IMG_1.png | M/ablation/view/IMG_1.png
        test bad breakdown background | T/breakdown/background/IMG_1.png | M/breakdown/background/IMG_1.png
        test bad breakdown illumination | T/breakdown/illumination/IMG_1.png | M/breakdown/illumination/IMG_1.png
        test bad breakdown same | T/breakdown/same/IMG_1.png | M/breakdown/same/IMG_1.png
        test bad breakdown view | T/breakdown/view/IMG_1.png | M/breakdown/view/IMG_1.png
        test bad fracture background | T/fracture/background/IMG_1.png | M/fracture/background/IMG_1.png
        test bad fracture illumination | T/fracture/illumination/IMG_1.png | M/fracture/illumination/IMG_1.png
        test bad fracture same | T/fracture/same/IMG_1.png | M/fracture/same/IMG_1.png
        test bad fracture view | T/fracture/view/IMG_1.png | M/fracture/view/IMG_1.png
        test good good background | T/good/background/IMG_1.png
        test good good illumination | T/good/illumination/IMG_1.png
        test good good same | T/good/same/IMG_1.png
        test good good view | T/good/view/IMG_1.png
        test bad groove background | T/groove/background/IMG_1.png | M/groove/background/IMG_1.png
        test bad groove illumination | T/groove/illumination/IMG_1.png | M/groove/illumination/IMG_1.png
        test bad groove same | T/groove/same/IMG_1.png | M/groove/same/IMG_1.png
        test bad groove view | T/groove/view/IMG_1.png | M/groove/view/IMG_1.png
        train good good background | AeBAD_S/train/good/background/IMG_1.png
        train good good background | AeBAD_S/train/good/background/IMG_2.png
        train good good illumination | AeBAD_S/train/good/illumination/IMG_1.png
        train good good illumination | AeBAD_S/train/good/illumination/IMG_2.png
        train good good view | AeBAD_S/train/good/view/IMG_1.png
        train good good view | AeBAD_S/train/good/view/IMG_2.png
        """.replace("T/", "AeBAD_S/test/").replace("M/", "AeBAD_S/ground_truth/"),
    "vad_a": """
        test bad bad | test/bad/1.png
        test bad bad | test/bad/12.png
        test bad bad_unseen_defects | test/bad_unseen_defects/1.png
        test good good | test/good/1.png
        test good good | test/good/3.png
        train bad bad | train/bad/1.png
        train bad bad | train/bad/20.png
        train bad bad | train/bad/3.png
        train good good | train/good/1.png
        train good good | train/good/10.png
        train good good | train/good/2.png
        """,
    "vad_b": """
        test bad bad | test/bad/1.png
        test bad bad | test/bad/12.png
        test bad bad_unseen_defects | test/bad_unseen_defects/1.png
        test good good | test/good/1.png
        test good good | test/good/3.png
        train good good | train/good/1.png
        train good good | train/good/10.png
        train good good | train/good/2.png
        """,
    "vad_c": """
        test bad bad | test/bad/1.png | ground_truth/bad/1.png
        test bad bad | test/bad/12.png | ground_truth/bad/12.png
        test bad bad_unseen_defects | test/bad_unseen_defects/1.png | ground_truth/bad_unseen_defects/1.png
        test good good | test/good/1.png
        test good good | test/good/3.png
        train good good | train/good/1.png
        train good good | train/good/10.png
        train good good | train/good/2.png
        """,
    "real_iad_flat": """
        test bad AK | P/NG/AK/S0005/P__0005_NG_AK_C1_20231005120000.jpg \
| P/NG/AK/S0005/P__0005_NG_AK_C1_20231005120000.png
        test bad YW | P/NG/YW/S0006/P__0006_NG_YW_C1_20231006120000.jpg \
| P/NG/YW/S0006/P__0006_NG_YW_C1_20231006120000.png
        train good good | P/OK/S0001/P__0001_OK_C1_20231001120000.jpg
        train good good | P/OK/S0002/P__0002_OK_C1_20231002120000.jpg
        test good good | P/OK/S0003/P__0003_OK_C1_20231003120000.jpg
        test good good | P/OK/S0004/P__0004_OK_C1_20231004120000.jpg
        """.replace("P/", "phone_battery/").replace("/P_", "/phone_battery_"),
    "viaduct": """
        test bad bent | N/test/bent/000.png | N/ground_truth/bent/000.png
        test bad deep scratch | N/test/deep scratch/000.png | N/ground_truth/deep scratch/000.png
        test bad deep scratch | N/test/deep scratch/001.png | N/ground_truth/deep scratch/001.png
        test good good | N/test/good/000.png
        test good good | N/test/good/001.png
        train good good | N/train/good/000.png
        train good good | N/train/good/001.png
        train good good | N/train/good/002.png
        """.replace("N/", "11 ring cable lug/"),
    "mvtec_ad": """
        test bad bent | grid/test/bent/000.png | grid/ground_truth/bent/000_mask.png
        test bad glue | grid/test/glue/000.png | grid/ground_truth/glue/000_mask.png
        test bad glue | grid/test/glue/001.png | grid/ground_truth/glue/001_mask.png
        test good good | grid/test/good/000.png
        test good good | grid/test/good/001.png
        train good good | grid/train/good/000.png
        train good good | grid/train/good/001.png
        train good good | grid/train/good/002.png
        """,
    "folder": """
        test bad bent | bolt/test/bent/000.png | bolt/ground_truth/bent/000_mask.png
        test bad deep scratch | bolt/test/deep scratch/000.png | bolt/ground_truth/deep scratch/000.bmp
        test bad deep scratch | bolt/test/deep scratch/001.jpg | bolt/ground_truth/deep scratch/001/a.png \
| bolt/ground_truth/deep scratch/001/b.png
        test good good | bolt/test/good/000.png
        test good good | bolt/test/good/001.tiff
        train bad bad | bolt/train/bad/000.tif
        train good good | bolt/train/good/000.png
        train good good | bolt/train/good/001.BMP
        train good good | bolt/train/good/002.jpeg
        val bad bad | bolt/validation/bad/000.JPG
        val good good | bolt/validation/good/000.webp
        """,
    "manifest": """
        train good good | images/a.png
        train good good day | images/b.png
        val good good | images/c.png
        test good good night | images/d.png
        train bad dent | images/e.png
        test bad dent night | images/f.png | masks/f1.png | masks/f2.png
        test bad bad | images/g.png | masks/g.png
        """,
}
EXPECTED["real_iad"] = EXPECTED["real_iad_flat"].replace("phone_battery/", "realiad_1024/phone_battery/")


def expected_rows(miniature: Miniature) -> list[str]:
    return [line.strip() for line in EXPECTED[miniature.name].strip().splitlines()]


@EVERY
def test_the_sound_miniature_is_read_as_written(miniature: Miniature, sound: dict[str, Path]) -> None:
    root = sound[miniature.name]
    index, warnings = read(miniature, root)
    assert rows(index) == expected_rows(miniature)
    empty = ["03/test/ko/0028.bmp"] if miniature.name == "btad_03" else []
    assert [(warning.code, list(warning.paths)) for warning in warnings] == ([("MASK_EMPTY", empty)] if empty else [])
    assert index.dtypes.astype(str).to_dict() == INDEX_DTYPES
    assert set(index["dataset"]) == {miniature.reader}
    assert set(index["category"]) == {miniature.category}
    assert set(index["has_pixel_labels"]) == {miniature.mask is not None}
    assert index[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[WIDTH, HEIGHT]]
    assert index["sha256"].is_unique
    assert index["file_size"].tolist() == [(root / image).stat().st_size for image in index["image"]]
    assert index["image"].tolist() == sorted(index["image"], key=os.fsencode)


@EVERY
def test_categories_of_the_sound_miniature(miniature: Miniature, sound: dict[str, Path]) -> None:
    root = sound[miniature.name]
    found = list_categories(miniature.reader, root, miniature.options)
    if miniature.reader == "viaduct":  # 37 more categories may lie beside those of the benchmark
        found = {name: place for name, place in found.items() if name in miniature.categories}
    assert sorted(found) == sorted(miniature.categories)
    assert all((root / place).exists() for place in found.values())
    if miniature.category_folder:
        assert found[miniature.category] in (miniature.category_folder, miniature.split_file)


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of everything below a folder."""
    entries = {path.as_posix(): path.stat() for path in (root, *root.rglob("*"))}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in entries.items()}


@EVERY
def test_reading_writes_nothing_and_gives_the_same_table_again(miniature: Miniature, sound: dict[str, Path]) -> None:
    root = sound[miniature.name]
    before = snapshot(root.parent)
    list_categories(miniature.reader, root, miniature.options)
    first, _ = read(miniature, root)
    second, _ = read(miniature, root)
    assert snapshot(root.parent) == before
    pd.testing.assert_frame_equal(first, second)


@EVERY
def test_the_order_in_which_files_were_created_does_not_matter(
    miniature: Miniature, sound: dict[str, Path], tmp_path: Path
) -> None:
    root, copy = sound[miniature.name], tmp_path / miniature.top
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_file():
            (copy / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy / path.relative_to(root))
    pd.testing.assert_frame_equal(read(miniature, root)[0], read(miniature, copy)[0])


@EVERY
def test_the_root_may_be_a_link(miniature: Miniature, sound: dict[str, Path], tmp_path: Path) -> None:
    root, link = sound[miniature.name], tmp_path / miniature.top
    link.symlink_to(root)
    pd.testing.assert_frame_equal(read(miniature, link)[0], read(miniature, root)[0])


@EVERY
def test_every_category_of_the_sound_miniature_can_be_read(miniature: Miniature, sound: dict[str, Path]) -> None:
    root = sound[miniature.name]
    for category in miniature.categories:
        index, warnings = read_index(miniature.reader, root, miniature.reader, category, miniature.options)
        assert {("train", "good"), ("test", "good"), ("test", "bad")} <= set(
            zip(index["split"], index["label"], strict=True)
        )
        assert {warning.code for warning in warnings} <= {"COUNT_MISMATCH", "IMAGE_SIZE", "MASK_EMPTY"}


# --- counts


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("btad_01", ("400", "21", "49")),
        ("btad_02", ("399", "30", "200")),
        ("btad_03", ("1000", "400", "41")),
        ("mpdd", ("289", "32", "47")),
        ("sensum_sodf", ("686", "150", "153")),
        ("mvtec_loco", ("360", "122", "137", "82")),
        ("visa", ("900", "100")),
        ("vad_a", ("2000", "1000", "835", "165")),
        ("vad_b", ("2000", "1000", "835", "165")),
        ("mvtec_ad", ("264", "21", "57")),
    ],
)
def test_published_counts_are_a_warning_and_on_request_an_error(
    name: str, published: tuple[str, ...], tmp_path: Path
) -> None:
    miniature = MINIATURES[name]
    root = miniature.write(tmp_path)
    _, warnings = read_index(miniature.reader, root, miniature.reader, miniature.category, miniature.options)
    text = " ".join(warning.text for warning in warnings if warning.code == "COUNT_MISMATCH")
    assert text.startswith(f"[COUNT_MISMATCH] {miniature.reader}/{miniature.category}: ")
    assert set(published) <= set(re.findall(r"\d+", text))
    assert {finding.code for finding in error_of(miniature, root, strict_counts=True).findings} == {"COUNT_MISMATCH"}


def fill(root: Path, counts: Mapping[str, int], name: str = "{:03d}.png", mask: str = "") -> None:
    """Writes as many different images of 32 x 32 pixels, quickly: copies of one BMP with a number in it."""
    Image.fromarray(np.full((32, 32), 9, np.uint8)).save(root / "all.bmp")
    data = bytearray((root / "all.bmp").read_bytes())
    (root / "all.bmp").unlink()
    for place, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            data[-4:] = bytes((1, place, *divmod(number, 256)))
            file = root / folder / name.format(number)
            (file.with_stem(file.stem + mask) if "ground_truth" in folder else file).write_bytes(data)


FULL = {
    "btad": ("01", "{:04d}.bmp", {"train/ok": 400, "test/ok": 21, "test/ko": 49, "ground_truth/ko": 49}),
    "mpdd": (
        "connector",
        "{:03d}.png",
        {"train/good": 128, "test/good": 30, "test/parts_mismatch": 14, "ground_truth/parts_mismatch": 14},
    ),
    "mvtec_ad": (
        "toothbrush",
        "{:03d}.png",
        {"train/good": 60, "test/good": 12, "test/defective": 30, "ground_truth/defective": 30},
    ),
    "visa": (
        "visa_pytorch/fryum",
        "{:03d}.JPG",
        {"train/good": 450, "test/good": 50, "test/bad": 100, "ground_truth/bad": 100},
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_published_counts_are_accepted(name: str, tmp_path: Path) -> None:
    folder, pattern, counts = FULL[name]
    miniature = next(m for m in MINIATURES.values() if m.reader == name and m.split_file is None)
    root = miniature.write(tmp_path)
    shutil.rmtree(root / folder)
    shutil.rmtree(root / "split_csv", ignore_errors=True)
    mask = "_mask" if name in ("mpdd", "mvtec_ad") else ""
    fill(root, {f"{folder}/{part}": count for part, count in counts.items()}, pattern, mask)
    category = folder.split("/")[-1]
    index, warnings = read_index(name, root, name, category, {"strict_counts": True})
    assert len(index) == sum(counts.values()) - list(counts.values())[-1]
    assert "COUNT_MISMATCH" not in {warning.code for warning in warnings}


# --- BTAD


@pytest.mark.parametrize("folder", ["train/ok", "test/ok", "test/ko"])
def test_btad_half_converted_folder_is_a_collision(folder: str, tmp_path: Path) -> None:
    root = MINIATURES["btad_01"].write(tmp_path)
    Tree(root).image(f"01/{folder}/0000.png")
    error = error_of(MINIATURES["btad_01"], root)
    assert error.code == "NAME_COLLISION"
    assert {f"01/{folder}/0000.bmp", f"01/{folder}/0000.png"} <= set(error.paths)


def test_btad_images_and_masks_may_have_any_extension(tmp_path: Path) -> None:
    root = MINIATURES["btad_01"].write(tmp_path)
    (root / "01/test/ko/0001.bmp").rename(root / "01/test/ko/0001.PNG")
    (root / "01/ground_truth/ko/0000.png").rename(root / "01/ground_truth/ko/0000.tif")
    bad = [line for line in rows(read(MINIATURES["btad_01"], root)[0]) if " bad " in line]
    assert bad == [
        "test bad ko | 01/test/ko/0000.bmp | 01/ground_truth/ko/0000.tif",
        "test bad ko | 01/test/ko/0001.PNG | 01/ground_truth/ko/0001.png",
    ]


# --- the trees like that of MVTec AD

MVTEC_LIKE = pytest.mark.parametrize("miniature", [MINIATURES[name] for name in ("mpdd", "viaduct", "mvtec_ad")])


@MVTEC_LIKE
def test_defect_folder_without_ground_truth(miniature: Miniature, tmp_path: Path) -> None:
    root = miniature.write(tmp_path)
    image = f"{miniature.category_folder}/test/dent/000.png"
    Tree(root).image(image)
    error = error_of(miniature, root)
    assert {finding.code for finding in error.findings} <= {"MASK_MISSING", "FOLDER_MISSING"}
    assert f"{miniature.category_folder}/ground_truth/dent" in error.message
    assert "1 of 4 bad test images have no mask" in error.message


@MVTEC_LIKE
def test_ground_truth_folder_without_defect(miniature: Miniature, tmp_path: Path) -> None:
    root = miniature.write(tmp_path)
    mask = f"{miniature.category_folder}/ground_truth/dent/000.png"
    Tree(root).mask(mask)
    error = error_of(miniature, root)
    assert {finding.code for finding in error.findings} <= {"MASK_ORPHAN", "FOLDER_MISSING"}
    assert any(finding.code == "MASK_ORPHAN" and finding.paths == (mask,) for finding in error.findings)


@MVTEC_LIKE
@pytest.mark.parametrize("part", ["test", "ground_truth"])
def test_empty_defect_folder_on_one_side_is_reported(miniature: Miniature, part: str, tmp_path: Path) -> None:
    root = miniature.write(tmp_path)
    folder = f"{miniature.category_folder}/{part}/dent"
    (root / folder).mkdir()
    try:
        texts = [warning.text for warning in read(miniature, root)[1]]
    except DatasetError as error:
        texts = [error.message]
    assert any("dent" in text for text in texts)


@MVTEC_LIKE
def test_defect_folders_that_differ_in_case_are_a_collision(miniature: Miniature, tmp_path: Path) -> None:
    root = miniature.write(tmp_path)
    assert miniature.mask
    image, mask = (Path(path) for path in (miniature.test_bad, miniature.mask))
    other_image = image.parent.with_name(image.parent.name.title()) / image.name
    other_mask = mask.parent.with_name(mask.parent.name.title()) / mask.name
    Tree(root).image(other_image.as_posix())
    Tree(root).mask(other_mask.as_posix())
    error = error_of(miniature, root)
    assert_only(error, "NAME_COLLISION", other_image.as_posix(), "differ only in case")
    assert image.as_posix() in error.paths


@pytest.mark.parametrize(
    ("name", "mask", "second"),
    [
        ("mpdd", "bracket_black/ground_truth/hole/000_mask.png", "bracket_black/ground_truth/hole/000.png"),
        ("mvtec_ad", "grid/ground_truth/bent/000_mask.png", "grid/ground_truth/bent/000.png"),
        (
            "viaduct",
            "11 ring cable lug/ground_truth/bent/000.png",
            "11 ring cable lug/ground_truth/bent/000_mask.bmp",
        ),
    ],
)
def test_second_choice_of_a_mask(name: str, mask: str, second: str, tmp_path: Path) -> None:
    root = MINIATURES[name].write(tmp_path)
    (root / mask).rename(root / second)
    index, warnings = read(MINIATURES[name], root)
    assert warnings == []
    assert rows(index) == [line.replace(mask, second) for line in expected_rows(MINIATURES[name])]


@MVTEC_LIKE
def test_image_one_does_not_take_the_mask_of_image_ten(miniature: Miniature, tmp_path: Path) -> None:
    root = miniature.write(tmp_path)
    assert miniature.mask
    image, mask = (root / path for path in (miniature.test_bad, miniature.mask))
    image.rename(image.with_name("1.png"))
    mask.rename(mask.with_name(mask.name.replace("000", "10")))
    error = error_of(miniature, root)
    assert {finding.code for finding in error.findings} == {"MASK_MISSING", "MASK_ORPHAN"}


# --- VIADUCT


def test_viaduct_two_folders_of_one_name_are_a_collision(tmp_path: Path) -> None:
    root = MINIATURES["viaduct"].write(tmp_path)
    shutil.copytree(root / "11 ring cable lug", root / "12_Ring_Cable_Lug")
    error = error_of(MINIATURES["viaduct"], root)
    assert error.code == "NAME_COLLISION"
    assert "11 ring cable lug" in error.message
    assert "12_Ring_Cable_Lug" in error.message


@pytest.mark.parametrize(
    ("category", "before", "after"),
    [
        ("3_pole_socket_housing", "3_pole_socket_housing", "26 3 pole socket housing"),
        ("3_pole_socket_housing", "3_pole_socket_housing", "3 Pole Socket Housing"),
        ("ring_cable_lug", "11 ring cable lug", "ring_cable_lug"),
        ("ring_cable_lug", "11 ring cable lug", "011_Ring cable_lug"),
        ("terminal_block_a", "40 terminal block A", "40_terminal_block_a"),
    ],
)
def test_viaduct_name_rule(category: str, before: str, after: str, tmp_path: Path) -> None:
    root = MINIATURES["viaduct"].write(tmp_path)
    (root / before).rename(root / after)
    assert list_categories("viaduct", root, {})[category] == after
    index, _ = read_index("viaduct", root, "viaduct", category, {})
    assert set(index["category"]) == {category}
    assert all(image.startswith(f"{after}/") for image in index["image"])


def test_viaduct_missing_category_names_the_raw_folders(tmp_path: Path) -> None:
    root = MINIATURES["viaduct"].write(tmp_path)
    shutil.rmtree(root / "11 ring cable lug")
    error = error_of(MINIATURES["viaduct"], root)
    assert error.code == "CATEGORY_MISSING"
    assert "category ring_cable_lug not found" in error.message
    assert "17 Mains Tester" in error.message
    assert "05_cable_end_sleeve" in error.message


# --- SensumSODF


def drawn(counts: Mapping[str, int], test_count: int) -> dict[str, set[str]]:
    """The draw of the specification: sorted names, one generator, capsule first, the first ones to test."""
    generator = random.Random(143)
    result = {}
    for category in ("capsule", "softgel"):
        names = [f"{number:03d}.png" for number in range(counts[category])]
        generator.shuffle(names)
        result[category] = {f"{category}/negative/data/{name}" for name in names[:test_count]}
    return result


def good_test_images(index: pd.DataFrame) -> set[str]:
    return set(index.loc[(index["split"] == "test") & (index["label"] == "good"), "image"])


@pytest.mark.parametrize("category", ["capsule", "softgel"])
def test_sensum_draw_of_a_miniature(category: str, tmp_path: Path) -> None:
    root = MINIATURES["sensum_sodf"].write(tmp_path)
    index, _ = read_index("sensum_sodf", root, "sensum_sodf", category, {"test_count": 2})
    assert good_test_images(index) == drawn({"capsule": 6, "softgel": 5}, 2)[category]


def test_sensum_draw_of_the_real_names(tmp_path: Path) -> None:
    good, bad = {"capsule": 836, "softgel": 846}, {"capsule": 153, "softgel": 345}
    fill(
        tmp_path,
        {f"{name}/negative/data": count for name, count in good.items()}
        | {f"{name}/positive/{part}": count for name, count in bad.items() for part in ("data", "annotation")},
    )
    for category, count in good.items():
        index, warnings = read_index("sensum_sodf", tmp_path, "sensum_sodf", category, {"strict_counts": True})
        assert good_test_images(index) == drawn(good, 150)[category]
        assert len(index) == count + bad[category]
        assert "COUNT_MISMATCH" not in {warning.code for warning in warnings}


def test_sensum_stored_name_without_a_file(tmp_path: Path) -> None:
    miniature = MINIATURES["sensum_sodf"]
    test_good = {"capsule": ["001.png", "777.png"], "softgel": ["000.png"]}
    error = error_of(miniature, miniature.write(tmp_path), test_good=test_good)
    assert_only(error, "FILE_MISSING", "capsule/negative/data/777.png", "1 of 2 files named in")


@pytest.mark.parametrize("test_count", [6, 7, 150])
def test_sensum_needs_one_good_image_more_than_are_drawn(test_count: int, tmp_path: Path) -> None:
    root = MINIATURES["sensum_sodf"].write(tmp_path)
    with pytest.raises(DatasetError, match=r"\[SPLIT_EMPTY\] sensum_sodf/capsule: no good image in train"):
        read_index("sensum_sodf", root, "sensum_sodf", "capsule", {"test_count": test_count})


@pytest.mark.parametrize(
    "test_good",
    [
        {},
        {"softgel": ["001.png"]},
        {"capsule": []},
        {"capsule": "001.png"},
        {"capsule": [1]},
        {"capsule": ["001.png", "001.png"]},
        {"capsule": ["../../positive/data/000.png"]},
        {"capsule": [""]},
        ["001.png"],
        7,
    ],
)
def test_sensum_list_that_cannot_be_used(test_good: Any, tmp_path: Path) -> None:
    miniature = MINIATURES["sensum_sodf"]
    assert "capsule" in error_of(miniature, miniature.write(tmp_path), test_good=test_good).message


@pytest.mark.parametrize("test_count", [-1, 0, "2", 2.5])
def test_sensum_count_that_cannot_be_used(test_count: Any, tmp_path: Path) -> None:
    root = MINIATURES["sensum_sodf"].write(tmp_path)
    with pytest.raises(DatasetError) as caught:
        read_index("sensum_sodf", root, "sensum_sodf", "capsule", {"test_count": test_count})
    assert caught.value.code in ("OPTION_INVALID", "SPLIT_EMPTY")


# --- MVTec LOCO AD


def test_loco_value_that_the_configuration_lacks(tmp_path: Path) -> None:
    miniature = MINIATURES["mvtec_loco"]
    root = miniature.write(tmp_path)
    mask = "screw_bag/ground_truth/logical_anomalies/000/001.png"
    Tree(root).mask(mask, 100)
    _, warnings = read(miniature, root)
    assert [(warning.code, warning.paths) for warning in warnings] == [("MASK_VALUES", (mask,))]
    assert "100" in warnings[0].text


def test_loco_without_configuration_any_value_will_do(tmp_path: Path) -> None:
    miniature = MINIATURES["mvtec_loco"]
    root = miniature.write(tmp_path)
    (root / "screw_bag/defects_config.json").unlink()
    Tree(root).mask("screw_bag/ground_truth/logical_anomalies/000/001.png", 100)
    assert read(miniature, root)[1] == []


def test_loco_one_of_two_masks_may_be_empty(tmp_path: Path) -> None:
    miniature = MINIATURES["mvtec_loco"]
    root = miniature.write(tmp_path)
    Tree(root).mask("screw_bag/ground_truth/logical_anomalies/000/001.png", 0)
    assert read(miniature, root)[1] == []


def test_loco_every_mask_of_an_image_has_its_size(tmp_path: Path) -> None:
    miniature = MINIATURES["mvtec_loco"]
    root = miniature.write(tmp_path)
    mask = "screw_bag/ground_truth/logical_anomalies/000/001.png"
    Tree(root).mask(mask, 255, width=WIDTH + 1)
    assert_only(error_of(miniature, root), "MASK_SIZE", mask)


def test_loco_mask_folder_without_a_file(tmp_path: Path) -> None:
    miniature = MINIATURES["mvtec_loco"]
    root = miniature.write(tmp_path)
    for mask in (root / "screw_bag/ground_truth/logical_anomalies/000").glob("0*.png"):
        mask.unlink()
    error = error_of(miniature, root)
    assert_only(error, "MASK_MISSING", "screw_bag/test/logical_anomalies/000.png", "1 of 3 bad test images")


def test_loco_empty_mask_folder_without_an_image_is_reported(tmp_path: Path) -> None:
    miniature = MINIATURES["mvtec_loco"]
    root = miniature.write(tmp_path)
    (root / "screw_bag/ground_truth/logical_anomalies/999").mkdir()
    try:
        texts = [warning.text for warning in read(miniature, root)[1]]
    except DatasetError as error:
        texts = [error.message]
    assert any("screw_bag/ground_truth/logical_anomalies/999" in text for text in texts)


# --- VisA


def test_visa_interrupted_copy_beside_the_original_does_no_harm(tmp_path: Path) -> None:
    miniature = MINIATURES["visa"]
    root = miniature.write(tmp_path)
    MINIATURES["visa_anomalib"].make(root)
    shutil.rmtree(root / "visa_pytorch/candle/test")
    (root / "visa_pytorch/candle/train/good/0000.JPG").unlink()
    index, warnings = read(miniature, root)
    assert rows(index) == expected_rows(miniature)
    assert warnings == []


@pytest.mark.parametrize("name", ["visa_anomalib", "visa_owners"])
def test_visa_prepared_counts_must_be_those_of_the_csv(name: str, tmp_path: Path) -> None:
    miniature = MINIATURES[name]
    root = miniature.write(tmp_path)
    (root / miniature.train_good[0]).unlink()
    error = error_of(miniature, root)
    assert [finding.code for finding in error.findings] == ["COUNT_MISMATCH"]
    assert "train good: 2 found, 3 expected" in error.message


@pytest.mark.parametrize("name", ["visa_anomalib", "visa_owners"])
def test_visa_prepared_counts_without_the_csv_must_be_the_published_ones(name: str, tmp_path: Path) -> None:
    miniature = MINIATURES[name]
    root = miniature.write(tmp_path)
    shutil.rmtree(root / "split_csv")
    error = error_of(miniature, root)
    assert [finding.code for finding in error.findings] == ["COUNT_MISMATCH"]
    assert {"900", "100"} <= set(re.findall(r"\d+", error.message))


def test_visa_category_that_the_csv_lacks(tmp_path: Path) -> None:
    miniature = MINIATURES["visa"]
    root = miniature.write(tmp_path)
    csv = root / "split_csv/1cls.csv"
    csv.write_text("".join(line for line in csv.read_text().splitlines(True) if not line.startswith("candle,")))
    assert "candle" in error_of(miniature, root).message


def test_visa_anomaly_without_mask(tmp_path: Path) -> None:
    miniature = MINIATURES["visa"]
    root = miniature.write(tmp_path)
    Tree(root).image("candle/Data/Images/Anomaly/002.JPG")
    add_entry(miniature, root, "candle/Data/Images/Anomaly/002.JPG", TEST_BAD)
    error = error_of(miniature, root)
    assert error.code == "MASK_MISSING"
    assert error.paths == ("candle/Data/Images/Anomaly/002.JPG",)


# --- AeBAD-S


def remove(root: Path, *folders: str) -> None:
    for folder in folders:
        shutil.rmtree(root / "AeBAD_S" / folder)


@pytest.mark.parametrize("domain", ["same", "view"])
@pytest.mark.parametrize("kinds", [("good",), AEBAD_DEFECTS, ("good", *AEBAD_DEFECTS)], ids=["good", "bad", "both"])
def test_aebad_domain_missing_or_with_one_class(domain: str, kinds: tuple[str, ...], tmp_path: Path) -> None:
    miniature = MINIATURES["aebad_s"]
    root = miniature.write(tmp_path)
    remove(root, *(f"test/{kind}/{domain}" for kind in kinds))
    remove(root, *(f"ground_truth/{kind}/{domain}" for kind in kinds if kind != "good"))
    error = error_of(miniature, root)
    assert "DOMAIN_MISSING" in {finding.code for finding in error.findings}
    assert {finding.code for finding in error.findings} <= {"DOMAIN_MISSING", "FOLDER_MISSING"}
    assert domain in next(finding.text for finding in error.findings if finding.code == "DOMAIN_MISSING")


def test_aebad_defect_type_may_lack_a_domain(tmp_path: Path) -> None:
    miniature = MINIATURES["aebad_s"]
    root = miniature.write(tmp_path)
    remove(root, "test/groove/view", "ground_truth/groove/view")
    index, warnings = read(miniature, root)
    assert rows(index) == [line for line in expected_rows(miniature) if "groove/view" not in line]
    assert [warning.code for warning in warnings] == ["DOMAIN_MISSING"]
    assert "groove" in warnings[0].text
    assert "view" in warnings[0].text


def test_aebad_masks_are_paired_within_their_domain(tmp_path: Path) -> None:
    miniature = MINIATURES["aebad_s"]
    root = miniature.write(tmp_path)
    masks = root / "AeBAD_S/ground_truth/groove"
    (masks / "view/IMG_1.png").rename(masks / "same/IMG_2.png")
    error = error_of(miniature, root)
    assert [(finding.code, finding.paths) for finding in error.findings] == [
        ("MASK_MISSING", ("AeBAD_S/test/groove/view/IMG_1.png",)),
        ("MASK_ORPHAN", ("AeBAD_S/ground_truth/groove/same/IMG_2.png",)),
    ]


@pytest.mark.parametrize("image", ["test/good/night/IMG_1.png", "train/good/same/IMG_1.png", "test/good/IMG_1.png"])
def test_aebad_image_outside_the_domains_is_reported(image: str, tmp_path: Path) -> None:
    miniature = MINIATURES["aebad_s"]
    root = miniature.write(tmp_path)
    Tree(root).image(f"AeBAD_S/{image}")
    try:
        texts = [warning.text for warning in read(miniature, root)[1]]
    except DatasetError as error:
        texts = [error.message]
    assert any(Path(f"AeBAD_S/{image}").parent.as_posix() in text for text in texts)


# --- VAD


@pytest.mark.parametrize(("name", "release"), [("vad_b", "release b"), ("vad_c", "release c")])
def test_vad_release_without_bad_training_images(name: str, release: str, tmp_path: Path) -> None:
    miniature = MINIATURES[name]
    error = error_of(miniature, miniature.write(tmp_path), needed_by="supervised")
    assert_only(error, "FOLDER_MISSING", "train/bad", "required folder train/bad is missing", "supervised", release)


def test_vad_original_release_serves_every_experiment(tmp_path: Path) -> None:
    miniature = MINIATURES["vad_a"]
    index, warnings = read(miniature, miniature.write(tmp_path), needed_by="supervised")
    assert rows(index) == expected_rows(miniature)
    assert warnings == []


def test_vad_masks_are_ignored_unless_asked_for(tmp_path: Path) -> None:
    miniature = MINIATURES["vad_c"]
    root = miniature.write(tmp_path)
    (root / "ground_truth/bad/1.png").write_bytes(b"")
    index, warnings = read(miniature, root, pixel_labels=False)
    assert rows(index) == expected_rows(MINIATURES["vad_b"])
    assert not index["has_pixel_labels"].any()
    assert warnings == []


def test_vad_original_release_with_masks_added(tmp_path: Path) -> None:
    miniature = MINIATURES["vad_a"]
    root = miniature.write(tmp_path)
    for mask in ("bad/1", "bad/12", "bad_unseen_defects/1"):
        Tree(root).mask(f"ground_truth/{mask}.png")
    index, warnings = read(miniature, root, pixel_labels=True)
    bad_in_train = [line for line in expected_rows(miniature) if line.startswith("train bad")]
    assert sorted(rows(index)) == sorted(expected_rows(MINIATURES["vad_c"]) + bad_in_train)
    assert index["has_pixel_labels"].all()
    assert warnings == []


@pytest.mark.parametrize(("key", "unused"), [("1", ("1", "20")), ("5", ("3",))])
def test_vad_low_shot(key: str, unused: tuple[str, ...], tmp_path: Path) -> None:
    miniature = MINIATURES["vad_a"]
    index, warnings = read(miniature, miniature.write(tmp_path), low_shot=key)
    dropped = {f"train bad bad | train/bad/{name}.png" for name in unused}
    assert rows(index) == [line for line in expected_rows(miniature) if line not in dropped]
    assert warnings == []


def test_vad_unknown_low_shot_key_names_the_known_ones(tmp_path: Path) -> None:
    miniature = MINIATURES["vad_a"]
    message = error_of(miniature, miniature.write(tmp_path), low_shot="9").message
    assert "low_shot_train.json" in message
    assert "1, 5" in message


def test_vad_low_shot_file_without_image(tmp_path: Path) -> None:
    miniature = MINIATURES["vad_a"]
    root = miniature.write(tmp_path)
    (root / "train/bad/20.png").unlink()
    error = error_of(miniature, root, low_shot="5")
    assert_only(error, "FILE_MISSING", "train/bad/20.png", "1 of 2 files named in low_shot_train.json do not exist")


def test_vad_low_shot_file_missing(tmp_path: Path) -> None:
    miniature = MINIATURES["vad_a"]
    root = miniature.write(tmp_path)
    (root / "low_shot_train.json").unlink()
    error = error_of(miniature, root, low_shot="5")
    assert error.code == "SPLITFILE_INVALID"
    assert "low_shot_train.json" in error.message


def test_vad_low_shot_file_is_not_opened_without_need(tmp_path: Path) -> None:
    miniature = MINIATURES["vad_a"]
    root = miniature.write(tmp_path)
    (root / "low_shot_train.json").write_text("[")
    assert rows(read(miniature, root)[0]) == expected_rows(miniature)


# --- Real-IAD

REAL_IAD = MINIATURES["real_iad"]
PARTS = "realiad_1024/phone_battery"


def test_real_iad_other_camera(tmp_path: Path) -> None:
    root = REAL_IAD.write(tmp_path)
    image = f"{PARTS}/{real_iad_path('phone_battery', 3, camera=2)}"
    add_entry(REAL_IAD, root, image, TEST_GOOD)
    assert_only(error_of(REAL_IAD, root), "VIEW_MIXED", image)


def test_real_iad_bad_image_without_mask(tmp_path: Path) -> None:
    root = REAL_IAD.write(tmp_path)
    image = f"{PARTS}/{real_iad_path('phone_battery', 8, 'AK')}"
    Tree(root).image(image)
    add_entry(REAL_IAD, root, image, TEST_BAD)
    assert_only(error_of(REAL_IAD, root), "MASK_MISSING", image, "1 of 3 bad test images have no mask")


def test_real_iad_image_in_train_and_test(tmp_path: Path) -> None:
    root = REAL_IAD.write(tmp_path)
    add_entry(REAL_IAD, root, REAL_IAD.train_good[0], TEST_GOOD)
    error = error_of(REAL_IAD, root)
    assert error.code in ("SPLITFILE_INVALID", "DUPLICATE_TRAIN_TEST")
    assert REAL_IAD.train_good[0].removeprefix(f"{PARTS}/") in error.message


def test_real_iad_smaller_resolution_on_request(tmp_path: Path) -> None:
    root = REAL_IAD.write(tmp_path)
    shutil.rmtree(root / "realiad_512")
    (root / "realiad_1024").rename(root / "realiad_512")
    index, _ = read(REAL_IAD, root, resolution=512)
    assert rows(index) == [line.replace("realiad_1024", "realiad_512") for line in expected_rows(REAL_IAD)]
    error = error_of(REAL_IAD, root)
    assert error.code in ("FOLDER_MISSING", "LAYOUT_UNKNOWN", "CATEGORY_MISSING")
    assert "realiad_1024" in error.message


def test_real_iad_incomplete_resolution(tmp_path: Path) -> None:
    error = error_of(REAL_IAD, REAL_IAD.write(tmp_path), resolution=512)
    assert error.code == "FILE_MISSING"
    assert error.paths[0].startswith("realiad_512/phone_battery/")


@pytest.mark.parametrize("resolution", [0, -1, 7, "large", 1024.5, None])
def test_real_iad_resolution_that_does_not_exist(resolution: Any, tmp_path: Path) -> None:
    root = REAL_IAD.write(tmp_path)
    error = error_of(REAL_IAD, root, resolution=resolution)
    assert error.code in ("OPTION_INVALID", "FOLDER_MISSING", "LAYOUT_UNKNOWN", "CATEGORY_MISSING")
    assert str(resolution) in error.message


# --- a manifest asked for


def test_manifest_of_another_name(tmp_path: Path) -> None:
    miniature = MINIATURES["manifest"]
    root = miniature.write(tmp_path)
    (root / "manifest.csv").rename(root / "parts.csv")
    index, _ = read(miniature, root, manifest="parts.csv")
    assert rows(index) == expected_rows(miniature)
    assert append_line(root / "parts.csv", "images/a.png,train,good,,,") == 9
    assert "parts.csv, line 9: " in error_of(miniature, root, manifest="parts.csv").message
    (root / "parts.csv").unlink()
    error = error_of(miniature, root, manifest="parts.csv")
    assert error.code == "SPLITFILE_INVALID"
    assert "parts.csv" in error.message


def test_the_json_of_real_iad_is_the_single_view_one(tmp_path: Path) -> None:
    root = REAL_IAD.write(tmp_path)
    for family in ("realiad_jsons", "realiad_jsons_fuiad_0.1"):
        path = root / f"realiad_jsons/{family}/phone_battery.json"
        assert any("_C2_" in e["image_path"] or e["mask_path"] for e in json.loads(path.read_text())["train"])
        path.write_text("[")
    assert rows(read(REAL_IAD, root)[0]) == expected_rows(REAL_IAD)
