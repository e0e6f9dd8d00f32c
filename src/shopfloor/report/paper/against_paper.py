"""Published numbers beside measured ones, and whether they are as near as a repetition can be (protocol 6 and 7)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from shopfloor.planning.report_settings import PaperTablesSettings
from shopfloor.report.paper.tables import paper_tables
from shopfloor.report.paper.values import EPOCHS

COLUMNS = (
    "table", "method", "dataset", "condition", "metric", "paper", "measured", "difference", "tolerance", "verdict",
    "note",
)  # fmt: skip

_CELL = ["table", "method", "dataset", "condition", "metric"]
_ZERO = "the paper prints 0.0, which may come of clipped scores (protocol 2.3)"


def against_paper(
    experiment: str,
    metrics: pd.DataFrame,
    costs: pd.DataFrame,
    settings: PaperTablesSettings,
    published: pd.DataFrame,
    contradictions: pd.DataFrame,
) -> pd.DataFrame:
    """Every published number that an experiment can answer, beside the run's.

    A value is comparable only as the paper made it: at its input size, over all categories of a dataset, a mean over
    all datasets. What a run of a few datasets cannot answer is left out; with ``rows_and_columns: paper`` it is
    ``missing``.

    Args:
        experiment: Name of the experiment.
        metrics: All its metrics, fractions, as for `shopfloor.report.tables.value_tables.category_table`.
        costs: One line per training, with its epochs.
        settings: The block ``paper_tables`` of the parameter files.
        published: The paper's numbers (``reference/paper_results.csv``), percent.
        contradictions: Those that disagree with others of the paper (``reference/paper_contradictions.csv``).

    Returns:
        ``table, method, dataset, condition, metric`` of the published number, ``paper`` and ``measured`` (percent, or
        epochs; NaN for a hole), ``difference`` (measured less paper, points) and ``tolerance``, ``verdict``
        (``within``, ``outside``, ``missing``, ``paper contradicts itself``) and ``note``. Empty when no dataset of
        the run is in the paper.
    """
    names = settings.datasets
    if not metrics["dataset"].isin(list(names)).any():
        return pd.DataFrame(columns=list(COLUMNS))
    lines = _measured(experiment, metrics, costs, settings.model_copy(update={"rows_and_columns": "paper"}))
    if settings.rows_and_columns != "paper":
        lines = lines[lines["kind"] != "absent"]
    paper = published.rename(columns={"value": "paper"}).astype({"condition": str})[[*_CELL, "paper"]]
    remarks = contradictions.astype({"condition": str})[[*_CELL, "expected", "remark"]]
    # The order of the published table; what is no published cell, such as the best epoch, has no place here.
    table = paper.merge(lines, on=_CELL).merge(remarks, on=_CELL, how="left")
    table["difference"] = table["measured"] - table["paper"]
    one_category = {names[each] for each, count in settings.categories.items() if count == 1}
    table["tolerance"] = [
        settings.tolerance[metric] * (2 if dataset in one_category and metric not in EPOCHS else 1)
        for metric, dataset in zip(table["metric"], table["dataset"], strict=True)
    ]
    is_near = table["difference"].abs() <= table["tolerance"] + 1e-9
    table["verdict"] = np.select(
        [table["measured"].isna(), table["remark"].notna(), is_near],
        ["missing", "paper contradicts itself", "within"],
        "outside",
    )
    table["note"] = [_note(line) for line in table.to_dict("records")]
    return table[list(COLUMNS)]


def _measured(
    experiment: str, metrics: pd.DataFrame, costs: pd.DataFrame, settings: PaperTablesSettings
) -> pd.DataFrame:
    """The values of all tables in the paper's layout, under the names of the published numbers."""
    frames = [
        table.frame.assign(table=table.number, method=table.frame["detector"].map(dict(settings.methods)))
        for table in paper_tables(experiment, metrics, costs, settings)
    ]
    columns = [*_CELL, "value", "kind", "hole"]
    together = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    return together[columns].rename(columns={"value": "measured"})


def _note(line: Mapping[Hashable, Any]) -> str:
    parts = []
    if line["kind"]:
        parts.append(str(line["hole"]))
    if pd.notna(line["remark"]):
        parts.append(str(line["remark"]))
    if pd.notna(line["expected"]):
        parts.append(f"expected {float(line['expected']):.1f}")
    elif line["paper"] == 0:
        parts.append(_ZERO)
    return "; ".join(parts)
