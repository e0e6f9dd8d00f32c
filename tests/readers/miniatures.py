"""A miniature of every dataset: small images in a tree that has every quirk of the real one.

Written from the dataset specification (section 4), without a look at the readers. Every image is noise seeded
by its own path, so no two images are equal, and a miniature is the same wherever it is written.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 44, 40
SQUARE = 5

Place = tuple[str, str]
TRAIN_GOOD, TEST_GOOD, TEST_BAD = ("train", "good"), ("test", "good"), ("test", "bad")


# --- writing


@dataclass(frozen=True)
class Tree:
    """Writes files below a root; paths are relative to it."""

    root: Path

    def image(self, *paths: str, mode: str = "RGB", kind: str | None = None) -> None:
        """Writes noise images; ``kind`` is the format where the extension does not tell it."""
        for path in paths:
            noise = np.random.default_rng(zlib.crc32(path.encode())).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            Image.fromarray(noise).convert(mode).save(self._new(path), kind)

    def mask(self, path: str, *values: int, width: int = WIDTH, mode: str = "L") -> None:
        """Writes a mask with one square for each value, 255 unless told otherwise."""
        mask = np.zeros((HEIGHT, width), np.uint8)
        for place, value in enumerate(values or (255,)):
            corner = place * SQUARE
            mask[corner : corner + SQUARE, corner : corner + SQUARE] = value
        Image.fromarray(mask).convert(mode).save(self._new(path))

    def text(self, path: str, content: str = "x") -> None:
        """Writes a text file."""
        self._new(path).write_text(content, encoding="utf-8")

    def json(self, path: str, content: object) -> None:
        """Writes a JSON file."""
        self.text(path, json.dumps(content, indent=1))

    def table(self, path: str, header: str, rows: Iterable[str]) -> None:
        """Writes a CSV file."""
        self.text(path, "\n".join([header, *rows]) + "\n")

    def clutter(self, folder: str) -> None:
        """Writes what operating systems leave behind, some of it with an image's extension."""
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._000.png", "._0000.bmp"):
            self.text(f"{folder}/{name}")
        self.text(f"__MACOSX/{folder}/._000.png")

    def _new(self, path: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


@dataclass(frozen=True)
class Miniature:
    """What is where in a miniature; all paths are relative to its root.

    Attributes:
        name: Name of the variant.
        reader: Name of the reader, used as the name of the dataset too.
        make: Writes the tree.
        top: Name of the root folder.
        category: The category that is read.
        categories: All categories that the tree holds.
        train_good: Two good training images.
        test_good: A good test image.
        test_bad: A bad test image.
        mask: Its mask, None in a dataset without pixel labels.
        folders: Folders that hold the images of a split and label.
        required: Folders without which the category cannot be read.
        too_low: A folder that is easily mistaken for the root.
        category_folder: Folder of the category, None where it has none of its own.
        split_file: CSV or JSON that lists the images, None where the folders are the split.
        orphan: Where a mask would lie that belongs to no image.
        mask_on_good: Where a mask of ``test_good`` would lie, None where only the split file could name it.
        bad_in_train: Where a bad training image would lie, None where there is no place or where it is allowed.
        counted: Whether the specification gives the counts of the category.
        options: Options of the reader.
    """

    name: str
    reader: str
    make: Callable[[Path], None]
    top: str
    category: str
    categories: tuple[str, ...]
    train_good: tuple[str, str]
    test_good: str
    test_bad: str
    mask: str | None
    folders: dict[Place, tuple[str, ...]]
    required: tuple[str, ...]
    too_low: str
    category_folder: str | None
    split_file: str | None = None
    orphan: str | None = None
    mask_on_good: str | None = None
    bad_in_train: str | None = None
    counted: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, parent: Path) -> Path:
        """Writes the tree into a folder and returns its root."""
        root = parent / self.top
        self.make(root)
        return root


# --- trees like that of MVTec AD


def _mvtec_category(
    tree: Tree, folder: str, defects: dict[str, int], *, is_read: bool = False, mask: str = "_mask", mode: str = "RGB"
) -> None:
    """A category; the one that is read in most tests has more images."""
    for number in range(3 if is_read else 1):
        tree.image(f"{folder}/train/good/{number:03d}.png", mode=mode)
    for number in range(2 if is_read else 1):
        tree.image(f"{folder}/test/good/{number:03d}.png", mode=mode)
    for defect, count in defects.items():
        for number in range(count):
            tree.image(f"{folder}/test/{defect}/{number:03d}.png", mode=mode)
            tree.mask(f"{folder}/ground_truth/{defect}/{number:03d}{mask}.png")


def _mvtec_like(name: str, folder: str, defect: str, mask: str = "_mask", **others: Any) -> Miniature:
    return Miniature(
        name,
        train_good=(f"{folder}/train/good/000.png", f"{folder}/train/good/001.png"),
        test_good=f"{folder}/test/good/000.png",
        test_bad=f"{folder}/test/{defect}/000.png",
        mask=f"{folder}/ground_truth/{defect}/000{mask}.png",
        orphan=f"{folder}/ground_truth/{defect}/999{mask}.png",
        mask_on_good=f"{folder}/ground_truth/good/000{mask}.png",
        required=(f"{folder}/train/good", f"{folder}/test/good", f"{folder}/ground_truth"),
        too_low=folder,
        category_folder=folder,
        bad_in_train=f"{folder}/train/{defect}/007.png",
        **others,
    )


def _splits(folder: str, *defects: str) -> dict[Place, tuple[str, ...]]:
    return {
        TRAIN_GOOD: (f"{folder}/train/good",),
        TEST_GOOD: (f"{folder}/test/good",),
        TEST_BAD: tuple(f"{folder}/test/{defect}" for defect in defects),
    }


MPDD_DEFECTS = {
    "bracket_black": {"hole": 1, "scratches": 2},
    "bracket_brown": {"bend_and_parts_mismatch": 1, "parts_mismatch": 1},
    "bracket_white": {"defective_painting": 1, "scratches": 1},
    "connector": {"parts_mismatch": 1},
    "metal_plate": {"major_rust": 1, "scratches": 1, "total_rust": 1},
    "tubes": {"anomalous": 1},
}


def make_mpdd(root: Path) -> None:
    """MPDD: six categories, masks with the suffix ``_mask``."""
    tree = Tree(root)
    for category, defects in MPDD_DEFECTS.items():
        _mvtec_category(tree, category, defects, is_read=category == "bracket_black")
    tree.clutter("bracket_black/train/good")
    tree.clutter("bracket_black/ground_truth/hole")


MVTEC_DEFECTS = {
    "bottle": {"broken_large": 1, "broken_small": 1, "contamination": 1},
    "cable": {"bent_wire": 1},
    "capsule": {"crack": 1},
    "carpet": {"color": 1},
    "grid": {"bent": 1, "glue": 2},
    "hazelnut": {"crack": 1},
    "leather": {"color": 1},
    "metal_nut": {"bent": 1},
    "pill": {"color": 1},
    "screw": {"manipulated_front": 1},
    "tile": {"crack": 1},
    "toothbrush": {"defective": 1},
    "transistor": {"bent_lead": 1},
    "wood": {"color": 1},
    "zipper": {"broken_teeth": 1},
}
SINGLE_CHANNEL = ("grid", "screw", "zipper")


def make_mvtec_ad(root: Path) -> None:
    """MVTec AD: fifteen categories with two text files each, three of them grey."""
    tree = Tree(root)
    for category, defects in MVTEC_DEFECTS.items():
        mode = "L" if category in SINGLE_CHANNEL else "RGB"
        _mvtec_category(tree, category, defects, is_read=category == "grid", mode=mode)
        tree.text(f"{category}/license.txt")
        tree.text(f"{category}/readme.txt")
    tree.clutter("grid/test/glue")


VIADUCT_FOLDERS = {
    "3_pole_socket_housing": "3_pole_socket_housing",
    "cylinder_screw": "04_cylinder_screw",
    "damper_large": "06 damper large",
    "dsub_connector": "09 dsub connector",
    "mains_tester": "17 Mains Tester",
    "pcb": "21 pcb",
    "retractor": "27_retractor",
    "ring_cable_lug": "11 ring cable lug",
    "tack": "38 Tack",
    "terminal_block_a": "40 terminal block A",
    "threaded_fitting": "44 threaded fitting",
    "valve_handle_blue": "47_valve_handle_blue",
}
"""Raw folder of every category: running numbers, blanks or underscores, capitals, and a number of its own."""


def make_viaduct(root: Path) -> None:
    """VIADUCT: numbered folders with blanks, masks named like their images, and a category of another subset."""
    tree = Tree(root)
    for folder in (*VIADUCT_FOLDERS.values(), "05_cable_end_sleeve"):
        is_read = folder.startswith("11")
        defects = {"bent": 1, "deep scratch": 2} if is_read else {"scratch": 1}
        _mvtec_category(tree, folder, defects, is_read=is_read, mask="")
    tree.image("11 ring cable lug/val/good/000.png")
    tree.clutter("11 ring cable lug/test/good")


# --- trees of their own


def make_btad(root: Path) -> None:
    """BTAD: other extensions in every category, names that repeat in every folder, all-zero masks in 03."""
    tree = Tree(root)
    for category, image, mask, bad in (("01", "bmp", "png", 0), ("02", "png", "png", 0), ("03", "bmp", "bmp", 27)):
        for folder, count in (("train/ok", 3), ("test/ok", 2)):
            tree.image(*(f"{category}/{folder}/{number:04d}.{image}" for number in range(count)))
        for number in (bad, bad + 1):
            tree.image(f"{category}/test/ko/{number:04d}.{image}")
            tree.mask(f"{category}/ground_truth/ko/{number:04d}.{mask}", 0 if number == 28 else 255)
    tree.clutter("01/train/ok")
    tree.clutter("01/ground_truth/ko")


def make_sensum_sodf(root: Path) -> None:
    """SensumSODF: no split, the same numbers under negative and positive."""
    tree = Tree(root)
    for category, good, bad in (("capsule", 6, 2), ("softgel", 5, 3)):
        tree.image(*(f"{category}/negative/data/{number:03d}.png" for number in range(good)))
        for number in range(bad):
            tree.image(f"{category}/positive/data/{number:03d}.png")
            tree.mask(f"{category}/positive/annotation/{number:03d}.png")
    tree.clutter("capsule/negative/data")
    tree.clutter("capsule/positive/annotation")


LOCO_CATEGORIES = ("breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors")
LOCO_VALUES = (236, 237, 254, 255)


def make_mvtec_loco(root: Path) -> None:
    """MVTec LOCO AD: a folder of masks per image, values that number the defect types, an own validation part."""
    tree = Tree(root)
    for category in LOCO_CATEGORIES:
        is_read = category == "screw_bag"
        tree.image(*(f"{category}/train/good/{number:03d}.png" for number in range(3 if is_read else 1)))
        tree.image(f"{category}/validation/good/000.png")
        tree.image(*(f"{category}/test/good/{number:03d}.png" for number in range(2 if is_read else 1)))
        for kind, images in (
            ("logical_anomalies", ((236, 254), (255,))),
            ("structural_anomalies", ((237,),)),
        ):
            for number, values in enumerate(images):
                tree.image(f"{category}/test/{kind}/{number:03d}.png")
                for mask, value in enumerate(values):
                    tree.mask(f"{category}/ground_truth/{kind}/{number:03d}/{mask:03d}.png", value)
        defects = [
            {"defect_name": f"d{v}", "pixel_value": v, "saturation_threshold": 1.0, "relative_saturation": True}
            for v in LOCO_VALUES
        ]
        tree.json(f"{category}/defects_config.json", defects)
    tree.text("license.txt")
    tree.text("readme.txt")
    tree.clutter("screw_bag/ground_truth/logical_anomalies/000")
    tree.clutter("screw_bag/ground_truth/structural_anomalies")
    tree.clutter("screw_bag/validation/good")


VISA_CATEGORIES = (
    *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
    *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
)
VISA_HEADER = "object,split,label,image,mask"


def _visa_numbers(category: str) -> tuple[dict[int, str], list[tuple[int, ...]]]:
    """Split of every normal image by its number, and the class ids in the mask of every anomaly."""
    if category == "candle":
        return {0: "train", 1: "test", 2: "train", 3: "test", 4: "train"}, [(1, 2), (1,)]
    return {0: "train", 1: "test"}, [(3,)]


def _visa_paths(category: str, number: int) -> tuple[str, str, str]:
    """A normal image, an anomaly and its mask."""
    images = f"{category}/Data/Images"
    mask = f"{category}/Data/Masks/Anomaly/{number:03d}.png"
    return f"{images}/Normal/{number:04d}.JPG", f"{images}/Anomaly/{number:03d}.JPG", mask


def _write_visa_lists(tree: Tree) -> None:
    one_class, two_classes = [], []
    for category in VISA_CATEGORIES:
        normal, anomalies = _visa_numbers(category)
        for number, split in normal.items():
            one_class.append(f"{category},{split},normal,{_visa_paths(category, number)[0]},")
        for number in range(len(anomalies)):
            image_and_mask = ",".join(_visa_paths(category, number)[1:])
            one_class.append(f"{category},test,anomaly,{image_and_mask}")
            two_classes.append(f"{category},{'test' if number else 'train'},anomaly,{image_and_mask}")
    tree.table("split_csv/1cls.csv", VISA_HEADER, one_class)
    tree.table("split_csv/2cls_fewshot.csv", VISA_HEADER, two_classes)
    tree.table("split_csv/2cls_highshot.csv", VISA_HEADER, two_classes)


def make_visa(root: Path) -> None:
    """VisA as downloaded: extensions in capitals, class ids in the masks, two split files that are not used."""
    tree = Tree(root)
    for category in VISA_CATEGORIES:
        annotations = []
        normal, anomalies = _visa_numbers(category)
        for number in normal:
            image, _, _ = _visa_paths(category, number)
            tree.image(image)
            annotations.append(f"{image},normal,")
        for number, ids in enumerate(anomalies):
            _, image, mask = _visa_paths(category, number)
            tree.image(image)
            tree.mask(mask, *ids)
            annotations.append(f'{image},"chunk of wax missing,foreign particals on candle",{mask}')
        tree.table(f"{category}/image_anno.csv", "image,label,mask", annotations)
    _write_visa_lists(tree)
    tree.clutter("candle/Data/Images/Normal")
    tree.clutter("candle/Data/Masks/Anomaly")


def _make_prepared_visa(root: Path, place: str, mode: str) -> None:
    tree = Tree(root)
    for category in VISA_CATEGORIES:
        folder = f"{place}/{category}"
        normal, anomalies = _visa_numbers(category)
        tree.image(*(f"{folder}/{split}/good/{number:04d}.JPG" for number, split in normal.items()))
        for number in range(len(anomalies)):
            tree.image(f"{folder}/test/bad/{number:03d}.JPG")
            tree.mask(f"{folder}/ground_truth/bad/{number:03d}.png", mode=mode)
    tree.clutter(f"{place}/candle/test/good")
    _write_visa_lists(tree)


def make_visa_anomalib(root: Path) -> None:
    """VisA as anomalib leaves it, with masks of three channels."""
    _make_prepared_visa(root, "visa_pytorch", "RGB")


def make_visa_owners(root: Path) -> None:
    """VisA after the owners' preparation script."""
    _make_prepared_visa(root, "VisA_pytorch/1cls", "L")


AEBAD_DEFECTS = ("ablation", "breakdown", "fracture", "groove")
AEBAD_DOMAINS = ("background", "illumination", "same", "view")


def make_aebad_s(root: Path) -> None:
    """AeBAD: defect type, then domain; ``same`` only in test, JPEG data under ``.png``, AeBAD_V beside it."""
    tree = Tree(root)
    for domain in ("background", "illumination", "view"):
        tree.image(*(f"AeBAD_S/train/good/{domain}/IMG_{number}.png" for number in (1, 2)))
    for domain in AEBAD_DOMAINS:
        tree.image(f"AeBAD_S/test/good/{domain}/IMG_1.png", kind="JPEG" if domain == "view" else None)
        for defect in AEBAD_DEFECTS:
            tree.image(f"AeBAD_S/test/{defect}/{domain}/IMG_1.png")
            tree.mask(f"AeBAD_S/ground_truth/{defect}/{domain}/IMG_1.png")
    tree.image("AeBAD_V/test/video1/good/000.png", "AeBAD_V/test/video1/anomaly/000.png")
    tree.clutter("AeBAD_S/train/good/view")
    tree.clutter("AeBAD_S/ground_truth/groove")


def _make_vad(root: Path) -> Tree:
    tree = Tree(root)
    tree.image("train/good/1.png", "train/good/2.png", "train/good/10.png", "test/good/1.png", "test/good/3.png")
    tree.image("test/bad/1.png", "test/bad/12.png", "test/bad_unseen_defects/1.png")
    tree.clutter("train/good")
    tree.clutter("test/bad")
    return tree


def make_vad_a(root: Path) -> None:
    """VAD, original release: bad training images, no masks."""
    tree = _make_vad(root)
    tree.image("train/bad/1.png", "train/bad/3.png", "train/bad/20.png")
    tree.json("low_shot_train.json", {"1": ["3.png"], "5": ["1.png", "20.png"]})


def make_vad_b(root: Path) -> None:
    """VAD, first one-class release: neither bad training images nor masks."""
    _make_vad(root)


def make_vad_c(root: Path) -> None:
    """VAD, second one-class release: masks."""
    tree = _make_vad(root)
    for mask in ("bad/1.png", "bad/12.png", "bad_unseen_defects/1.png"):
        tree.mask(f"ground_truth/{mask}")


REAL_IAD_CATEGORIES = (
    *("pcb", "phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "terminalblock", "usb", "woodstick"),
)


def real_iad_path(category: str, number: int, code: str = "", camera: int = 1) -> str:
    """Path of an image relative to its category folder; two categories write a double underscore."""
    gap = "__" if category in ("phone_battery", "porcelain_doll") else "_"
    folder, label = (f"NG/{code}", f"NG_{code}") if code else ("OK", "OK")
    time = f"202310{number:02d}120000"
    return f"{folder}/S{number:04d}/{category}{gap}{number:04d}_{label}_C{camera}_{time}.jpg"


def real_iad_entry(category: str, image: str, code: str = "OK", mask: str | None = None) -> dict[str, str | None]:
    """Entry of a JSON list."""
    return {"category": category, "anomaly_class": code, "image_path": image, "mask_path": mask}


def _make_real_iad(root: Path, images: str, lists: str) -> Tree:
    """Writes images of two cameras and the lists: the single view, five cameras, contaminated training sets."""
    tree = Tree(root)
    for category in REAL_IAD_CATEGORIES:
        places = {camera: {"train": [], "test": []} for camera in (1, 2)}  # type: dict[int, dict[str, list[Any]]]
        parts = [("train", 1, ""), ("test", 3, ""), ("test", 5, "AK")]
        if category == "phone_battery":
            parts += [("train", 2, ""), ("test", 4, ""), ("test", 6, "YW")]
        for camera in (1, 2):
            for split, number, code in parts:
                image = real_iad_path(category, number, code, camera)
                tree.image(f"{images}{category}/{image}")
                mask = image.replace(".jpg", ".png") if code else None
                if mask:
                    tree.mask(f"{images}{category}/{mask}")
                places[camera][split].append(real_iad_entry(category, image, code or "OK", mask))
        meta = {"prefix": f"{category}/", "normal_class": "OK"}
        single, second = places[1], places[2]
        both = {split: single[split] + second[split] for split in ("train", "test")}
        dirty = {"train": single["train"] + single["test"][-1:], "test": single["test"][:-1]}
        tree.json(f"{lists}realiad_jsons_sv/{category}.json", {"meta": meta, **single})
        tree.json(f"{lists}realiad_jsons/{category}.json", {"meta": meta, **both})
        tree.json(f"{lists}realiad_jsons_fuiad_0.1/{category}.json", {"meta": meta, **dirty})
    tree.clutter(f"{images}phone_battery/OK/S0001")
    return tree


def make_real_iad(root: Path) -> None:
    """Real-IAD with the archives' folders kept, and a smaller resolution beside the one that is read."""
    tree = _make_real_iad(root, "realiad_1024/", "realiad_jsons/")
    for category in REAL_IAD_CATEGORIES:
        tree.image(f"realiad_512/{category}/{real_iad_path(category, 1)}")


def make_real_iad_flat(root: Path) -> None:
    """Real-IAD with the categories and the lists directly below the root."""
    _make_real_iad(root, "", "")


def make_folder(root: Path) -> None:
    """A tree of the user: every optional folder, mixed extensions, the three places of a mask."""
    tree = Tree(root)
    tree.image("bolt/train/good/000.png", "bolt/train/good/001.BMP", "bolt/train/good/002.jpeg")
    tree.image("bolt/train/bad/000.tif", "bolt/validation/good/000.webp", "bolt/validation/bad/000.JPG")
    tree.image("bolt/test/good/000.png", "bolt/test/good/001.tiff")
    tree.image("bolt/test/bent/000.png", "bolt/test/deep scratch/000.png", "bolt/test/deep scratch/001.jpg")
    tree.mask("bolt/ground_truth/bent/000_mask.png")
    tree.mask("bolt/ground_truth/deep scratch/000.bmp")
    tree.mask("bolt/ground_truth/deep scratch/001/a.png", 7)
    tree.mask("bolt/ground_truth/deep scratch/001/b.png", 1)
    tree.clutter("bolt/train/good")
    _mvtec_category(tree, "nut", {"rust": 1})


MANIFEST_HEADER = "image,split,label,mask,defect_type,domain"


def make_manifest(root: Path) -> None:
    """A manifest of the user, with a byte-order mark, beside the images that it names."""
    tree = Tree(root)
    tree.image(*(f"images/{name}.png" for name in ("a", "b", "c", "d", "e", "f", "g")))
    tree.mask("masks/f1.png")
    tree.mask("masks/f2.png", 2)
    tree.mask("masks/g.png", 1)
    rows = [
        "images/a.png,train,good,,,",
        "images/b.png,train,good,,good,day",
        "images/c.png,val,good,,,",
        "images/d.png,test,good,,,night",
        "images/e.png,train,bad,,dent,",
        "images/f.png,test,bad,masks/f1.png;masks/f2.png,dent,night",
        "images/g.png,test,bad,masks/g.png,,",
    ]
    tree.table("manifest.csv", "\ufeff" + MANIFEST_HEADER, rows)
    tree.clutter("images")


# --- all of them


def _btad(category: str, image: str, mask: str, bad: str) -> Miniature:
    return Miniature(
        f"btad_{category}",
        "btad",
        make_btad,
        "BTech_Dataset_transformed",
        category,
        ("01", "02", "03"),
        train_good=(f"{category}/train/ok/0000.{image}", f"{category}/train/ok/0001.{image}"),
        test_good=f"{category}/test/ok/0000.{image}",
        test_bad=f"{category}/test/ko/{bad}.{image}",
        mask=f"{category}/ground_truth/ko/{bad}.{mask}",
        folders={
            TRAIN_GOOD: (f"{category}/train/ok",),
            TEST_GOOD: (f"{category}/test/ok",),
            TEST_BAD: (f"{category}/test/ko",),
        },
        required=tuple(f"{category}/{name}" for name in ("train/ok", "test/ok", "test/ko", "ground_truth/ko")),
        too_low=category,
        category_folder=category,
        orphan=f"{category}/ground_truth/ko/9999.{mask}",
        mask_on_good=f"{category}/ground_truth/ok/0000.{mask}",
        bad_in_train=f"{category}/train/ko/0007.{image}",
    )


def _prepared_visa(name: str, make: Callable[[Path], None], place: str, too_low: str) -> Miniature:
    folder = f"{place}/candle"
    return Miniature(
        name,
        "visa",
        make,
        "VisA",
        "candle",
        VISA_CATEGORIES,
        train_good=(f"{folder}/train/good/0000.JPG", f"{folder}/train/good/0002.JPG"),
        test_good=f"{folder}/test/good/0001.JPG",
        test_bad=f"{folder}/test/bad/000.JPG",
        mask=f"{folder}/ground_truth/bad/000.png",
        folders=_splits(folder, "bad"),
        required=tuple(f"{folder}/{part}" for part in ("train/good", "test/good", "test/bad", "ground_truth/bad")),
        too_low=too_low,
        category_folder=folder,
        orphan=f"{folder}/ground_truth/bad/999.png",
        mask_on_good=f"{folder}/ground_truth/good/0001.png",
        bad_in_train=f"{folder}/train/bad/007.JPG",
    )


def _vad(name: str, make: Callable[[Path], None], *, masks: bool = False) -> Miniature:
    return Miniature(
        name,
        "vad",
        make,
        "vad",
        "vad",
        ("vad",),
        train_good=("train/good/1.png", "train/good/2.png"),
        test_good="test/good/1.png",
        test_bad="test/bad/1.png",
        mask="ground_truth/bad/1.png" if masks else None,
        folders={
            TRAIN_GOOD: ("train/good",),
            TEST_GOOD: ("test/good",),
            TEST_BAD: ("test/bad", "test/bad_unseen_defects"),
        },
        required=("train/good", "test/good", "test/bad", "test/bad_unseen_defects"),
        too_low="train",
        category_folder=None,
        orphan="ground_truth/bad/999.png" if masks else None,
        mask_on_good="ground_truth/good/1.png" if masks else None,
        options={"pixel_labels": True} if masks else {},
    )


def _real_iad(name: str, make: Callable[[Path], None], images: str, lists: str) -> Miniature:
    folder = f"{images}phone_battery"
    bad = f"{folder}/{real_iad_path('phone_battery', 5, 'AK')}"
    return Miniature(
        name,
        "real_iad",
        make,
        "Real-IAD",
        "phone_battery",
        REAL_IAD_CATEGORIES,
        train_good=(
            f"{folder}/{real_iad_path('phone_battery', 1)}",
            f"{folder}/{real_iad_path('phone_battery', 2)}",
        ),
        test_good=f"{folder}/{real_iad_path('phone_battery', 3)}",
        test_bad=bad,
        mask=bad.replace(".jpg", ".png"),
        folders={},
        required=(),
        too_low=images.rstrip("/") or "phone_battery",
        category_folder=folder,
        split_file=f"{lists}realiad_jsons_sv/phone_battery.json",
        orphan=f"{folder}/{real_iad_path('phone_battery', 99, 'AK')}".replace(".jpg", ".png"),
        bad_in_train=f"{folder}/{real_iad_path('phone_battery', 77, 'AK')}",
        counted=False,
    )


MINIATURES: dict[str, Miniature] = {
    miniature.name: miniature
    for miniature in (
        _btad("01", "bmp", "png", "0000"),
        _btad("02", "png", "png", "0000"),
        _btad("03", "bmp", "bmp", "0027"),
        _mvtec_like(
            "mpdd",
            "bracket_black",
            "scratches",
            reader="mpdd",
            make=make_mpdd,
            top="MPDD",
            category="bracket_black",
            categories=tuple(MPDD_DEFECTS),
            folders=_splits("bracket_black", "hole", "scratches"),
        ),
        Miniature(
            "sensum_sodf",
            "sensum_sodf",
            make_sensum_sodf,
            "SensumSODF",
            "capsule",
            ("capsule", "softgel"),
            train_good=("capsule/negative/data/000.png", "capsule/negative/data/002.png"),
            test_good="capsule/negative/data/001.png",
            test_bad="capsule/positive/data/000.png",
            mask="capsule/positive/annotation/000.png",
            folders={TRAIN_GOOD: ("capsule/negative/data",), TEST_BAD: ("capsule/positive/data",)},
            required=("capsule/negative/data", "capsule/positive/data", "capsule/positive/annotation"),
            too_low="capsule",
            category_folder="capsule",
            orphan="capsule/positive/annotation/999.png",
            mask_on_good="capsule/negative/annotation/001.png",
            options={"test_good": {"capsule": ["001.png", "004.png"], "softgel": ["000.png", "002.png"]}},
        ),
        Miniature(
            "mvtec_loco",
            "mvtec_loco",
            make_mvtec_loco,
            "mvtec_loco_anomaly_detection",
            "screw_bag",
            LOCO_CATEGORIES,
            train_good=("screw_bag/train/good/000.png", "screw_bag/train/good/001.png"),
            test_good="screw_bag/test/good/000.png",
            test_bad="screw_bag/test/logical_anomalies/001.png",
            mask="screw_bag/ground_truth/logical_anomalies/001/000.png",
            folders=_splits("screw_bag", "logical_anomalies", "structural_anomalies"),
            required=(
                "screw_bag/train/good",
                "screw_bag/test/good",
                "screw_bag/test/logical_anomalies",
                "screw_bag/test/structural_anomalies",
                "screw_bag/ground_truth",
            ),
            too_low="screw_bag",
            category_folder="screw_bag",
            orphan="screw_bag/ground_truth/logical_anomalies/999/000.png",
            mask_on_good="screw_bag/ground_truth/good/000/000.png",
            bad_in_train="screw_bag/train/logical_anomalies/007.png",
        ),
        Miniature(
            "visa",
            "visa",
            make_visa,
            "VisA",
            "candle",
            VISA_CATEGORIES,
            train_good=("candle/Data/Images/Normal/0000.JPG", "candle/Data/Images/Normal/0002.JPG"),
            test_good="candle/Data/Images/Normal/0001.JPG",
            test_bad="candle/Data/Images/Anomaly/000.JPG",
            mask="candle/Data/Masks/Anomaly/000.png",
            folders={},
            required=(),
            too_low="candle",
            category_folder="candle",
            split_file="split_csv/1cls.csv",
            orphan="candle/Data/Masks/Anomaly/999.png",
            bad_in_train="candle/Data/Images/Anomaly/777.JPG",
        ),
        _prepared_visa("visa_anomalib", make_visa_anomalib, "visa_pytorch", "visa_pytorch"),
        _prepared_visa("visa_owners", make_visa_owners, "VisA_pytorch/1cls", "VisA_pytorch"),
        Miniature(
            "aebad_s",
            "aebad_s",
            make_aebad_s,
            "AeBAD",
            "blade",
            ("blade",),
            train_good=("AeBAD_S/train/good/view/IMG_1.png", "AeBAD_S/train/good/view/IMG_2.png"),
            test_good="AeBAD_S/test/good/same/IMG_1.png",
            test_bad="AeBAD_S/test/groove/same/IMG_1.png",
            mask="AeBAD_S/ground_truth/groove/same/IMG_1.png",
            folders={
                TRAIN_GOOD: tuple(f"AeBAD_S/train/good/{domain}" for domain in ("background", "illumination", "view")),
                TEST_GOOD: tuple(f"AeBAD_S/test/good/{domain}" for domain in AEBAD_DOMAINS),
                TEST_BAD: tuple(f"AeBAD_S/test/{defect}/{d}" for defect in AEBAD_DEFECTS for d in AEBAD_DOMAINS),
            },
            required=("AeBAD_S/train/good", "AeBAD_S/test/good", "AeBAD_S/ground_truth"),
            too_low="AeBAD_S",
            category_folder=None,
            orphan="AeBAD_S/ground_truth/groove/same/IMG_999.png",
            mask_on_good="AeBAD_S/ground_truth/good/same/IMG_1.png",
            bad_in_train="AeBAD_S/train/groove/same/IMG_7.png",
            counted=False,
        ),
        _vad("vad_a", make_vad_a),
        _vad("vad_b", make_vad_b),
        _vad("vad_c", make_vad_c, masks=True),
        _real_iad("real_iad", make_real_iad, "realiad_1024/", "realiad_jsons/"),
        _real_iad("real_iad_flat", make_real_iad_flat, "", ""),
        _mvtec_like(
            "viaduct",
            "11 ring cable lug",
            "deep scratch",
            "",
            reader="viaduct",
            make=make_viaduct,
            top="VIADUCT",
            category="ring_cable_lug",
            categories=tuple(VIADUCT_FOLDERS),
            folders=_splits("11 ring cable lug", "bent", "deep scratch"),
            counted=False,
        ),
        _mvtec_like(
            "mvtec_ad",
            "grid",
            "glue",
            reader="mvtec_ad",
            make=make_mvtec_ad,
            top="mvtec_anomaly_detection",
            category="grid",
            categories=tuple(MVTEC_DEFECTS),
            folders=_splits("grid", "bent", "glue"),
        ),
        Miniature(
            "folder",
            "folder",
            make_folder,
            "parts",
            "bolt",
            ("bolt", "nut"),
            train_good=("bolt/train/good/000.png", "bolt/train/good/001.BMP"),
            test_good="bolt/test/good/000.png",
            test_bad="bolt/test/bent/000.png",
            mask="bolt/ground_truth/bent/000_mask.png",
            folders=_splits("bolt", "bent", "deep scratch"),
            required=("bolt/train/good", "bolt/test/good"),
            too_low="bolt",
            category_folder="bolt",
            orphan="bolt/ground_truth/bent/999_mask.png",
            mask_on_good="bolt/ground_truth/good/000.png",
            counted=False,
        ),
        Miniature(
            "manifest",
            "folder",
            make_manifest,
            "line four",
            "line four",
            ("line four",),
            train_good=("images/a.png", "images/b.png"),
            test_good="images/d.png",
            test_bad="images/g.png",
            mask="masks/g.png",
            folders={},
            required=(),
            too_low="images",
            category_folder=None,
            split_file="manifest.csv",
            orphan="masks/zz.png",
            counted=False,
        ),
    )
}


# --- changing what a split file says


def add_entry(miniature: Miniature, root: Path, image: str, place: Place, mask: str = "") -> None:
    """Adds an image to the split file, the last row or entry; without a split file the folder says it all."""
    if miniature.split_file is None:
        return
    path = root / miniature.split_file
    split, label = place
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        folder = f"{miniature.category_folder}/"
        entry = real_iad_entry(miniature.category, image.removeprefix(folder), "OK" if label == "good" else "AK")
        entry["mask_path"] = mask.removeprefix(folder) or None
        content[split].append(entry)
        path.write_text(json.dumps(content))
    elif miniature.reader == "visa":
        label = {"good": "normal", "bad": "anomaly"}[label]
        append_line(path, f"{miniature.category},{split},{label},{image},{mask}")
    else:
        append_line(path, f"{image},{split},{label},{mask},,")


def append_line(path: Path, line: str) -> int:
    """Appends a line to a text file and returns its number."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    return len(path.read_text(encoding="utf-8").splitlines())


def drop_entries(miniature: Miniature, root: Path, place: Place) -> None:
    """Takes all images of a split and label out of the category's part of the split file."""
    assert miniature.split_file
    path = root / miniature.split_file
    split, label = place
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        content[split] = [e for e in content[split] if (e["anomaly_class"] == "OK") != (label == "good")]
        path.write_text(json.dumps(content))
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("normal", "good") if label == "good" else ("anomaly", "bad")
    kept = [
        row
        for row in rows
        if row.get("object", miniature.category) != miniature.category
        or row["split"] != split
        or row["label"] not in names
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
