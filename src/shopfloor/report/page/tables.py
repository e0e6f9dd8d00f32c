"""Tables of the report's page: sortable, with holes named and the best in bold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.metrics.entries import METRICS, label_of
from shopfloor.report.tables.value_tables import DisplayCell, display_cells

_LONGEST_HINT = 600


class Column(NamedTuple):
    """Head of a column: its label, an explanation shown on hover, whether it holds numbers."""

    label: str
    hint: str = ""
    is_number: bool = False


class Field(NamedTuple):
    """One table cell of the page; ``sort`` is what the column is sorted by, None goes last."""

    text: str
    sort: float | str | None = None
    best: bool = False
    hole: bool = False
    spread: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """A sortable table of the page; columns that are the same in all lines stand in ``shared`` instead."""

    name: str
    columns: list[Column]
    lines: list[list[Field]]
    shared: str = ""


def value_table(name: str, table: pd.DataFrame) -> Table:
    """One line per detector with its metrics, as :mod:`shopfloor.report.tables.value_tables` makes them."""
    columns = [column for column in METRICS if column in table.columns]
    heads = [Column(METRICS[name].label, METRICS[name].hint, is_number=True) for name in columns]
    return page_table(name, table, columns, heads)


_KEY_LABELS = {
    "dataset": "Dataset",
    "category": "Category",
    "detector": "Detector",
    "image_size": "Size, px",
    "condition": "Training",
    "test_set": "Test set",
    "categories": "Categories",
    "datasets": "Datasets",
    "datasets_pixel": "Datasets with masks",
    "seeds": "Seeds",
}


def page_table(name: str, table: pd.DataFrame, columns: list[str], heads: list[Column]) -> Table:
    """A value table: the names of the line, the values, what is missing."""
    keys = [key for key in _KEY_LABELS if key in table.columns]
    movable = [key for key in keys if key not in {"dataset", "category", "detector"}]
    shared = [key for key in movable if len(table) > 1 and table[key].nunique() == 1]
    keys = [key for key in keys if key not in shared]
    names = [key for key in keys if key not in {"categories", "datasets", "datasets_pixel", "seeds"}]
    counts = [key for key in keys if key not in names]
    has_holes = bool((table["missing"] != "").any())
    lines = []
    for line, cells in zip(table.to_dict("records"), display_cells(table, columns), strict=True):
        values = [_value_field(cells[column], line["missing"]) for column in columns]
        missing = [_text_field(line["missing"])] if has_holes else []
        found, counted = ([as_field(line[key]) for key in part] for part in (names, counts))
        lines.append([*found, *values, *counted, *missing])
    columns_of_page = [
        *(Column(_KEY_LABELS[key], is_number=key == "image_size") for key in names),
        *heads,
        *(Column(_KEY_LABELS[key], is_number=True) for key in counts),
        *([Column("Missing parts")] if has_holes else []),
    ]
    # Shared by all lines, so said once.
    said = "; ".join(f"{_KEY_LABELS[key].lower()}: {table[key].iloc[0]}" for key in shared)
    return Table(name, columns_of_page, lines, said)


def _value_field(cell: DisplayCell, missing: str) -> Field:
    return Field(cell.text, cell.value, cell.best, cell.is_hole, cell.spread, _cut(missing) if cell.is_hole else "")


def text_table(name: str, table: pd.DataFrame, percent: Collection[str] = ()) -> Table:
    """Any table: a column is numeric when all that it holds are numbers.

    Args:
        name: Its heading.
        table: Its content.
        percent: Columns of fractions, which are shown as percent with one decimal.
    """
    columns = []
    for column in table.columns:
        is_number = pd.api.types.is_numeric_dtype(table[column]) and not pd.api.types.is_bool_dtype(table[column])
        label = _KEY_LABELS.get(str(column), str(column).replace("_", " ").capitalize())
        columns.append(Column(label, is_number=is_number))
    # A seed is a name, not a quantity.
    table = table.assign(seed=table["seed"].astype(str)) if "seed" in table else table
    makers = [_percent_field if column in percent else as_field for column in table.columns]
    lines = [[make(value) for make, value in zip(makers, line, strict=True)] for line in table.itertuples(index=False)]
    return Table(name, columns, lines)


def _percent_field(value: Any) -> Field:
    return as_field(None) if pd.isna(value) else Field(f"{100 * value:.1f}", float(value))


def as_field(value: Any) -> Field:
    """A value as it is printed, and what its column is sorted by."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return Field("–")
    if pd.api.types.is_bool(value):
        return Field("yes" if value else "no", float(value))
    if isinstance(value, (int, float, np.number)):
        number = float(value)
        # The space is a narrow one that does not break.
        text = (
            f"{number:,.0f}".replace(",", "\u202f") if number.is_integer() or abs(number) >= 1000 else f"{number:.3g}"
        )
        return Field(text, number)
    return _text_field(str(value))


def _text_field(text: str) -> Field:
    short = _cut(text)
    return Field(short, short.casefold(), hint=text if short != text else "")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_HINT else text[: _LONGEST_HINT - 1] + "…"


def comparison_tables(table: pd.DataFrame, labels: Mapping[str, str]) -> list[Table]:
    """One table per metric; the columns that have a label."""
    heads = [Column(label, is_number=True) for label in labels.values()]
    return [
        page_table(label_of(str(metric)), part.drop(columns="metric"), list(labels), heads)
        for metric, part in table.groupby("metric", sort=False)
    ]


def named_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Metrics under the names that people read."""
    labels = [", ".join(label_of(name) for name in names.split()) for names in table["metrics"]]
    return table.assign(metrics=labels)


def named_metric(table: pd.DataFrame) -> pd.DataFrame:
    """One metric per line under the name that people read."""
    return table.assign(metric=[label_of(name) for name in table["metric"]])


def readable_costs(table: pd.DataFrame) -> pd.DataFrame:
    """Name the columns of the cost table for readers, with units."""
    return pd.DataFrame(
        {
            "Dataset": table["dataset"],
            "Detector": table["detector"],
            "Size, px": table["image_size"],
            "Runs finished": [f"{line.finished} of {line.cells}" for line in table.itertuples()],
            "Training, s": table["fit_seconds"],
            "longest, s": table["fit_seconds_max"],
            "Prediction per image, ms": table["predict_ms_per_image"],
            "slowest, ms": table["predict_ms_per_image_max"],
            "Peak memory, MB": table["peak_memory_mb"].round(),
            "Parameters": table["parameters"],
            "Epochs": table["epochs"],
            "Device": table["device"],
        }
    )


def image_counts(categories: pd.DataFrame) -> pd.DataFrame:
    """How many images each category has, and what the resize took away."""
    return pd.DataFrame(
        {
            "Dataset": categories["dataset"],
            "Category": categories["category"],
            "Size, px": categories["image_size"],
            "Good, training": categories["train_good"],
            "Good, test": categories["test_good"],
            "Bad, test": categories["test_bad"],
            "Defect masks": categories["has_pixel_labels"],
            "Masks lost in the resize": categories["vanished"],
            "Defect regions lost": categories["lost_regions"],
            "Rendered": categories["generated"],
        }
    )


def sources_table(categories: pd.DataFrame) -> pd.DataFrame:
    """Where the images come from and under which licence."""
    table = categories.groupby("dataset", sort=False)[["title", "licence", "source", "generated"]].first().reset_index()
    kinds = {True: "rendered, not photographed", False: "as given"}
    return table.assign(images=table["generated"].map(kinds)).drop(columns="generated")
