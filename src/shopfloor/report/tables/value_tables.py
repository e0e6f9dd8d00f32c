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
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.catalog.result_table import typed
from shopfloor.metrics.entries import METRICS
from shopfloor.report.tables.baseline import training_kind

HOLES = ("failed", "outdated", "missing")
"""Statuses of what is not there, the gravest first (`shopfloor.runners.missing.MissingResult`)."""

CELL = ["dataset", "category", "detector", "image_size", "condition", "seed"]

_TEST_SET = ["test_set", "test_set_kind"]
_CASE = ["condition", "condition_kind", *_TEST_SET]
_SETTING = ["detector", "image_size", *_CASE]
_PLACE = ["dataset", "category"]
_NUMBERS = ["setting", "case", "its_test_set"]  # of different values of `_SETTING`, `_CASE` and `_TEST_SET`


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
    return _table(_runs(metrics), _PLACE)


def dataset_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Plain mean over the categories of each dataset (protocol 3.2); same argument and columns as `category_table`.

    The set is complete when every category that the dataset has anywhere in ``metrics`` is there for every seed.
    """
    runs = _with_all_categories(_runs(metrics))
    table = _table(runs, ["dataset"])
    sizes = runs.table.groupby("dataset", observed=True)["category"].nunique()
    table.insert(list(table).index("seeds"), "categories", table["dataset"].map(sizes))
    return table


def mean_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean over the datasets, each counted once (protocol 3.3); same argument and columns as `category_table`.

    A dataset that cannot have a metric, such as a pixel metric without masks, is left out of that metric's mean;
    ``datasets`` and ``datasets_pixel`` count those that are in. The set is complete when every dataset with this
    condition and test set is there.
    """
    runs = _with_all_datasets(_with_all_categories(_runs(metrics)))
    able = runs.table[~_cannot_have(runs.table)]
    table = _table(runs._replace(table=able), [], ["dataset"], present_metrics(metrics))
    case = table[_SETTING].merge(runs.settings.reset_index(), how="left")["case"]
    is_pixel = able["metric"].astype(str).str.startswith("pixel_")
    for name, part in (("datasets", runs.table), ("datasets_pixel", able[is_pixel])):
        counts = part.groupby("case")["dataset"].nunique()
        table.insert(list(table).index("seeds"), name, case.map(counts).fillna(0).astype(int))
    return table


def failures_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """One line per run with a hole: its names, ``status`` (the gravest of `HOLES`), ``metrics``, ``reason``.

    ``metrics`` is "all" or the names of those that are lacking.
    """
    columns = [*CELL, "status", "metrics", "reason"]
    lines = []
    is_hole = metrics["status"].isin(HOLES)
    concerned = metrics[is_hole.groupby([metrics[name] for name in CELL]).transform("any")]
    for key, group in concerned.groupby(CELL, sort=False):
        holes = group[group["status"].isin(HOLES)]
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


class _Runs(NamedTuple):
    """One long table in which numbers and categories stand for names, which makes joining it many times faster.

    Attributes:
        table: One line per run and metric: `_PLACE`, `_NUMBERS`, ``replicate`` (the seed, as text), ``metric``,
            ``value``, ``status``.
        settings: The names by number of the setting.
    """

    table: pd.DataFrame
    settings: pd.DataFrame


def _runs(metrics: pd.DataFrame) -> _Runs:
    """The values, with every seed that a line needs."""
    columns = [*CELL, "condition_kind", *_TEST_SET, "test_set_seed", "metric", "value", "status"]
    runs = metrics[columns].reset_index(drop=True)
    runs["condition_kind"] = training_kind(runs)
    seed, test_set = runs["seed"].astype(str), runs["test_set"].astype(str)
    is_drawn = runs["test_set_kind"].isin(["common", "drift"])
    # A model of one seed is tested on the drawn test set of every seed.
    same_seed = ~is_drawn | (runs["test_set_seed"] == runs["seed"])
    runs["replicate"] = seed.where(same_seed, seed + " on " + test_set)
    runs["test_set"] = test_set.where(~is_drawn, runs["test_set_kind"])
    is_number = (runs["status"] == "ok") & np.isfinite(runs["value"].astype(float))
    runs["value"] = runs["value"].astype(float).where(is_number)
    runs["status"] = runs["status"].where(is_number | (runs["status"] != "ok"), "missing")

    runs["setting"] = runs.groupby(_SETTING, sort=False).ngroup()
    names = [*_PLACE, "replicate", "metric"]
    runs[names] = runs[names].astype("category")
    twice = runs[runs.duplicated([*names, "setting"])]
    if not twice.empty:
        run = [*_PLACE, *_SETTING, "replicate", "metric"]
        raise ValueError(f"Two values for the same run and metric: {twice.iloc[0][run].to_dict()}.")
    settings = runs.drop_duplicates("setting").set_index("setting")[_SETTING]
    for number, columns in (("case", _CASE), ("its_test_set", _TEST_SET)):
        settings[number] = settings.groupby(columns, sort=False).ngroup()
        runs[number] = settings[number].to_numpy()[runs["setting"]]
    # A failed run of a dataset without masks lacks no pixel metric: it could not have had one.
    runs["status"] = runs["status"].mask(_cannot_have(runs), "not_available")
    found = _Runs(runs[[*_PLACE, *_NUMBERS, "replicate", "metric", "value", "status"]], settings)
    found = _with_all(found, [*_PLACE, "replicate"], ["metric"], within="its_test_set")
    return _with_all(found, [*_PLACE, "metric"], ["replicate"], within="setting")


def _with_all_categories(runs: _Runs) -> _Runs:
    return _with_all(runs, ["dataset", "replicate", "metric"], ["category"], within="dataset")


def _with_all_datasets(runs: _Runs) -> _Runs:
    return _with_all(runs, ["replicate", "metric"], _PLACE, within="case")


def _with_all(runs: _Runs, group: list[str], part: list[str], within: str) -> _Runs:
    """Add the parts that a group of a setting lacks, as missing; the whole set is what occurs anywhere ``within``."""
    table, group = runs.table, [*group, *_NUMBERS]
    whole = table[group].drop_duplicates().merge(table[[within, *part]].drop_duplicates(), on=within)
    filled = whole.merge(table, on=[*group, *part], how="left")
    return runs._replace(table=filled.fillna({"status": "missing"}))


def _cannot_have(runs: pd.DataFrame) -> pd.Series:
    """True where the metric is a number nowhere in the dataset and was stated not to be available."""
    group = [runs["dataset"], runs["metric"]]
    some_value = (runs["status"] == "ok").groupby(group, observed=True).transform("any")
    some_not_available = (runs["status"] == "not_available").groupby(group, observed=True).transform("any")
    return ~some_value & some_not_available


def present_metrics(metrics: pd.DataFrame) -> list[str]:
    """The metrics that occur, in the order of `METRICS`."""
    present = list(metrics["metric"].unique())
    return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]


def _table(
    runs: _Runs, place: list[str], average_first: Sequence[str] = (), metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """Average the runs of each line: within ``average_first``, then over the rest of a seed, then over the seeds."""
    parts, metrics = runs.table, present_metrics(runs.table) if metrics is None else list(metrics)
    appearance = _grouped(parts, [*place, "setting"]).ngroup()
    names = parts.loc[~appearance.duplicated(), [*place, "setting"]].join(runs.settings, on="setting")
    order = _reading_order(names)
    lines = names[[*place, *_SETTING]].iloc[order].reset_index(drop=True)
    lines = lines.astype({name: parts[name].cat.categories.dtype for name in place})
    parts = parts.assign(line=np.argsort(order)[appearance])

    parts["status_of_mean"] = _mean_status(parts)
    status = parts.drop_duplicates(["line", "metric"]).pivot(index="line", columns="metric", values="status_of_mean")
    status = status.reindex(columns=metrics).fillna(dict.fromkeys(METRICS, "not_available"))  # none has runs there
    values = parts
    for group in ([*average_first, "replicate"], ["replicate"]) if average_first else (["replicate"],):
        values = _grouped(values, ["line", "metric", *group])["value"].mean().reset_index()
    over_seeds = _grouped(values, ["line", "metric"])["value"]
    for suffix, found in (("", over_seeds.mean()), ("_sd", over_seeds.std())):
        wide = found.unstack("metric").reindex(index=status.index, columns=metrics)
        lines[[f"{name}{suffix}" for name in metrics]] = wide.where(status == "ok").to_numpy()
    lines = lines[[*place, *_SETTING, *(f"{name}{suffix}" for name in metrics for suffix in ("", "_sd"))]]
    return lines.assign(seeds=parts.groupby("line")["replicate"].nunique(), **_line_remarks(parts, status))


def _grouped(table: pd.DataFrame, columns: list[str]) -> Any:
    return table.groupby(columns, sort=False, observed=True)


def _reading_order(lines: pd.DataFrame) -> Any:
    """Detectors that are compared stand together; otherwise each name keeps the order of its first appearance."""
    order = ("detector", *_TEST_SET[::-1], "condition_kind", "condition", "image_size", "category", "dataset")
    return np.lexsort([pd.factorize(lines[name])[0] for name in order if name in lines])


def _mean_status(parts: pd.DataFrame) -> Any:
    """Status of the mean that each part belongs to: ok and not_available only where all parts are."""
    kinds = [*HOLES, "not_available", "ok"]
    rank = parts["status"].map({kind: place for place, kind in enumerate(kinds)}).fillna(HOLES.index("missing"))
    of_mean = _grouped(parts.assign(rank=rank.astype(int)), ["line", "metric"])["rank"]
    least, most = of_mean.transform("min"), of_mean.transform("max")
    is_incomplete = (most == kinds.index("ok")) & (least < most)
    return np.where(is_incomplete, "incomplete", np.array(kinds, dtype=object)[least])


def _line_remarks(parts: pd.DataFrame, status: pd.DataFrame) -> dict[str, Any]:
    """Columns ``status``, ``not_available`` and ``missing`` of every line, from the statuses by line and metric."""
    kinds = ("incomplete", *HOLES, "ok", "not_available")
    by_line = status.to_numpy()
    holes = parts[~parts["status_of_mean"].isin(["ok", "not_available"]) & (parts["status"] != "ok")]
    dataset, category, replicate, metric = (holes[name].astype(str) for name in [*_PLACE, "replicate", "metric"])
    reasons = holes["status"].where(holes["status"] != "not_available", metric + " not available")
    texts = holes[["line"]].assign(text=dataset + "/" + category + ", seed " + replicate + ": " + reasons)
    missing = texts.drop_duplicates().groupby("line")["text"].agg("; ".join)
    return {
        "status": [next(kind for kind in kinds if kind in line) for line in by_line],
        "not_available": [" ".join(status.columns[line == "not_available"]) for line in by_line],
        "missing": missing.reindex(status.index, fill_value=""),
    }
