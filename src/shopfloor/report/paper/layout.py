"""Lay out a table: its columns and rows, as the paper has them or as the run has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from shopfloor.planning.report_settings import CaseSettings, ColumnsSettings
from shopfloor.report.paper.values import SELECTED, RunValues, TableColumn
from shopfloor.report.tables.baseline import rows_of


def image_size(run: RunValues) -> int:
    """Choose the paper's size; where rows and columns are the run's and it has none of that size, its largest."""
    size = run.settings.image_size
    sizes = run.known["image_size"].unique()
    return size if run.follows_paper or size in sizes or not len(sizes) else int(max(sizes))


def columns_of(block: ColumnsSettings, run: RunValues, size: int) -> list[TableColumn]:
    """List the columns of one block of a table's settings."""
    vary, cases = block.vary, list(block.cases)
    fixed = {key: value for key, value in {"image_size": size, **block.fixed}.items() if key != vary}
    datasets = list(block.datasets)
    if not run.follows_paper:
        fits = rows_of(run.known, fixed)
        cases = _cases_of_run(block, fits)
        there = fits.loc[fits[vary].isin([case.value for case in cases]), "dataset"]
        datasets = _paper_first(datasets, there)

    def column(members: Sequence[str], name: str, case: CaseSettings, is_mean: bool) -> TableColumn:
        published = case.published
        condition = published if isinstance(published, str) else published.get(members[0], str(case.value))
        lines = rows_of(run.known, {**fixed, vary: case.value})[SELECTED]
        selection = next(lines.itertuples(index=False, name=None), ())
        return TableColumn(case.label.format(name=name), tuple(members), is_mean, selection, condition)

    if block.mean is not None:
        return [column(datasets, block.mean, case, True) for case in cases] if datasets else []
    return [column([dataset], run.printed(dataset), case, False) for dataset in datasets for case in cases]


def _cases_of_run(block: ColumnsSettings, known: pd.DataFrame) -> list[CaseSettings]:
    """The paper's cases that the run has, and its own where they may join; numbers ascend."""
    there = dict(zip(known[block.vary], known["condition"], strict=True))
    cases = [case for case in block.cases if case.value in there]
    if not block.open:
        return cases
    shut_out = [*(case.value for case in cases), *block.leave_out]
    is_percent = block.vary == "condition_amount"
    for value, condition in there.items():
        if value not in shut_out:
            text = f"{value:g} %" if is_percent else str(value).replace("_", " ")
            braced = text.replace("{", "{{").replace("}", "}}")
            published = str(condition if is_percent else value)
            cases.append(CaseSettings(value=value, label="{name} " + braced, published=published))
    is_number = is_percent or block.vary == "image_size"
    return sorted(cases, key=lambda case: case.value) if is_number else cases


def detectors_of(methods: Sequence[str], columns: Sequence[TableColumn], run: RunValues) -> list[str]:
    """List the detectors that have a row, the paper's first."""
    if run.follows_paper:
        return list(methods)
    shown = {(dataset, *column.selection) for column in columns for dataset in column.members}
    there = [key[1] for key in run.datasets if (key[0], *key[2:]) in shown]
    return _paper_first(methods, there)


def _paper_first(paper: Sequence[str], there: Iterable[str]) -> list[str]:
    """Names of the run: the paper's in the paper's order, then the others in their own."""
    names = list(dict.fromkeys(there))
    return [name for name in paper if name in names] + [name for name in names if name not in paper]


def unique_labels(labels: Mapping[Any, str]) -> dict[Any, str]:
    """Make labels that tell apart: one that stands for several things is given the name of each."""
    texts = list(labels.values())
    return {key: f"{text} ({key})" if texts.count(text) > 1 else text for key, text in labels.items()}
