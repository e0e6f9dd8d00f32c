"""Validation: a part of the training data is held out, and training stops by it, or not (protocol 4.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from shopfloor.experiments.experiment import Experiment, Step, Tables
from shopfloor.metrics.entries import label_of
from shopfloor.perturbations.splits import holdout_split
from shopfloor.planning.axes import product
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import Cell, Condition, Parameters
from shopfloor.planning.parameter_checks import GridError, check_keys, percentage
from shopfloor.report.page.sections import Section
from shopfloor.report.page.tables import Column, Table, as_field, page_table
from shopfloor.report.tables.comparison import LINE, TRAINING

METRICS = ("image_auroc", "image_f1max")
"""The metrics of its table (protocol 4.7)."""

_STOPPING_KEYS = {"monitor", "patience", "min_delta", "every_n_epochs"}
_EPOCHS = {"stopped_epoch": "Epochs trained", "best_epoch": "Best epoch"}


def expand(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    """Make the same held-out part for every rule of stopping, the full length among them.

    Raises:
        GridError: A detector has no epochs to stop between.
    """
    percent = percentage(name, "holdout_percent", settings.get("holdout_percent"))
    rules = settings.get("stopping")
    if not isinstance(rules, Mapping) or not rules:
        raise GridError(f"{name}.stopping: expected rules by name, found {rules!r}.")
    conditions = []
    for rule, keys in rules.items():
        if keys is None:  # switched off by an environment
            continue
        if not isinstance(keys, Mapping):
            raise GridError(f"{name}.stopping.{rule}: expected keys and values, found {keys!r}.")
        check_keys(f"{name}.stopping.{rule}", keys, _STOPPING_KEYS)
        conditions.append(_holdout(str(rule), percent, keys))
    for cell in product(parameters, name, settings):
        trainer = cell["detector_settings"].get("trainer") or {}
        if (trainer.get("max_epochs") or 0) <= 1:
            raise GridError(
                f"{name}.detectors: {cell['detector']} has no epochs to stop between "
                f"(detectors.{cell['detector']}.trainer.max_epochs is {trainer.get('max_epochs')})."
            )
        for condition in conditions:
            yield Cell(**cell, condition=condition)


def _holdout(rule: str, percent: float, keys: Mapping[str, Any]) -> Condition:
    return Condition(
        rule,
        f"holdout_{percent:g}",
        "holdout",
        percent,
        stopping=tuple(sorted(keys.items())),
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
    expand,
    frozenset({"holdout_percent", "stopping"}),
    steps=(Step(make_stopping_table, ("dataset_table", "costs"), ("stopping_table",)),),
    sections=sections,
)
