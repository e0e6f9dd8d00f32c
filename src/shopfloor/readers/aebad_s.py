"""Reads AeBAD-S: blades of aero-engines under changing conditions, one category ``blade`` (dataset specification 4.6).

Tree::

    AeBAD/AeBAD_S/train/good/<domain>/*.png              background, illumination, view
                 /test/<type>/<domain>/*.png             domain same too; types good, ablation, ...
                 /ground_truth/<type>/<domain>/*.png     named like the images

``same`` repeats the conditions of the training images; the other domains of the test hold conditions that training does
not have, although folders of the same names are in it. (Zhang et al. 2023, Industrial Anomaly Detection with Domain
Shift: A Real-world Dataset and Masked Multi-scale Reconstruction; repository zhangzilongc/MMR. Counts per domain are
not published.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from shopfloor.readers.category_files import CategoryFiles, Expected
from shopfloor.readers.findings import Finding
from shopfloor.readers.listing import list_folder
from shopfloor.readers.tree import Place, Tree, list_tree

LAYOUT = "AeBAD_S/train/good/<domain>, AeBAD_S/test/<type>/<domain>, AeBAD_S/ground_truth/<type>/<domain>"
CATEGORY = "blade"
FOLDER = "AeBAD_S"
DEFECTS = ("ablation", "breakdown", "fracture", "groove")
TRAIN_DOMAINS = ("background", "illumination", "view")
TEST_DOMAINS = ("same", *TRAIN_DOMAINS)
EXPECTED: Mapping[str, Expected] = {}


def categories(root: Path) -> dict[str, str]:
    """The one category, where ``AeBAD_S`` has images for training or test."""
    found = any((root / FOLDER / split / "good").is_dir() for split in ("train", "test"))
    return {CATEGORY: FOLDER} if found else {}


def list_files(root: Path, dataset: str, category: str, folder: str) -> CategoryFiles:
    """List the category; every test domain must hold good and bad images."""
    in_train, in_test = (list_folder(root / folder / split).folders for split in ("train", "test"))
    defects = [name for name in in_test if name != "good"]
    kinds = [("good", "good"), *(("bad", defect) for defect in defects)]
    tree = Tree(
        places=[
            *(Place(f"train/good/{name}", "train", "good", domain=name) for name in TRAIN_DOMAINS),
            *(
                Place(f"train/{other}/{name}", "train", "bad", other, name)
                for other in in_train
                if other != "good"
                for name in TEST_DOMAINS
            ),
            *(
                Place(f"test/{kind}/{name}", "test", label, kind, name, f"ground_truth/{kind}/{name}")
                for label, kind in kinds
                for name in TEST_DOMAINS
            ),
        ],
        required=[
            *(f"train/good/{name}" for name in TRAIN_DOMAINS),
            "test/good",
            *(f"{parent}/{defect}" for defect in DEFECTS for parent in ("test", "ground_truth")),
        ],
        mask_folders=("ground_truth",),
    )
    listed = list_tree(root, dataset, category, folder, tree)
    lacking = _without_domain(listed, f"{folder}/test", defects)
    return replace(listed, findings=(*listed.findings, *_domain_missing(listed), *lacking))


def _domain_missing(files: CategoryFiles) -> Iterator[Finding]:
    """Test domains without images, or with one class only."""
    for domain in TEST_DOMAINS:
        labels = {sample.label for sample in files.samples if sample.split == "test" and sample.domain == domain}
        if absent := sorted({"good", "bad"} - labels):
            what = f"test domain {domain} has no {' and no '.join(absent)} image"
            where = f"{FOLDER}/test/<type>/{domain}"
            action = "Unpack the archive again; drift is measured in each domain"
            yield files.finding("DOMAIN_MISSING", what, [where], where=where, action=action)


def _without_domain(files: CategoryFiles, test: str, defects: list[str]) -> Iterator[Finding]:
    """A defect type may lack a domain; worth a warning."""
    present = {(sample.defect_type, sample.domain) for sample in files.samples}
    lacking = [f"{test}/{d}/{name}" for d in defects for name in TEST_DOMAINS if (d, name) not in present]
    if lacking:
        what = f"{len(lacking)} defect types lack a test domain"
        yield files.finding("DOMAIN_MISSING", what, lacking, level="warning")
