"""Names that a user gives to domains and rules of stopping decide nothing: the columns of kinds do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopfloor.config import ProjectConfigLoader
from shopfloor.experiments import EXPERIMENTS
from shopfloor.experiments.data_drift import draw_drift_figure, make_drift_tables
from shopfloor.experiments.grid import Grid, expand_experiments
from shopfloor.experiments.input_size import make_size_table
from shopfloor.experiments.noisy_labels import draw_noise_figure, make_noise_table, noise_levels
from shopfloor.experiments.validation import make_stopping_table
from shopfloor.pipelines.reporting.nodes import draw_categories
from shopfloor.pipelines.reporting.pipeline import create_pipeline
from shopfloor.planning.cell import Cell, each_once
from shopfloor.planning.report_settings import BootstrapSettings, DriftAlarmSettings
from shopfloor.report.figures.style import is_empty
from shopfloor.report.page.change import points_of
from shopfloor.report.paper.tables import paper_tables
from shopfloor.report.statistics.drift_alarm import drift_alarm
from shopfloor.report.statistics.uncertainty import certainty_tables
from shopfloor.report.tables.baseline import baseline_of
from shopfloor.report.tables.collecting import collect_metrics
from shopfloor.report.tables.value_tables import category_table, dataset_table, mean_table
from shopfloor.settings import CONFIG_LOADER_ARGS
from tests.report.conftest import NO_COSTS, cell_scores, change_of, headline_of, tables_of
from tests.report.test_paper_tables import settings

PROJECT = Path(__file__).resolve().parents[2]
DOMAINS = {"drift_7": ["same"], "common_light": ["view"], "full": ["background"], "drift": ["illumination", "view"]}
#: Image AUROC by kind and name of the test set.
VALUES = {
    ("full", "full"): 0.9,
    ("drift", "drift_7"): 0.7,
    ("drift", "drift_1"): 0.5,
    ("domains", "drift_7"): 0.1,
    ("domains", "common_light"): 0.2,
    ("domains", "full"): 0.3,
    ("domains", "drift"): 0.4,
}


def parameters(**changed: dict[str, Any]) -> dict[str, Any]:
    """Those of the paper's environment with some keys of some blocks set."""
    found = dict(ProjectConfigLoader(str(PROJECT / "conf"), env="paper", **CONFIG_LOADER_ARGS)["parameters"])
    return found | {block: {**found[block], **entries} for block, entries in changed.items()}


def experiment(name: str, **changed: Any) -> Grid:
    return expand_experiments(parameters(**{name: changed}))[name]


@pytest.fixture(scope="module")
def drifting() -> Grid:
    """One dataset with synthetic and with natural drift."""
    return experiment(
        "data_drift",
        **{"datasets": ["aebad_s"], "natural": ["aebad_s"], "detectors": ["patchcore"], "drift_seeds": [7, 1]},
        domains=DOMAINS,
    )


def measured(cells: tuple[Cell, ...], values: dict[tuple[str, str], float]) -> pd.DataFrame:
    """Metrics as the pipeline collects them, the value of each cell by kind and name of its test set."""
    tables = []
    for cell in cells:
        line = {**cell.coordinates, "group": "", "metric": "image_auroc", "status": "ok", "note": ""}
        tables.append(pd.DataFrame([line | {"value": values[cell.test_set_kind, cell.test_set]}]))
    return collect_metrics(*tables, cells=[cell.coordinates for cell in cells])[0]


@pytest.fixture(scope="module")
def metrics(drifting: Grid) -> pd.DataFrame:
    return measured(drifting.cells, VALUES)


def test_such_domains_are_planned_each_with_its_own_result(drifting: Grid) -> None:
    assert {(cell.test_set_kind, cell.test_set) for cell in drifting.cells} == set(VALUES)
    assert len({cell.names.metrics for cell in drifting.cells}) == len(VALUES)
    assert len({cell.names.scores for cell in drifting.cells}) == 3, (
        "as it is and two drifts: domains share the predictions"
    )


def test_each_domain_is_a_column_of_the_domains_and_of_no_drift(metrics: pd.DataFrame) -> None:
    made: Any = make_drift_tables(metrics)
    drift, domains = made
    assert len(drift) == 1
    assert drift.loc[0, ["no_drift", "drift"]].tolist() == pytest.approx([0.9, 0.6])
    assert len(domains) == 1
    assert domains.loc[0, list(DOMAINS)].to_dict() == pytest.approx(
        {"drift_7": 0.1, "common_light": 0.2, "full": 0.3, "drift": 0.4}
    )
    assert set(drift["status"]) == set(domains["status"]) == {"ok"}


def test_value_tables_keep_test_sets_of_one_name_apart(metrics: pd.DataFrame) -> None:
    table: Any = category_table(metrics).set_index(["test_set_kind", "test_set"])["image_auroc"]
    assert table.to_dict() == pytest.approx(
        {("full", "full"): 0.9, ("drift", "drift"): 0.6, **{key: VALUES[key] for key in VALUES if key[0] == "domains"}}
    )
    assert len(mean_table(metrics)) == len(table)
    two_sizes = pd.concat([metrics, metrics.assign(image_size=512, value=metrics["value"] / 2)])
    sizes: Any = make_size_table(two_sizes).set_index(["test_set_kind", "test_set"])
    assert len(sizes) == len(table)
    assert sizes.loc[("domains", "drift"), ["256", "512"]].tolist() == pytest.approx([0.4, 0.2])


def test_sentences_changes_and_figures_take_the_full_test_set_for_what_it_is(metrics: pd.DataFrame) -> None:
    assert headline_of(metrics).startswith("Best mean image AUROC: 90.0 % with patchcore")
    assert points_of(change_of("data_drift", metrics)) == {"patchcore": {"AUROC change, drift": pytest.approx(-30.0)}}
    only_domains = metrics[metrics["test_set_kind"] == "domains"]
    assert make_drift_tables(only_domains)[0].empty
    assert points_of(change_of("data_drift", only_domains)) == {}
    assert headline_of(only_domains).startswith("No detector has a complete set")
    tables = tables_of(only_domains, experiment="data_drift")
    drawn = [*draw_drift_figure(only_domains, tables["drift_table"]), *draw_categories(tables["category_table"])]
    assert all(map(is_empty, drawn)), "no drift, and no full test set to draw"


def test_the_page_has_both_sections(metrics: pd.DataFrame) -> None:
    sections = EXPERIMENTS["data_drift"].sections
    assert sections is not None
    found = {each.id: each for each in sections(tables_of(metrics, experiment="data_drift"))}
    assert set(found) == {"drift", "domains"}
    texts = {name: [field.text for field in found[name].tables[0].lines[0]] for name in found}
    assert texts["drift"][-2:] == ["90.0", "60.0"]
    assert texts["domains"][-4:] == ["10.0", "20.0", "30.0", "40.0"]


def test_the_papers_tables_take_drift_from_drift(metrics: pd.DataFrame) -> None:
    block = settings(rows_and_columns="run")
    (table,) = [table for table in paper_tables("data_drift", metrics, NO_COSTS, block) if table.number == 6]
    found = table.frame[table.frame["metric"] == "image_auroc"].set_index("column")["value"].to_dict()
    assert found == pytest.approx({"D": 90.0, "D+dr": 60.0})


def test_scores_of_domains_are_those_of_no_other_test_set(drifting: Grid, metrics: pd.DataFrame) -> None:
    scores = pd.concat(
        [
            cell_scores(place).assign(**cell.scored)
            for place, cell in enumerate(each_once(drifting.cells, "predict_key"))
        ]
    )
    alarms = drift_alarm(scores, DriftAlarmSettings(batch_sizes=(8,), repetitions=5, false_alarms=0.05, seed=1))
    assert list(alarms["test_set"]) == ["drift_1", "drift_7"]
    intervals, means, _ = certainty_tables(scores, BootstrapSettings(resamples=3, level=0.9, seed=1), metrics)
    kinds = intervals[["test_set_kind", "test_set"]].drop_duplicates().to_numpy().tolist()
    assert sorted(kinds) == [["drift", "drift_1"], ["drift", "drift_7"], ["full", "full"]]
    assert (means["missing"] == "").all()
    # A dataset that is measured by domains alone has no interval, whatever its domains are called.
    only_domains = metrics[metrics["test_set_kind"] == "domains"]
    intervals, means, _ = certainty_tables(scores, BootstrapSettings(resamples=3, level=0.9, seed=1), only_domains)
    assert intervals.empty and means.empty


def stopping_rules() -> Grid:
    rules = {"early_stop": None, "noise_4": {}, "clean": {"monitor": "image_auroc", "patience": 3}}
    rules |= {"full_length": None}
    return experiment("validation", stopping=rules, detectors=["csflow", "simplenet"], seeds=[1])


def test_rules_of_stopping_are_no_noise_and_no_clean_training() -> None:
    cells = stopping_rules().cells
    metrics = measured(cells, {("full", "full"): 0.5})
    assert set(metrics["condition"]) == {"noise_4", "clean"} and set(metrics["condition_kind"]) == {"holdout"}
    assert noise_levels(metrics) == [] and make_noise_table(metrics).empty
    assert change_of("noisy_labels", metrics) is None
    assert baseline_of(metrics) == ("noise_4", "holdout"), "the first, as none is clean"
    assert "training condition noise_4" in headline_of(metrics)
    costs = metrics.assign(stopped_epoch=4.0, best_epoch=3.0, n_train_bad=1, device="cpu")
    assert set(make_stopping_table(dataset_table(metrics), costs)["condition"]) == {"noise_4", "clean"}
    block = settings(rows_and_columns="run")
    (table,) = paper_tables("validation", metrics, costs, block)
    assert table.columns == ["VAD noise 4", "VAD clean"], "a rule's name is no percentage"
    assert set(table.frame.loc[table.frame["metric"] == "epochs", "value"]) == {4.0}
    assert all(map(is_empty, draw_noise_figure(metrics, make_noise_table(metrics))))


def test_detectors_side_by_side_have_the_first_rule_where_no_training_is_clean() -> None:
    (node,) = [node for node in create_pipeline([stopping_rules()]).nodes if "show_side_by_side" in node.name]
    scores = [name for name in node.inputs if name.endswith(".scores")]
    assert len(scores) == 2 and all(".noise_4." in name for name in scores)


def test_a_level_is_found_whatever_its_name_looks_like() -> None:
    cells = experiment("noisy_labels", noise_percent=[16, 1e-05, 2.5], detectors=["patchcore"], seeds=[1]).cells
    metrics = measured(cells, {("full", "full"): 0.5, ("common", "common_1"): 0.4})
    assert [level.percent for level in noise_levels(metrics)] == [0, 1e-05, 2.5, 16]
    table = make_noise_table(metrics)
    for level in noise_levels(metrics):
        assert table[level.condition].tolist() == pytest.approx([0.5] * len(table))
        assert table[level.same_test].tolist() == pytest.approx([0.4] * len(table))
    assert set(table["status"]) == {"ok"}


def test_a_share_of_the_good_images_stands_in_one_mean_with_all_of_them() -> None:
    cells = [cell for cell in experiment("input_size").cells if cell.detector == "patchcore" and cell.image_size == 512]
    metrics = measured(tuple(cells), {("full", "full"): 0.5})
    assert set(metrics["condition_kind"]) == {"clean", "share"}
    table: Any = mean_table(metrics)
    assert len(table) == 1 and table.loc[0, ["condition_kind", "datasets"]].tolist() == ["clean", 3]
    assert baseline_of(metrics) == ("clean", "clean")


def test_the_columns_say_what_the_names_stand_for(drifting: Grid) -> None:
    names = ["condition_kind", "condition_amount", "test_set_kind", "test_set_seed"]

    def found(cells: tuple[Cell, ...]) -> set[tuple[Any, ...]]:
        lines = ([cell.coordinates[name] for name in names] for cell in cells)
        return {tuple(None if isinstance(each, float) and np.isnan(each) else each for each in line) for line in lines}

    assert found(drifting.cells) == {
        ("clean", None, "full", None),
        ("clean", None, "drift", 7),
        ("clean", None, "drift", 1),
        ("clean", None, "domains", None),
    }
    noisy = experiment("noisy_labels", noise_percent=[4], detectors=["patchcore"], seeds=[1, 2]).cells
    assert found(noisy) == {
        (kind, percent, *test_set)
        for kind, percent in (("clean", None), ("noise", 4.0))
        for test_set in (("full", None), ("common", 1), ("common", 2))
    }
    assert found(experiment("supervised").cells) == {
        ("supervised", amount, "full", None) for amount in (20.0, 50.0, None)
    }
    assert found(stopping_rules().cells) == {("holdout", 10.0, "full", None)}
    for cell in (*drifting.cells, *noisy):
        kind = "drift" if cell.drift else "full"
        assert (cell.scored["test_set_kind"], cell.scored["test_set"]) == (
            kind,
            cell.test_set if cell.drift else "full",
        )
