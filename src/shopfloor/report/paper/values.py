"""Find the values of a table in what a run measured; one that is not there is a hole with its reason."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.planning.report_settings import PaperTablesSettings
from shopfloor.report.tables.baseline import training_kind
from shopfloor.report.tables.value_tables import dataset_table, mean_table

TRAINING = ["image_size", "condition", "condition_kind"]
SELECTED = [*TRAINING, "test_set", "test_set_kind"]
KEYS = ["dataset", "detector", *SELECTED]
_ABSENT = "not in this run"
#: What the costs say, by the name that it has among a table's metrics; numbers of epochs, not percent.
EPOCHS = {"epochs": "stopped_epoch", "best_epoch": "best_epoch"}

Key = tuple[Any, ...]
Line = Mapping[Hashable, Any]


class TableCell(NamedTuple):
    """Hold one value, or the reason why there is none."""

    value: float = np.nan
    sd: float = np.nan
    kind: str = ""
    hole: str = ""


class TableColumn(NamedTuple):
    """Describe one column: a dataset, or several for their mean, in one case."""

    label: str
    members: tuple[str, ...]
    is_mean: bool
    selection: Key  # values of `SELECTED`; empty where the run has no such case
    condition: str  # as the published numbers name the case


@dataclass(frozen=True)
class RunValues:
    """Give what a run has for a table."""

    all_metrics: pd.DataFrame
    costs: pd.DataFrame
    settings: PaperTablesSettings
    wanted: tuple[str, ...]

    @property
    def follows_paper(self) -> bool:
        return self.settings.rows_and_columns == "paper"

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The metrics of the table, without pixel values of datasets that have no masks in the paper."""
        table = self.all_metrics[self.all_metrics["metric"].isin(self.wanted)]
        hidden = table["dataset"].isin(self.settings.without_masks) & table["metric"].str.startswith("pixel_")
        return table.assign(
            value=table["value"].mask(hidden),
            status=table["status"].mask(hidden, "not_available"),
            note=table["note"].mask(hidden, "this dataset has no pixel labels"),
        )

    @cached_property
    def datasets(self) -> dict[Key, Line]:
        """Lines of the dataset table by `KEYS`."""
        return _by_key(dataset_table(self.metrics), KEYS) if len(self.metrics) else {}

    @cached_property
    def categories(self) -> dict[Hashable, int]:
        return self.metrics.groupby("dataset")["category"].nunique().to_dict()

    @cached_property
    def epochs(self) -> dict[Key, Line]:
        return _epochs(self.costs)

    @cached_property
    def known(self) -> pd.DataFrame:
        """Which combinations the run has, in its order, and the share of wrong labels where there is one."""
        noisy = self.metrics[self.metrics["condition_kind"] == "noise"]
        percent = dict(zip(noisy["condition"], noisy["condition_amount"].astype(float), strict=True))
        table = pd.DataFrame(list(self.datasets), columns=KEYS)
        return table.assign(condition_amount=table["condition"].map(percent).where(table["condition_kind"] == "noise"))

    @cached_property
    def mean_of(self) -> Callable[[tuple[str, ...]], dict[Key, Line]]:
        """Lines of the mean over some datasets by detector and `SELECTED`."""

        @cache
        def of(members: tuple[str, ...]) -> dict[Key, Line]:
            part = self.metrics[self.metrics["dataset"].isin(members)]
            return _by_key(mean_table(part), ["detector", *SELECTED]) if len(part) else {}

        return of

    def why_not_available(self, dataset: str, detector: str, metric: str) -> str:
        lines = self.metrics
        chosen = (lines["dataset"] == dataset) & (lines["detector"] == detector) & (lines["metric"] == metric)
        notes = lines.loc[chosen & (lines["status"] == "not_available"), "note"].dropna().unique()
        return "; ".join(str(note) for note in notes if str(note)) or "not available"

    def printed(self, dataset: str) -> str:
        return str(self.settings.datasets.get(dataset, dataset))

    def method(self, detector: str) -> str:
        return str(self.settings.methods.get(detector, detector))


def _by_key(table: pd.DataFrame, keys: list[str]) -> dict[Key, Line]:
    return {tuple(line[key] for key in keys): line for line in table.to_dict("records")}


def _epochs(costs: pd.DataFrame) -> dict[Key, Line]:
    """Epochs as lines of the dataset table have metrics: mean over categories, then seeds; a part without is a hole."""
    keys = ["dataset", "detector", *TRAINING]
    table = costs.reindex(columns=[*keys, "category", "seed", "status", *EPOCHS.values()])
    table = table.assign(condition_kind=training_kind(table))
    lines: dict[Key, Line] = {}
    for key, group in table.groupby(keys, sort=False):
        line: dict[Hashable, Any] = {}
        for metric, column in EPOCHS.items():
            per_seed = group.assign(**{column: group[column].astype(float)}).groupby("seed")[column]
            over_seeds = per_seed.mean(skipna=False)
            line[metric] = over_seeds.mean(skipna=False)
            line[f"{metric}_sd"] = over_seeds.std(skipna=False)
        parts = group[group[list(EPOCHS.values())].isna().any(axis="columns")]
        line["missing"] = "; ".join(
            f"{part.dataset}/{part.category}, seed {part.seed}: "
            + ("no epochs recorded" if part.status == "ok" else str(part.status))
            for part in parts.itertuples()
        )
        lines[tuple(key)] = line
    return lines


def dataset_cell(run: RunValues, dataset: str, detector: str, selection: Key, metric: str) -> TableCell:
    """Find the value of one dataset."""
    if metric.startswith("pixel_") and dataset in run.settings.without_masks:
        return TableCell(kind="not_available", hole="this dataset has no pixel labels")
    line = run.datasets.get((dataset, detector, *selection))
    if line is None:
        return TableCell(kind="absent", hole=_ABSENT)
    have, want = run.categories[dataset], run.settings.categories.get(dataset)
    if run.follows_paper and want is not None and have != want:
        return TableCell(kind="absent", hole=f"{have} of {want} categories in this run")
    if metric in EPOCHS:
        line, percent = run.epochs.get((dataset, detector, *selection[: len(TRAINING)]), {}), 1
    else:
        percent = 100
    return _cell(line, metric, percent, lambda: run.why_not_available(dataset, detector, metric))


def _cell(line: Line, metric: str, scale: int, why_not_available: Callable[[], str]) -> TableCell:
    value = line.get(metric, np.nan)
    if pd.notna(value):
        return TableCell(scale * float(value), scale * float(line.get(f"{metric}_sd", np.nan)))
    if metric in str(line.get("not_available", "")).split():
        return TableCell(kind="not_available", hole=why_not_available())
    return TableCell(kind="missing", hole=line.get("missing") or "not measured")


def mean_cell(run: RunValues, column: TableColumn, detector: str, metric: str) -> TableCell:
    """Average over the column's datasets; a hole in one of them is a hole here."""
    parts = {each: dataset_cell(run, each, detector, column.selection, metric) for each in column.members}
    lacking: dict[str, list[str]] = {}
    for dataset, part in parts.items():
        if part.kind in ("missing", "absent"):
            lacking.setdefault(part.hole, []).append(run.printed(dataset))
    if lacking:
        kind = "absent" if "absent" in {part.kind for part in parts.values()} else "missing"
        return TableCell(kind=kind, hole="; ".join(f"{', '.join(names)}: {why}" for why, names in lacking.items()))
    whys = dict.fromkeys(part.hole for part in parts.values() if part.kind == "not_available")
    if all(part.kind == "not_available" for part in parts.values()):
        return TableCell(kind="not_available", hole="; ".join(whys))
    # A dataset without masks need not have said so itself.
    members = tuple(
        each for each, part in parts.items() if part.kind != "not_available" or each not in run.settings.without_masks
    )
    line = run.mean_of(members).get((detector, *column.selection), {})
    return _cell(line, metric, 100, lambda: "; ".join(whys) or "not available")
