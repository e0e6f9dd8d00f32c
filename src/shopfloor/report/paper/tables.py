"""A run's results in the shape of the paper's Tables 4 to 9 and 11 to 15 (protocol 3 and 4).

Which tables an experiment answers, their rows, columns and metrics are settings (``paper_tables``); the means are those
of :mod:`shopfloor.report.tables.value_tables`. A value that is not there is a hole with a reason, named
below the table: never zero and never left out of a mean.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from shopfloor.planning.report_settings import PaperTablesSettings, TableSettings
from shopfloor.report.paper.captions import caption_of, notes_of
from shopfloor.report.paper.formats import PaperTable, render_all
from shopfloor.report.paper.layout import columns_of, detectors_of, image_size, unique_labels
from shopfloor.report.paper.values import EPOCHS, RunValues, dataset_cell, mean_cell

__all__ = ["PaperTable", "paper_tables", "render_all"]


def paper_tables(
    experiment: str, metrics: pd.DataFrame, costs: pd.DataFrame, settings: PaperTablesSettings
) -> list[PaperTable]:
    """The paper's tables that an experiment answers.

    Args:
        experiment: Name of the experiment.
        metrics: All its metrics, fractions, as for `shopfloor.report.tables.value_tables.category_table`.
        costs: One line per training; ``stopped_epoch`` and ``best_epoch`` make the epochs of Table 9, ``n_train_bad``
            the number of labelled bad images of Table 8.
        settings: The block ``paper_tables`` of the parameter files.

    Returns:
        The tables in the order of the settings. Where rows and columns are those of the run, a table for which the run
        has none is left out.
    """
    found = []
    for name, entry in settings.tables.items():
        if entry.experiment == experiment:
            run = RunValues(metrics, costs, settings, tuple(metric for line in entry.lines for metric in line))
            table = _table(int(name.removeprefix("table_")), entry, run)
            if len(table.frame):
                found.append(table)
    return found


def _table(number: int, entry: TableSettings, run: RunValues) -> PaperTable:
    size = image_size(run)
    columns = [column for block in entry.columns for column in columns_of(block, run, size)]
    detectors = detectors_of(entry.methods, columns, run)
    rows = unique_labels({detector: run.method(detector) for detector in detectors})
    labels = unique_labels(dict(enumerate(column.label for column in columns)))
    lines: list[dict[str, Any]] = []
    for detector in detectors:
        for place, column in enumerate(columns):
            names = [run.printed(dataset) for dataset in column.members]
            known = {
                "row": rows[detector],
                "column": labels[place],
                "detector": detector,
                "dataset": "mean:" + "+".join(names) if column.is_mean else names[0],
                "condition": column.condition,
            }
            for metric in run.wanted:
                cell = (
                    mean_cell(run, column, detector, metric)
                    if column.is_mean
                    else dataset_cell(run, column.members[0], detector, column.selection, metric)
                )
                lines.append({**known, "metric": metric, **cell._asdict()})
    names_of_columns = ["row", "column", "detector", "dataset", "condition", "metric", "value", "sd", "kind", "hole"]
    frame = _with_best(pd.DataFrame(lines, columns=names_of_columns))
    return PaperTable(
        number,
        entry.title,
        caption_of(entry, columns, frame, run, size),
        entry.lines,
        frame,
        tuple(notes_of(frame, columns, detectors, run, size)),
    )


def _with_best(frame: pd.DataFrame) -> pd.DataFrame:
    """Mark the best of each column and metric; values that print the same are all best, a lone value is not marked."""
    is_compared = frame["value"].notna() & ~frame["metric"].isin(EPOCHS)
    printed = pd.Series([float(f"{value:.1f}") for value in frame["value"]], index=frame.index).where(is_compared)
    groups = printed.groupby([frame["column"], frame["metric"]], sort=False)
    best = is_compared & (groups.transform("count") > 1) & (printed == groups.transform("max"))
    frame.insert(list(frame).index("kind"), "best", best.astype(bool))
    return frame
