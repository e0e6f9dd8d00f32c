"""Data drift: models of the model evaluation on test images that drift (protocol 4.3 and 4.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from shopfloor.catalog.result_table import COLUMN_TYPES
from shopfloor.entries import AnyNumber, AtLeastOne, Expected, Name, Names, OrNone, Seed, refusal
from shopfloor.experiments.experiment import Experiment, Step, Tables, figure_titles
from shopfloor.perturbations.drift_settings import DriftSettings
from shopfloor.planning.axes import Axes
from shopfloor.planning.cell import Cell, Domains, Drift
from shopfloor.planning.errors import joined
from shopfloor.planning.reading import read_settings
from shopfloor.planning.report_settings import DriftAlarmSettings
from shopfloor.planning.settings import ExperimentSettings
from shopfloor.report.figures.comparison import Tick, comparison_figures
from shopfloor.report.figures.style import Chart
from shopfloor.report.page.change import Change
from shopfloor.report.page.sections import Section
from shopfloor.report.page.tables import comparison_tables, text_table
from shopfloor.report.statistics.drift_alarm import SUMMARY_KEYS, alarm_summary, drift_alarm
from shopfloor.report.tables.comparison import LINE, TRAINING, compare

METRICS = ("image_auroc", "image_pg2", "image_pb2", "pixel_aupro")
"""The metrics of its tables (protocol 4.3)."""


def _no_column(domains: Any) -> Any:
    taken = [str(each) for each in domains if str(each) in COLUMN_TYPES or str(each).endswith("_sd")]
    if taken:
        raise refusal(f"{joined(taken)} is the name of a column of tables. Choose another name.")
    return domains


class DataDriftSettings(ExperimentSettings):
    """What the experiment is told.

    Attributes:
        drift: How test images drift.
        drift_seeds: Seeds of the drift; there is no new training for them.
        natural: Names of datasets whose test images come from several domains.
        domains: Test sets of such a dataset: by name, the domains whose mean it is (protocol 4.4).
    """

    drift: DriftSettings
    drift_seeds: Annotated[tuple[Seed, ...], AtLeastOne]
    natural: Annotated[tuple[Name, ...], AnyNumber] = ()
    domains: Annotated[
        Mapping[Name, Names],
        Expected("names of test sets with lists of domains"),
        Field(validate_default=True),
        AfterValidator(_no_column),
        OrNone,
    ] = {}

    @field_validator("domains")
    @classmethod
    def _are_given(cls, domains: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        if info.data.get("natural") and not domains:
            raise refusal(f"expected names of test sets with lists of domains, found {domains!r}.")
        return domains


def expand(axes: Axes, settings: DataDriftSettings) -> Iterable[Cell]:
    """Make the models of the model evaluation, tested as it is, drifted, and on the domains of natural drift."""
    drifts = [Drift(seed, f"params:{axes.experiment}.drift", settings.drift.given) for seed in settings.drift_seeds]
    for cell in axes.cells(settings):
        yield cell
        for drift in drifts:
            yield replace(cell, drift=drift)
    test_sets = [Domains(name, tuple(domains)) for name, domains in settings.domains.items()]
    for cell in axes.cells(settings, settings.natural):
        for test_set in test_sets:
            yield replace(cell, domains=test_set)


def make_drift_tables(metrics: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the metrics of protocol 4.3 without and with drift, and those of protocol 4.4 on each set of domains.

    Args:
        metrics: All metrics of the experiment.

    Returns:
        Columns ``no_drift`` and ``drift``; one column per test set of domains. Both as of
        :func:`shopfloor.report.tables.comparison.compare`, empty where there is no such drift.
    """
    drifted = metrics[metrics["test_set_kind"] == "drift"]
    chosen = metrics[metrics["dataset"].isin(drifted["dataset"]) & metrics["test_set_kind"].isin(["full", "drift"])]
    columns = {"no_drift": {"test_set_kind": "full"}, "drift": {"test_set_kind": "drift"}} if len(drifted) else {}
    of_domains = metrics[metrics["test_set_kind"] == "domains"]
    by_test_set = {str(name): {"test_set": name} for name in of_domains["test_set"].unique()}
    keys = [*LINE, "image_size", *TRAINING]
    return compare(chosen, columns, METRICS, keys), compare(of_domains, by_test_set, METRICS, keys)


def draw_drift_figure(metrics: pd.DataFrame, drift_table: pd.DataFrame) -> tuple[Chart, ...]:
    """Draw each metric of protocol 4.3 without and with drift.

    Args:
        metrics: All metrics of the experiment.
        drift_table: As :func:`make_drift_tables` makes it.

    Returns:
        One figure per metric.
    """
    ticks = [Tick("no_drift", 0, "no drift"), Tick("drift", 1, "drift")]
    return comparison_figures(drift_table, METRICS, ticks, "test images", metrics)


def raise_drift_alarm(scores: pd.DataFrame, settings: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure how well the scores of good images tell drifted from clean ones, image by image and in batches.

    Args:
        scores: Raw scores of all cells.
        settings: ``batch_sizes``, ``repetitions``, ``false_alarms``, ``seed``.

    Returns:
        One line per cell, drift seed and batch size; one line per detector, means.
    """
    alarms = drift_alarm(scores, read_settings(DriftAlarmSettings, "drift_alarm", settings))
    return alarms, alarm_summary(alarms)


def find_change(tables: Tables) -> Change | None:
    """Tell what drift changes."""
    return Change("AUROC change, drift", tables["drift_table"], "no_drift", "drift")


def sections(tables: Tables) -> list[Section]:
    """Make the sections on drift and on the domains of natural drift."""
    of_drift = comparison_tables(tables["drift_table"], {"no_drift": "no drift", "drift": "drift"})
    alarm, metrics = tables["drift_alarm_table"], tables["metrics"]
    if len(alarm):
        shares = [str(name) for name in alarm if name not in (*SUMMARY_KEYS, "missing")]
        of_drift.append(text_table("Drift alarm", alarm, percent=shares))
    if "drift_counts" in tables:
        of_drift.append(text_table("Drawn transforms", tables["drift_counts"]))
    names = map(str, metrics.loc[metrics["test_set_kind"] == "domains", "test_set"].unique())
    of_domains = comparison_tables(tables["domain_table"], {name: name for name in names})
    return [
        Section("drift", "Drift", _DRIFT_TEXT, tables=of_drift, pictures="galleries"),
        Section("domains", "Natural drift", _DOMAIN_TEXT, tables=of_domains),
    ]


_DRIFT_TEXT = (
    "Percent, on the test images as they are and with one or two changes of camera position, lighting or image "
    "quality. Training images never drift. The spread is that of the drift seeds; masks follow the geometry, and a bad "
    "image whose defect left the picture stays bad. The shape of the shadow is an assumption: the paper gives only its "
    "number of layers and factor. The drift alarm asks whether the scores of good parts alone betray "
    "the drift: of single images (probability that a drifted one scores higher; below 50 where drift lowers scores), "
    "and of batches (probability that a drifted batch is the stranger one, and share of drifted batches found where 5 "
    "% of the clean ones may raise the alarm)."
)
_DOMAIN_TEXT = (
    "Percent, per recording condition. A test set of several conditions is measured on each, and the mean is shown."
)

EXPERIMENT = Experiment(
    "data_drift",
    DataDriftSettings,
    expand,
    steps=(
        Step(make_drift_tables, ("metrics",), ("drift_table", "domain_table")),
        Step(raise_drift_alarm, ("scores", "params:drift_alarm"), ("drift_alarms", "drift_alarm_table")),
        Step(
            draw_drift_figure,
            ("metrics", "drift_table"),
            figures=figure_titles("drift", METRICS, "without and with drift"),
        ),
    ),
    find_change=find_change,
    sections=sections,
)
