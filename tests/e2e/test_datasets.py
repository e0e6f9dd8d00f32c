"""The benchmark's datasets in a project: one table says what is there, and what is not there costs nothing else."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tests.e2e.running import PROJECT, command, results, unfinished_files
from tests.readers.trees import make_tree, save_image

TABLE = "data/08_reporting/datasets/datasets.csv"


def write_local(project: Path, text: str) -> None:
    (project / "conf/local/parameters.yml").write_text(text, encoding="utf-8")


@pytest.fixture
def mpdd(project: Path) -> Path:
    """A folder with one of MPDD's six categories, in miniature."""
    make_tree(project / "metal", "tubes")
    write_local(project, "datasets: {mpdd: {root: metal}}\n")
    return project


def test_one_table_of_what_is_there_and_what_is_not(mpdd: Path) -> None:
    arguments = ("run", "--env=paper", "--pipeline=data_prep", "--params=only.datasets=mpdd")
    code, output = command(mpdd, *arguments)
    assert code == 1 and "Traceback" not in output, output
    table = pd.read_csv(mpdd / TABLE).set_index("category")
    assert table["status"].to_dict() == {
        "tubes": "passed",
        **dict.fromkeys(("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate"), "failed"),
    }
    tubes: Any = table.loc["tubes"]
    assert (tubes["train_good"], tubes["train_good_expected"]) == (4, 122)
    assert (tubes["test_bad"], tubes["test_bad_expected"]) == (3, 69)
    assert (tubes["sizes"], tubes["licence"]) == ("40 x 40", "CC BY-NC-SA 4.0")
    assert tubes["codes"] == "COUNT_MISMATCH, IMAGE_SIZE"
    assert table.loc["connector", "codes"] == "CATEGORY_MISSING"
    printed = output[output.index("Datasets:\n") :]
    assert re.search(r"tubes +COUNT_MISMATCH, IMAGE_SIZE +4/122 +2/32 +3/69 +40 x 40", printed), printed
    assert "1 of 6 categories passed their checks." in printed
    assert str((mpdd / TABLE).resolve()) in printed

    code, output = command(mpdd, *arguments)
    assert "mpdd/tubes: 0 files decoded" in output, "the second run compares path, size and time"
    assert unfinished_files(mpdd) == []


def test_the_table_is_made_anew_for_another_choice_of_datasets(project: Path) -> None:
    make_tree(project / "parts")
    write_local(project, "own_data: {parts: {root: parts}}\n")
    for only, categories in (("parts", {"bolt"}), ("elpv", {"mono"}), ("parts", {"bolt"})):
        arguments = ("--pipeline=data_prep", "--only-missing-outputs", f"--params=only.datasets={only}")
        code, output = command(project, "run", "--env=test", *arguments)
        assert code == 0, output
        assert set(pd.read_csv(project / TABLE)["category"]) == categories
    session = KedroSession.create(project_path=bootstrap_project(project).project_path, env="test")
    with session:
        table = session.load_context().catalog.load("data_prep.datasets")
    assert table["train_good"].tolist() == [4] and table["train_good_expected"].isna().all()


def test_a_missing_dataset_does_not_break_another_one(project: Path) -> None:
    """The paper's list with one dataset in it that is there: it is trained on, the others are holes with a reason."""
    make_tree(project / "metal", "tubes")
    write_local(project, "datasets: {mpdd: {root: metal}}\n")
    code, output = command(
        project, "run", "--env=test",
        "--params=model_evaluation.datasets=mpdd,only.detectors=padim",
        "--to-outputs=reporting.model_evaluation.metrics,reporting.model_evaluation.category_table",
    )  # fmt: skip
    assert code == 1 and "Traceback" not in output, output
    table = pd.read_csv(project / "data/08_reporting/model_evaluation/category_table.csv").set_index("category")
    auroc = table["image_auroc"].to_dict()["tubes"]
    assert np.isclose(auroc * 12, round(auroc * 12)) and 0 <= auroc <= 1, "two good and three bad images, ties one half"
    metrics = pd.read_csv(project / "data/08_reporting/model_evaluation/metrics.csv")
    lost = metrics[metrics["category"] != "tubes"]
    assert set(lost["status"]) == {"failed"} and lost["value"].isna().all()
    assert lost["note"].str.contains("CATEGORY_MISSING").all()


def test_nothing_is_written_into_a_dataset_folder(mpdd: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (mpdd / "metal").rglob("*")}
    command(
        mpdd, "run", "--env=test", "--pipeline=data_prep", "--params=data_prep.datasets=mpdd/tubes,only.datasets=mpdd"
    )
    assert any(path.startswith("02_intermediate/mpdd.tubes") for path in results(mpdd))
    assert {path: path.stat().st_mtime_ns for path in (mpdd / "metal").rglob("*")} == before


def test_the_lines_that_make_a_table_of_photos_work(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/own_parts.md: defects known only by file name, from the photos to the index."""
    text = (PROJECT / "docs/own_parts.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    parts = project / "parts"
    names = [f"ok_{i}.jpg" for i in range(12)] + ["1042_scratch.jpg", "7_dent.jpg"]
    for seed, name in enumerate(names):
        save_image(parts / "photos" / name, seed)
    script = project / "make_manifest.py"
    script.write_text(code)
    monkeypatch.chdir(parts)
    runpy.run_path(str(script))
    write_local(project, "own_data: {parts: {root: parts}}\n")
    exit_code, output = command(project, "run", "--env=test", "--pipeline=data_prep", "--params=only.datasets=parts")
    assert exit_code == 0, output
    line = pd.read_csv(project / TABLE).iloc[0]
    assert (line["train_good"], line["test_good"], line["test_bad"], line["pixel_labels"]) == (9, 3, 2, False)
