"""Damaged, lost, copied and unknown results: named, and never used as if nothing had happened."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from shopfloor.catalog.traces import TracesDataset
from shopfloor.runners.failures import FailedNodesError
from shopfloor.runners.refusals import OutdatedError, UntracedError
from tests.e2e.own_parts import MINE, metrics_of, only_file
from tests.e2e.running import results, run


@pytest.fixture
def project(own_parts: Path) -> Path:
    """A project in which the model evaluation of the user's own parts is finished."""
    return own_parts


@pytest.mark.parametrize(
    ("pattern", "namespace", "spoil"),
    [
        ("05_model_input/mine.*.64.*.images.npy", "perturbation", lambda data: data[: len(data) // 2]),
        ("02_intermediate/mine.*.test.parquet", "evaluation", lambda data: b"damaged"),
        pytest.param(
            "07_model_output/mine.*.scores.parquet", "reporting", lambda data: data[:-1] + b"!", marks=pytest.mark.slow
        ),
        ("06_models/mine.*.fit_record.json", "reporting", lambda data: b"null"),
    ],
)
def test_a_damaged_file_is_named_and_costs_what_rests_on_it(project: Path, pattern: str, namespace: str, spoil) -> None:
    path = only_file(project, pattern)
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    kind = FailedNodesError if namespace == "reporting" else OutdatedError
    with pytest.raises(kind, match=re.escape(path.name)):
        run(project, "model_evaluation", params=MINE, namespaces=[namespace])
    if namespace == "reporting":
        metrics = metrics_of(project, "model_evaluation")
        assert set(metrics["status"]) == {"outdated"} and metrics["value"].isna().all()
        assert metrics["note"].str.contains(path.name, regex=False).all(), "the report is made and shows the cell so"
        assert path.name in (project / "data/08_reporting/model_evaluation/report.html").read_text(encoding="utf-8")
    run(project, "model_evaluation", only_missing=True, params=MINE)
    assert run(project, "model_evaluation", only_missing=True, params=MINE) == []


def test_a_split_that_lost_lines_is_no_smaller_test_set(project: Path) -> None:
    path = only_file(project, "02_intermediate/mine.*.clean.*.test.parquet")
    pd.read_parquet(path).iloc[:-3].to_parquet(path, index=False)
    with pytest.raises(OutdatedError, match=re.escape(path.name)):
        run(project, "model_evaluation", params=MINE, namespaces=["evaluation"])


def test_results_of_an_earlier_version_stop_the_run_and_are_counted(project: Path) -> None:
    shutil.rmtree(project / "data/.traces")
    before = results(project)
    for only_missing in (False, True):
        with pytest.raises(UntracedError, match=r"Results of \d+ steps are there without a trace"):
            run(project, "model_evaluation", only_missing=only_missing, params=MINE)
    assert results(project) == before
    run(project, "model_evaluation", only_missing=True, params={**MINE, "replace_untraced": True})
    assert results(project) == before, "made again, and the same"


def test_finished_work_that_is_copied_with_its_traces_is_finished(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(project, copy, copy_function=shutil.copyfile)  # without the files' times
    local = copy / "conf/local/parameters.yml"
    local.write_text(local.read_text().replace(str(project), str(copy)))
    assert run(copy, "model_evaluation", only_missing=True, params=MINE) == []


def test_what_was_made_from_what_is_told_as_a_table(project: Path) -> None:
    table = TracesDataset(str(project / "data/.traces")).load()
    assert table["dataset"].is_unique and (table["seconds"] >= 0).all()
    assert all((project / "data" / file).exists() for file in table["file"])
    (trace,) = (json.loads(path.read_text()) for path in (project / "data/.traces").glob("training.mine.*"))
    given = {name.rpartition(".")[2]: maker for name, (_, maker) in trace["made_from"].items()}
    assert given["train_images"].endswith("train_images") and given["padim"] == "" and trace["trains"]
