"""Validation: a part of the training data is held out, and training stops by it, or not (protocol 4.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
from pydantic import BeforeValidator

from shopfloor.detectors.stopping_rule import StoppingRule
from shopfloor.entries import Name, Percentage, refusal
from shopfloor.experiments.experiment import Experiment, Step, Tables
from shopfloor.metrics.entries import label_of
from shopfloor.perturbations.splits import holdout_split
from shopfloor.planning.axes import Axes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, Condition
from shopfloor.planning.errors import GridError
from shopfloor.planning.settings import ExperimentSettings
from shopfloor.report.page.sections import Section
from shopfloor.report.page.tables import Column, Table, as_field, page_table
from shopfloor.report.tables.comparison import LINE, TRAINING

METRICS = ("image_auroc", "image_f1max")
"""The metrics of its table (protocol 4.7)."""

_EPOCHS = {"stopped_epoch": "Epochs trained", "best_epoch": "Best epoch"}


def _that_are_on(rules: Any) -> Any:
    if not isinstance(rules, Mapping) or not rules:
        raise refusal(f"expected rules by name, found {rules!r}.")
    return {name: keys for name, keys in rules.items() if keys is not None}  # an environment cannot remove a key


_Rule = Annotated[StoppingRule | None, BeforeValidator(lambda keys: None if keys == {} else keys)]


class ValidationSettings(ExperimentSettings):
    """What the experiment is told.

    Attributes:
        holdout_percent: Share of the good and of the bad training images that is held out.
        stopping: Rules of stopping by name; one without keys trains to the full length, one that is null is off.
    """

    holdout_percent: Percentage
    stopping: Annotated[Mapping[Name, _Rule], BeforeValidator(_that_are_on)]


def expand(axes: Axes, settings: ValidationSettings) -> Iterable[Cell]:
    """Make the same held-out part for every rule of stopping, the full length among them.

    Raises:
        GridError: A detector has no epochs to stop between.
    """
    conditions = [_holdout(name, settings.holdout_percent, rule) for name, rule in settings.stopping.items()]
    for cell in axes.cells(settings):
        epochs = cell.detector_settings.trainer.get("max_epochs")
        if (epochs or 0) <= 1:
            raise GridError(
                f"{axes.experiment}.detectors: {cell.detector} has no epochs to stop between "
                f"(detectors.{cell.detector}.trainer.max_epochs is {epochs})."
            )
        for condition in conditions:
            yield replace(cell, condition=condition)


def _holdout(name: str, percent: float, rule: StoppingRule | None) -> Condition:
    return Condition(
        name,
        f"holdout_{percent:g}",
        "holdout",
        percent,
        stopping=tuple(sorted(rule.given.items())) if rule else (),
        make_split=bind(holdout_split, percent=percent),
        holds_out=True,
    )


def make_stopping_table(dataset_table: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Put metrics and epochs of protocol 4.7 side by side for each rule of stopping.

    Args:
        dataset_table: Means over the categories.
        costs: One line per training with ``stopped_epoch`` and ``best_epoch``.

    Returns:
        One line per dataset, detector and rule (``condition``): `METRICS`, ``stopped_epoch`` (epochs trained) and
        ``best_epoch`` (on the held-out images; the tested state, except at full length, where the last is tested),
        means over categories and seeds, NaN where one of these is missing. Empty without a held-out part.
    """
    table = dataset_table[dataset_table["condition_kind"] == "holdout"]
    keys = [*LINE, "image_size", *TRAINING]
    known = costs.reindex(columns=[*keys, *_EPOCHS]).astype(dict.fromkeys(_EPOCHS, float))
    by_rule: Any = known.groupby(keys, sort=False)[list(_EPOCHS)]
    epochs = by_rule.agg(lambda of: of.mean(skipna=False)).reset_index()
    shown = [name for metric in METRICS for name in (metric, f"{metric}_sd") if name in table]
    rest = ["seeds", "status", "not_available", "missing"]
    return table[[*keys, *shown, *rest]].merge(epochs, on=keys, how="left")


def sections(tables: Tables) -> list[Section]:
    """Make the section that compares the rules: the metrics of each, with the epochs before what is missing."""
    table = tables["stopping_table"]
    if table.empty:
        return []
    shown = [name for name in METRICS if name in table.columns]
    plain = page_table("Rules of stopping", table, shown, [Column(label_of(name), is_number=True) for name in shown])
    place = [column.label for column in plain.columns].index(label_of(shown[-1])) + 1
    columns = list(plain.columns)
    columns[place:place] = [Column(label, is_number=True) for label in _EPOCHS.values()]
    lines = [
        [*line[:place], *(as_field(row[epoch]) for epoch in _EPOCHS), *line[place:]]
        for line, row in zip(plain.lines, table.to_dict("records"), strict=True)
    ]
    return [Section("stopping", "Stopping", _TEXT, tables=[Table(plain.name, columns, lines, plain.shared)])]


_TEXT = (
    "Percent, and epochs: how many were trained, and which was the best on the held-out images. With a rule the state "
    "of the best epoch is tested, at full length that of the last. All rows have the same training images; the "
    "held-out ones were cut from the training data and are in no test set."
)

EXPERIMENT = Experiment(
    "validation",
    ValidationSettings,
    expand,
    steps=(Step(make_stopping_table, ("dataset_table", "costs"), ("stopping_table",)),),
    sections=sections,
)
