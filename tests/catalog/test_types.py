"""Tables come back from the project's own catalog as they were saved: types, text that looks like numbers, umlauts."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError
from pandas.testing import assert_frame_equal

from shopfloor.config import ProjectConfigLoader
from shopfloor.experiments.data_drift import make_drift_tables, raise_drift_alarm
from shopfloor.experiments.input_size import make_size_table
from shopfloor.experiments.noisy_labels import make_noise_table
from shopfloor.experiments.validation import make_stopping_table
from shopfloor.perturbations.splits import supervised_split
from shopfloor.pipelines.data_prep import nodes as data_prep
from shopfloor.pipelines.perturbation.nodes import draw_drift
from shopfloor.pipelines.reporting import nodes
from shopfloor.readers.index_table import build_index
from shopfloor.readers.measure import facts_from_table, facts_table
from shopfloor.readers.types import FileFacts, Sample
from shopfloor.report.figures.style import empty_figure
from shopfloor.report.tables import collecting
from shopfloor.report.tables.value_tables import dataset_table
from shopfloor.runners.missing import MissingResult
from shopfloor.settings import CONFIG_LOADER_ARGS
from tests.conftest import PROJECT

#: Categories that are easily taken for something else, or run by a spreadsheet.
NAMES = [
    "01", "NA", "nan", "1e5", "True", "", "=1+1", "+1", "-3", "@x", "\tx", "\rx", "\nx", "＝1", "'x", "''", "'=1",
    " a ", "ü", 'a, "b"\r\nc\rd', "None",
]  # fmt: skip
TEXT_COLUMNS = [
    "dataset", "category", "detector", "condition", "condition_kind", "test_set", "test_set_kind", "group", "metric",
    "status", "note", "image", "label", "defect_type", "domain", "transform", "title", "licence", "source", "missing",
    "not_available", "loss", "split", "device", "libraries", "verdict",
]  # fmt: skip
HOLE = MissingResult("failed", "=OutOfMemoryError")
CONFIG = ProjectConfigLoader(str(PROJECT / "conf"), **CONFIG_LOADER_ARGS)["catalog"]


def entries(kind: str) -> list[str]:
    """Names of the datasets of a type, with something in the place of the placeholders."""
    return [
        re.sub(r"\{(\w+)\}", r"\1", name)
        for name, entry in CONFIG.items()
        if entry["type"].endswith(kind) and entry["filepath"].startswith("data/")
    ]


CSV = entries(".atomic.CSVDataset")
PARQUET = entries("ParquetDataset")


def catalog() -> DataCatalog:
    """The project's catalog; its files lie below the working folder."""
    return DataCatalog.from_config(CONFIG)


def through(name: str, table: Any) -> Any:
    """Save by one catalog and load by another."""
    catalog().save(name, table)
    return catalog().load(name)


def result_table() -> pd.DataFrame:
    count = len(NAMES)
    values = np.random.default_rng(0).normal(size=count) * 1e-7
    values[:5] = [np.nan, -0.0, 5e-324, np.inf, -0.5]
    return pd.DataFrame(
        {
            **{column: pd.Series(np.roll(NAMES, place), dtype="str") for place, column in enumerate(TEXT_COLUMNS)},
            "value": values,
            "image_auroc": np.linspace(0, 1, count),
            "condition_amount": np.nan,
            "noise_4": [np.nan, *np.arange(count - 1.0)],
            "128": np.arange(float(count)),
            "batch_16": values[::-1],
            "=1+1": values,
            "'x": values,
            "image_size": range(count),
            "seed": range(count),
            "seeds": range(count),
            "train_good": pd.Series([None, *range(1, count)], dtype="Int64"),
            "n_train": pd.Series(range(count), dtype="Int64"),
            "generated": pd.Series([True, False, None] * (count // 3), dtype="boolean"),
            "inside_noise": [True, False, True] * (count // 3),
        }
    )


def intermediate_table() -> pd.DataFrame:
    """With what an index must have."""
    texts = [*TEXT_COLUMNS, "sha256", "masks", "mask_sha256", "values", "drawn"]
    return result_table().assign(
        **{column: pd.Series(np.roll(NAMES, place), dtype="str") for place, column in enumerate(texts)},
        file_size=2**62 + 1,
        **{"Any name": [True, False, False] * (len(NAMES) // 3)},
    )


def save_and_load_everything() -> None:
    """What the test of other locales does in a process of its own."""
    for name in CSV:
        assert_frame_equal(through(name, result_table()), result_table(), check_exact=True)
    for name in PARQUET:
        assert_frame_equal(through(name, intermediate_table()), intermediate_table(), check_exact=True)
    text = "łożysko ü –"
    for name in ("report", *(f"table_4.{kind}" for kind in nodes.TABLE_FORMATS)):
        assert through(f"reporting.e.{name}", text) == text
    assert through("reporting.e.summary", {text: text}) == {text: text}
    figure = empty_figure(text)
    assert through("reporting.e.x_figure", figure).to_dict() == figure.to_dict()


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_catalog_has_these_tables() -> None:
    assert len(CSV) > 10 and "reporting.experiment.drift_counts" in CSV and "reporting.experiment.table_table" in CSV
    whats = {name.rpartition(".")[2] for name in PARQUET}
    assert whats == {
        "index", "check", "resize_report", "train", "validation", "test", "draw", "drift_report", "fit_log",
        "scores", "metrics",
    }  # fmt: skip


@pytest.mark.parametrize("name", CSV)
def test_results_come_back_as_they_were_saved(name: str, project_folder: Path) -> None:
    assert_frame_equal(through(name, result_table()), result_table(), check_exact=True)
    signs = np.signbit(through(name, result_table())["value"])
    assert (signs == np.signbit(result_table()["value"])).all()


@pytest.mark.parametrize("name", CSV)
def test_results_without_lines_keep_their_types(name: str, project_folder: Path) -> None:
    empty = result_table().iloc[:0].astype({"seeds": "float64"})  # a column that is not named holds numbers
    assert_frame_equal(through(name, empty), empty)


@pytest.mark.parametrize("lines", [len(NAMES), 0])
@pytest.mark.parametrize("name", PARQUET)
def test_intermediate_tables_come_back_as_they_were_saved(name: str, lines: int, project_folder: Path) -> None:
    table = intermediate_table().iloc[:lines]
    assert_frame_equal(through(name, table), table, check_exact=True)
    assert [path.suffix for path in project_folder.rglob("*.*") if path.is_file()] == [".parquet"]


def test_the_index_of_the_lines_is_not_kept(project_folder: Path) -> None:
    table = intermediate_table()
    assert_frame_equal(through("perturbation.x.train", table.iloc[[4, 2]]), table.iloc[[4, 2]].reset_index(drop=True))


def test_other_locales(tmp_path: Path) -> None:
    """A machine whose files are ASCII by default."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    folders = os.pathsep.join([str(PROJECT), str(PROJECT / "src"), os.environ.get("PYTHONPATH", "")])
    script = (
        "import locale; assert 'UTF' not in locale.getpreferredencoding(False).upper();"
        "from tests.catalog.test_types import save_and_load_everything; save_and_load_everything()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, **ascii_only, "PYTHONPATH": folders},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    written = (tmp_path / "data/08_reporting/e/report.html").read_bytes()
    assert written.decode("utf-8") == "łożysko ü –"
    assert "ü" in (tmp_path / "data/08_reporting/experiment/metrics.csv").read_text(encoding="utf-8")


def test_a_spreadsheet_runs_nothing(project_folder: Path) -> None:
    catalog().save("reporting.e.metrics", result_table())
    with Path("data/08_reporting/e/metrics.csv").open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    assert head[head.index("128") + 2 :][:2] == ["'=1+1", "''x"]
    numbers = result_table().select_dtypes("number").columns
    texts = [place for place, name in enumerate(result_table()) if name not in numbers]
    shown = [name for name in head if name] + [line[place] for line in lines for place in texts]
    assert len(lines) == len(NAMES) and "'-3" in shown and "'\rx" in shown
    assert not [cell for cell in shown if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
    assert lines[4][head.index("value")] == "-0.5"


def test_an_object_column_is_marked_too(project_folder: Path) -> None:
    table = pd.DataFrame({"category": pd.Series(["=1", None, "NA"], dtype=object), "value": [1.0, None, 2.0]})
    assert through("reporting.e.metrics", table)["category"].tolist() == ["=1", "", "NA"]
    assert Path("data/08_reporting/e/metrics.csv").read_text(encoding="utf-8").splitlines()[1] == "'=1,1.0"


def test_text_in_a_column_of_numbers_is_refused(project_folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"'new', 'seed' hold text.*result_table\.py"):
        catalog().save("reporting.e.metrics", pd.DataFrame({"new": ["01"], "seed": ["1 on drift"], "value": [1.0]}))


# --- tables of the real nodes


CELLS = [
    {
        "dataset": "=1+1", "category": category, "detector": detector, "image_size": 64, "condition": "clean",
        "condition_kind": "clean", "condition_amount": np.nan, "seed": 1,
    }
    for category in NAMES
    for detector in ("01", "NA")
]  # fmt: skip
TESTED = [{**cell, "test_set": "full", "test_set_kind": "full", "test_set_seed": np.nan} for cell in CELLS]


DRIFTED: dict[str, Any] = {"test_set": "drift_1", "test_set_kind": "drift", "test_set_seed": 1.0}
STOPPED: dict[str, Any] = {"condition": "early_stop", "condition_kind": "holdout"}
NOISY: dict[str, Any] = {"condition": "noise_4", "condition_kind": "noise", "condition_amount": 4.0}


def metrics_of(**changed: Any) -> pd.DataFrame:
    """Two metrics of all cells; one is not available in one of the categories."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame([{**cell, "metric": name} for cell in TESTED for name in ("image_auroc", "pixel_aupro")])
    table = table.assign(value=generator.random(len(table)), status="ok", note="", **changed)
    table.loc[1, "value"] = np.nan
    table.loc[1, "status"] = "not_available"
    table.loc[1, "note"] = "=no masks"
    return table


def several(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.concat([metrics_of(**change) for change in changes], ignore_index=True)


def scores_of(seed: int) -> pd.DataFrame:
    """Raw scores of a cell, as a prediction gives them."""
    label = ["good"] * 20 + ["bad"] * 12
    return pd.DataFrame(
        {"image": [f"={place}" for place in range(32)], "label": label, "defect_type": "NA", "domain": "",
         "pred_score": np.random.default_rng(seed).normal(size=32) * 10.0 ** (seed % 40 - 20)}
    )  # fmt: skip


def costs() -> pd.DataFrame:
    fit = {"fit_seconds": 1.5, "parameters": 3, "epochs": 2, "device": "cpu", "n_train": 7, "versions": {"a": "1.0"}}
    fits: list[Any] = [HOLE, {**fit, "stopped_epoch": 2, "best_epoch": 1}, *[fit] * (len(CELLS) - 2)]
    return collecting.collect_costs(*fits, *[{"n_test": 4}] * len(CELLS), cells=CELLS)


def real_tables() -> dict[str, pd.DataFrame]:
    """What the nodes of the reporting stage make of small inputs, by the name under which the catalog keeps it."""
    cells = TESTED[:4]
    scores = collecting.collect_scores(HOLE, *(scores_of(seed) for seed in range(1, 4)), cells=cells)
    drifted = pd.concat([scores, scores.assign(**DRIFTED, pred_score=scores["pred_score"] * 2)])
    metrics, group_metrics = collecting.collect_metrics(
        HOLE, metrics_of(group="").iloc[2:4], metrics_of(group="=1").iloc[4:6], cells=TESTED[:3]
    )
    made = nodes.make_tables(metrics_of(), costs())
    tables = dict(zip(("category_table", "dataset_table", "mean_table"), made, strict=False))
    alarms = raise_drift_alarm(drifted, {"batch_sizes": [4, 16], "repetitions": 9, "false_alarms": 0.05, "seed": 1})
    drift = make_drift_tables(several({}, DRIFTED, {"test_set": "shifted", "test_set_kind": "domains"}))
    all_scores = collecting.collect_scores(*(scores_of(seed) for seed in range(4)), cells=cells)
    certainty = nodes.measure_certainty(
        metrics_of().iloc[:8], group_metrics.iloc[:0], all_scores, {"resamples": 9, "level": 0.9, "seed": 1}
    )
    report = pd.DataFrame({"transform": ["rotation"], "images": [3], "emptied": [0]})
    drift_cells = [{"dataset": "01", "category": name, "test_set": "drift_1"} for name in NAMES]
    sized = [{**TESTED[0], "category": name} for name in NAMES]
    counts = ("train_good", "test_good", "test_bad", "empty_masks", "vanished", "regions", "lost_regions")
    resize = pd.DataFrame(
        {"dataset": "01", "category": NAMES[1], "image_size": 64, "title": "=1", "licence": "NA", "source": "",
         "generated": True, "has_pixel_labels": False, **dict.fromkeys(counts, 3)},
        index=[0],
    )  # fmt: skip
    log = pd.DataFrame({"epoch": [1, 2], "seconds": [0.5, 0.25], "train_loss": [2.0, np.nan]})
    return {
        **tables,
        **dict(zip(("intervals", "mean_intervals", "differences"), certainty, strict=True)),
        **dict(zip(("drift_table", "domain_table"), drift, strict=True)),
        **dict(zip(("drift_alarms", "drift_alarm_table"), alarms, strict=True)),
        "metrics": metrics,
        "group_metrics": group_metrics,
        "failures_table": nodes.make_tables(metrics, costs())[3],
        "unavailable_table": nodes.make_tables(metrics.assign(status="not_available"), costs())[4],
        "cost_table": nodes.make_tables(metrics, costs())[5],
        "scores": scores,
        "costs": costs(),
        "noise_table": make_noise_table(several({}, NOISY)),
        "size_table": make_size_table(several({}, {"image_size": 128})),
        "stopping_table": make_stopping_table(dataset_table(metrics_of(**STOPPED)), costs().assign(**STOPPED)),
        "rank_table": nodes.rank_detectors(metrics_of())[0],
        "drift_counts": collecting.collect_drift_counts(HOLE, *[report] * (len(NAMES) - 1), cells=drift_cells),
        "categories": collecting.collect_categories(HOLE, *[resize] * (len(NAMES) - 1), cells=sized),
        "training_log": collecting.collect_training_log(HOLE, log, log.drop(columns="train_loss"), cells=TESTED[:3]),
    }


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return real_tables()


NODE_TABLES = [
    "category_table", "dataset_table", "mean_table", "failures_table", "unavailable_table", "cost_table",
    "intervals", "mean_intervals", "differences",
    "drift_table", "domain_table", "drift_alarms", "drift_alarm_table", "metrics", "group_metrics", "scores", "costs",
    "noise_table", "size_table", "stopping_table", "rank_table", "drift_counts", "categories", "training_log",
]  # fmt: skip


@pytest.mark.parametrize("what", NODE_TABLES)
def test_results_of_the_nodes_survive(what: str, tables: dict[str, pd.DataFrame], project_folder: Path) -> None:
    table = tables[what]
    assert len(table) and not [name for name, kind in table.dtypes.items() if kind == "object"]
    assert_frame_equal(through(f"reporting.model_evaluation.{what}", table), table, check_exact=True)


def test_raw_scores_come_back_bit_for_bit(project_folder: Path) -> None:
    raw = pd.concat([scores_of(seed) for seed in range(60)], ignore_index=True)
    bits = raw["pred_score"].to_numpy().tobytes()
    cell = TESTED[0]
    result = collecting.collect_scores(through("evaluation.x.scores", raw), cells=[cell])
    assert through("reporting.e.scores", result)["pred_score"].to_numpy().tobytes() == bits


def test_nodes_of_which_nothing_came_have_types(project_folder: Path) -> None:
    collected = {
        "costs": collecting.collect_costs(HOLE, HOLE, cells=TESTED[:1]),
        "scores": collecting.collect_scores(HOLE, cells=TESTED[:1]),
        "training_log": collecting.collect_training_log(HOLE, cells=TESTED[:1]),
        "drift_counts": collecting.collect_drift_counts(HOLE, cells=TESTED[:1]),
        "categories": collecting.collect_categories(HOLE, cells=TESTED[:1]),
    }
    for what, table in collected.items():
        assert not [name for name, kind in table.dtypes.items() if kind == "object"], what
        assert_frame_equal(through(f"reporting.e.{what}", table), table)
    assert collected["scores"].dtypes[["seed", "pred_score"]].tolist() == ["int64", "float64"]
    assert collected["costs"].dtypes[["fit_seconds", "n_train"]].tolist() == ["float64", "Int64"]


def test_the_summary_of_the_datasets_survives(project_folder: Path) -> None:
    check = pd.DataFrame(
        {"codes": "", "train_good": [3], "train_good_expected": None, "sizes": "8 x 8", "pixel_labels": True,
         "note": "=1"}
    )  # fmt: skip
    categories = [{"dataset": "01", "category": name, "licence": "", "project_page": "-"} for name in NAMES]
    table = data_prep.summarise_datasets(HOLE, *[check] * (len(NAMES) - 1), categories=categories)
    assert table["pixel_labels"].isna().tolist() == [True, *[False] * (len(NAMES) - 1)]
    assert_frame_equal(through("data_prep.datasets", table), table)


def test_measured_files_survive(project_folder: Path) -> None:
    facts = {name: FileFacts(2**62 + 1, "0" * 64, 4, 5, "PNG", "L", 8, True, (0.0, 255.0)) for name in NAMES}
    for known in (facts, {}):
        table = facts_table(known)
        catalog().save("data_prep.x.files", lambda _, table=table: table)
        assert_frame_equal(catalog().load("data_prep.x.files"), table)
        assert facts_from_table(catalog().load("data_prep.x.files")) == known
    assert table.dtypes[["file", "bits", "oriented"]].tolist() == ["str", "int64", "bool"]


def test_splits_survive(project_folder: Path) -> None:
    listed = [("train", "good"), ("train", "bad"), ("test", "good"), ("test", "bad")]
    samples = [Sample(split, label, "NA", f"=1/{split}/{label}.png") for split, label in listed]
    index = build_index("01", "NA", samples, False, {each.image: FileFacts(sha256=each.image) for each in samples})
    assert_frame_equal(through("data_prep.x.index", index), index)
    parts = dict(zip(("train", "test", "draw"), supervised_split(index, "train", 1, 1), strict=True))
    assert parts["draw"].empty and parts["draw"].dtypes[["drawn", "order"]].tolist() == ["str", "int64"]
    for what, part in parts.items():
        assert_frame_equal(through(f"perturbation.x.{what}", part), part)


def test_the_draw_of_drift_survives(project_folder: Path) -> None:
    settings = ProjectConfigLoader(str(PROJECT / "conf"), **CONFIG_LOADER_ARGS)["parameters"]["data_drift"]["drift"]
    for test in (pd.DataFrame({"image": NAMES}), pd.DataFrame({"image": pd.Series(dtype="str")})):
        draw = draw_drift(test, settings, dataset="d", category="c", seed=1)
        assert set(draw.dtypes.astype(str)) == {"str"}
        assert_frame_equal(through("perturbation.x.draw", draw), draw)
