"""From the values of single runs to the tables of the report (protocol 3).

Steps are category, dataset, mean over datasets; seeds are averaged last, with their standard deviation. A mean is a
number only when all of its parts are there: otherwise it is NaN and the column ``missing`` names what it lacks. All
values are fractions; :func:`display_cells` turns them into percent with one decimal.

The columns that the three value tables share, after those that name the line:

=================  ====================================================================================
one per metric     mean over seeds, a fraction; NaN where a part is missing or the metric not available
``<metric>_sd``    standard deviation over seeds (n - 1 in the denominator), NaN with one seed
``seeds``          number of seeds that the line stands for, the missing ones included
``status``         ok, not_available (all metrics), one of `HOLES`, or incomplete (some parts are there)
``not_available``  names of the metrics that the line cannot have, separated by a space
``missing``        the missing parts, e.g. ``bottles/glass, seed 1087: failed``
=================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from shopfloor.catalog.result_table import typed
from shopfloor.metrics.entries import METRICS
from shopfloor.report.tables.baseline import training_kind

HOLES = ("failed", "outdated", "missing")
"""Statuses of what is not there, the gravest first (`shopfloor.runners.missing.MissingResult`)."""

CELL = ["dataset", "category", "detector", "image_size", "condition", "seed"]

_TEST_SET = ["test_set", "test_set_kind"]
_SETTING = ["detector", "image_size", "condition", "condition_kind", *_TEST_SET]


def category_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """One line per dataset, category, detector, image size, condition and test set.

    Args:
        metrics: One line per run, test set and metric: the columns of `shopfloor.planning.cell.Cell.coordinates`,
            ``metric, value, status, note``. The test sets of kind ``common`` become one test set of that name whose
            seeds are averaged, and so do those of kind ``drift``. The condition kind ``share`` becomes ``clean``.

    Returns:
        The line's names and the shared columns of this module.

    Raises:
        ValueError: Two values for the same run, test set and metric.
    """
    return _table(_runs(metrics), ["dataset", "category", *_SETTING])


def dataset_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Plain mean over the categories of each dataset (protocol 3.2); same argument and columns as `category_table`.

    The set is complete when every category that the dataset has anywhere in ``metrics`` is there for every seed.
    """
    runs = _with_all_categories(_runs(metrics))
    table = _table(runs, ["dataset", *_SETTING])
    sizes = runs.groupby("dataset")["category"].nunique()
    table.insert(list(table).index("seeds"), "categories", table["dataset"].map(sizes))
    return table


def mean_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean over the datasets, each counted once (protocol 3.3); same argument and columns as `category_table`.

    A dataset that cannot have a metric, such as a pixel metric without masks, is left out of that metric's mean;
    ``datasets`` and ``datasets_pixel`` count those that are in. The set is complete when every dataset with this
    condition and test set is there.
    """
    runs = _with_all_datasets(_with_all_categories(_runs(metrics)))
    able = runs[~_cannot_have(runs)]
    table = _table(able, _SETTING, average_first=["dataset"], metrics=present_metrics(metrics))
    place = list(table).index("seeds")
    group = ["condition", "condition_kind", *_TEST_SET]
    for name, part in (("datasets_pixel", able[_is_pixel(able)]), ("datasets", runs)):
        counts = part.groupby(group)["dataset"].nunique().rename(name).reset_index()
        column = table[group].merge(counts, on=group, how="left")[name].fillna(0).astype(int)
        table.insert(place, name, column)
    return table


def failures_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """One line per run with a hole: its names, ``status`` (the gravest of `HOLES`), ``metrics``, ``reason``.

    ``metrics`` is "all" or the names of those that are lacking.
    """
    columns = [*CELL, "status", "metrics", "reason"]
    lines = []
    for key, group in metrics.groupby(CELL, sort=False):
        holes = group[group["status"].isin(HOLES)]
        if holes.empty:
            continue
        lacking = list(dict.fromkeys(holes["metric"]))
        reasons = [str(note) for note in holes["note"].dropna().unique() if str(note)]
        status = next(status for status in HOLES if (holes["status"] == status).any())
        whole = len(holes) == len(group)
        lines.append((*key, status, "all" if whole else " ".join(lacking), "; ".join(reasons)))
    table = pd.DataFrame(lines, columns=columns)
    return table.sort_values("status", key=lambda status: status.map(HOLES.index), kind="stable", ignore_index=True)


def unavailable_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Which metrics a dataset (or a detector on it) cannot have: ``dataset, detectors, metrics, reason``."""
    rows = metrics[metrics["status"] == "not_available"]
    lines = []
    for (dataset, reason), group in rows.groupby(["dataset", rows["note"].fillna("")], sort=False):
        names = [list(dict.fromkeys(group[column])) for column in ("detector", "metric")]
        everyone = set(names[0]) == set(metrics.loc[metrics["dataset"] == dataset, "detector"])
        lines.append((dataset, "all" if everyone else ", ".join(names[0]), " ".join(names[1]), reason))
    return pd.DataFrame(lines, columns=["dataset", "detectors", "metrics", "reason"])


def cost_table(costs: pd.DataFrame) -> pd.DataFrame:
    """Median costs per dataset, detector, image size and device, over the runs that finished.

    Returns:
        ``cells`` and ``finished`` count the runs, so that an incomplete set shows; ``fit_seconds``,
        ``predict_ms_per_image`` and ``peak_memory_mb`` are medians, with ``_min`` and ``_max``.
    """
    keys = ["dataset", "detector", "image_size"]
    measured = costs[costs["status"] == "ok"]
    table = costs.groupby(keys, sort=False).size().rename("cells").to_frame()
    by_key = measured.groupby(keys, sort=False)
    table["finished"] = by_key.size().reindex(table.index, fill_value=0)
    for name in ("fit_seconds", "predict_ms_per_image", "peak_memory_mb"):
        for suffix, statistic in (("", "median"), ("_min", "min"), ("_max", "max")):
            table[name + suffix] = by_key[name].agg(statistic)
    for name in ("parameters", "epochs"):
        table[name] = by_key[name].max()
    table["device"] = by_key["device"].agg(lambda names: ", ".join(dict.fromkeys(map(str, names.dropna()))))
    return typed(table.reset_index())


class CellCount(NamedTuple):
    """How many runs were planned, and what became of them."""

    planned: int
    finished: int
    failed: int
    outdated: int
    missing: int


def count_cells(metrics: pd.DataFrame, failures: pd.DataFrame) -> CellCount:
    """Count the runs; one that lacks a metric is not finished.

    Args:
        metrics: As for `category_table`.
        failures: Its `failures_table`.
    """
    planned = len(metrics[CELL].drop_duplicates())
    statuses = list(failures["status"])
    return CellCount(planned, planned - len(statuses), *map(statuses.count, HOLES))


class DisplayCell(NamedTuple):
    """One value as a reader sees it.

    Attributes:
        text: ``97.3``, ``–`` (not available), or the kind of hole (``✗ failed``, ``outdated``, ``missing``,
            ``✗ incomplete``).
        value: The percentage before rounding, None where there is none.
        best: Whether this is printed in bold.
        spread: Standard deviation over seeds in percentage points, e.g. ``± 0.4``, or nothing.
    """

    text: str
    value: float | None = None
    best: bool = False
    spread: str = ""

    @property
    def is_hole(self) -> bool:
        return self.text in _HOLE_TEXT.values()


_HOLE_TEXT = {"failed": "✗ failed", "outdated": "outdated", "missing": "missing", "incomplete": "✗ incomplete"}


def display_cells(table: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, DisplayCell]]:
    """Percent with one decimal, holes by name, the best value of each column marked.

    Only detectors are compared: lines that differ in dataset, category, image size, condition or test set never
    compete. Values that print the same are all best; a lone value is not marked.

    Args:
        table: A table of this module, in fractions.
        columns: The value columns to show.

    Returns:
        One dictionary per line of the table, in its order.
    """
    lines: list[dict[str, DisplayCell]] = [
        {column: _display_cell(line, column) for column in columns} for _, line in table.iterrows()
    ]
    names = ("dataset", "category", "image_size", "condition", "condition_kind", *_TEST_SET, "metric")
    comparable = [name for name in names if name in table.columns]
    groups = table.reset_index(drop=True).groupby(comparable, sort=False).groups.values() if lines else []
    for group in groups:
        for column in columns:
            printed = {row: float(lines[row][column].text) for row in group if lines[row][column].value is not None}
            for row, value in printed.items():
                if len(printed) > 1 and value == max(printed.values()):
                    lines[row][column] = lines[row][column]._replace(best=True)
    return lines


def _display_cell(line: pd.Series, column: str) -> DisplayCell:
    value = line[column]
    if pd.notna(value):
        deviation = line.get(f"{column}_sd", np.nan)
        spread = "" if pd.isna(deviation) else f"± {100 * deviation:.1f}"
        return DisplayCell(f"{100 * value:.1f}", 100 * float(value), spread=spread)
    not_available = line["not_available"]
    if isinstance(not_available, str) and column in not_available.split():
        return DisplayCell("–")
    return DisplayCell(_HOLE_TEXT.get(line["status"], "missing"))


def _runs(metrics: pd.DataFrame) -> pd.DataFrame:
    """The values with one column ``replicate`` (the seed, as text) and with every seed that a line needs."""
    columns = [*CELL, "condition_kind", *_TEST_SET, "test_set_seed", "metric", "value", "status"]
    runs = metrics[columns].reset_index(drop=True)
    runs["condition_kind"] = training_kind(runs)
    seed, test_set = runs["seed"].astype(str), runs["test_set"].astype(str)
    is_drawn = runs["test_set_kind"].isin(["common", "drift"])
    # A model of one seed is tested on the drawn test set of every seed.
    same_seed = ~is_drawn | (runs["test_set_seed"] == runs["seed"])
    runs["replicate"] = seed.where(same_seed, seed + " on " + test_set)
    runs = runs.drop(columns=["seed", "test_set_seed"])
    runs["test_set"] = test_set.where(~is_drawn, runs["test_set_kind"])
    is_number = (runs["status"] == "ok") & np.isfinite(runs["value"].astype(float))
    runs["value"] = runs["value"].astype(float).where(is_number)
    runs["status"] = runs["status"].where(is_number | (runs["status"] != "ok"), "missing")

    run = ["dataset", "category", *_SETTING, "replicate", "metric"]
    twice = runs[runs.duplicated(run)]
    if not twice.empty:
        raise ValueError(f"Two values for the same run and metric: {twice.iloc[0][run].to_dict()}.")
    # A failed run of a dataset without masks lacks no pixel metric: it could not have had one.
    runs["status"] = runs["status"].mask(_cannot_have(runs), "not_available")
    runs = _with_all(runs, ["dataset", "category", *_SETTING, "replicate"], ["metric"], within=_TEST_SET)
    return _with_all(runs, ["dataset", "category", *_SETTING, "metric"], ["replicate"], within=_SETTING)


def _with_all_categories(runs: pd.DataFrame) -> pd.DataFrame:
    return _with_all(runs, ["dataset", *_SETTING, "replicate", "metric"], ["category"], within=["dataset"])


def _with_all_datasets(runs: pd.DataFrame) -> pd.DataFrame:
    group = [*_SETTING, "replicate", "metric"]
    return _with_all(runs, group, ["dataset", "category"], within=["condition", "condition_kind", *_TEST_SET])


def _with_all(runs: pd.DataFrame, group: list[str], part: list[str], within: list[str]) -> pd.DataFrame:
    """Add the parts that a group lacks, as missing; the whole set is what occurs anywhere ``within``."""
    whole = runs[group].drop_duplicates().merge(runs[[*within, *part]].drop_duplicates(), on=within)
    filled = whole.merge(runs, on=[*group, *part], how="left")
    return filled.fillna({"status": "missing"})


def _is_pixel(runs: pd.DataFrame) -> pd.Series:
    return runs["metric"].str.startswith("pixel_")


def _cannot_have(runs: pd.DataFrame) -> pd.Series:
    """True where the metric is a number nowhere in the dataset and was stated not to be available."""
    group = [runs["dataset"], runs["metric"]]
    some_value = (runs["status"] == "ok").groupby(group).transform("any")
    some_not_available = (runs["status"] == "not_available").groupby(group).transform("any")
    return ~some_value & some_not_available


def present_metrics(metrics: pd.DataFrame) -> list[str]:
    """The metrics that occur, in the order of `METRICS`."""
    present = list(metrics["metric"].unique())
    return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]


def _table(
    runs: pd.DataFrame, keys: list[str], average_first: Sequence[str] = (), metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """Average the runs of each line: within ``average_first``, then over the rest of a seed, then over the seeds."""
    lines = _in_reading_order(runs[keys].drop_duplicates())
    per_seed = [*keys, "metric", "replicate"]
    values = runs.groupby([*per_seed, *average_first], sort=False)["value"].mean()
    values = values.groupby(per_seed, sort=False).mean()
    over_seeds = values.groupby([*keys, "metric"], sort=False).agg(["mean", "std"])

    status = _line_status(runs, [*keys, "metric"])
    over_seeds = over_seeds.where(status == "ok")  # an incomplete mean is no number
    table = lines
    for metric in metrics if metrics is not None else present_metrics(runs):
        of_metric = over_seeds[over_seeds.index.get_level_values("metric") == metric].droplevel("metric")
        table = table.merge(of_metric.set_axis([metric, f"{metric}_sd"], axis="columns"), on=keys, how="left")
    seeds = runs.groupby(keys)["replicate"].nunique().rename("seeds")
    table = table.merge(seeds, on=keys, how="left")
    return table.merge(_line_remarks(runs, status, keys, list(table.columns)), on=keys, how="left")


def _in_reading_order(lines: pd.DataFrame) -> pd.DataFrame:
    """Detectors that are compared stand together; otherwise each name keeps the order of its first appearance."""
    order = ("dataset", "category", "image_size", "condition", "condition_kind", *_TEST_SET, "detector")
    places = {name: pd.factorize(lines[name])[0] for name in order if name in lines}
    return lines.iloc[pd.DataFrame(places).sort_values(list(places), kind="stable").index]


def _line_status(runs: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Status of a mean over each group of runs: ok and not_available only where all parts are."""
    counts = pd.DataFrame({name: runs["status"] == name for name in ("ok", "not_available", *HOLES)})
    counts = counts.assign(all=True).groupby([runs[key] for key in keys], sort=False).sum()
    choices = [
        (counts["ok"] == counts["all"], "ok"),
        (counts["not_available"] == counts["all"], "not_available"),
        (counts["ok"] > 0, "incomplete"),
        *((counts[hole] > 0, hole) for hole in HOLES),
    ]
    found = np.select([condition for condition, _ in choices], [name for _, name in choices], "missing")
    return pd.Series(found, index=counts.index, dtype=object)


def _line_remarks(runs: pd.DataFrame, status: pd.Series, keys: list[str], columns: list[str]) -> pd.DataFrame:
    """Columns ``status``, ``not_available`` and ``missing`` of every line."""
    known = status.rename("status_of_mean").reset_index()
    parts = runs.merge(known, on=[*keys, "metric"])
    parts = parts[~parts["status_of_mean"].isin(["ok", "not_available"]) & (parts["status"] != "ok")]
    names = parts["dataset"].astype(str) + "/" + parts["category"].astype(str) + ", seed " + parts["replicate"] + ": "
    reasons = parts["status"].where(parts["status"] != "not_available", parts["metric"] + " not available")
    holes = (names + reasons).groupby([parts[key] for key in keys]).agg(lambda texts: "; ".join(dict.fromkeys(texts)))
    missing = holes.to_dict()

    lines = []
    for key, group in known.groupby(keys, sort=False):
        by_metric = dict(zip(group["metric"], group["status_of_mean"], strict=True))
        present = [name for name in columns if name in METRICS or name in by_metric]
        # A mean over datasets of which none can have the metric has no runs at all.
        lacking = [name for name in present if by_metric.get(name, "not_available") == "not_available"]
        kinds = [kind for kind in ("incomplete", *HOLES, "ok") if kind in by_metric.values()]
        line = (kinds[0] if kinds else "not_available", " ".join(lacking), missing.get(key, ""))
        lines.append((*key, *line))
    return pd.DataFrame(lines, columns=[*keys, "status", "not_available", "missing"])
