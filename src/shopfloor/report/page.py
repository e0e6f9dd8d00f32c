"""The report of one experiment: one HTML file that needs no network and runs no script but its own.

All texts pass through jinja2 with autoescape on. A content security policy in the page names the two scripts by
their hash, so that text from a dataset could not run as a script even if it escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd

from shopfloor.report.comparison import (
    domain_table,
    drift_table,
    noise_percent,
    noise_table,
    size_table,
    stopping_table,
)
from shopfloor.report.figures import baseline_condition
from shopfloor.report.tables import (
    METRICS,
    DisplayCell,
    category_table,
    cost_table,
    count_cells,
    dataset_table,
    display_cells,
    failures_table,
    mean_table,
    unavailable_table,
)

if TYPE_CHECKING:
    from PIL import Image
    from plotly.graph_objects import Figure

_PICTURE_BYTES = 250_000
_ALL_PICTURES_BYTES = 8_000_000
_LONGEST_HINT = 600
_FEW = 12

_CATEGORY_COLUMNS = [
    "dataset",
    "category",
    "image_size",
    "title",
    "licence",
    "source",
    "train_good",
    "test_good",
    "test_bad",
    "vanished",
    "lost_regions",
    "has_pixel_labels",
    "generated",
]

_HINTS = {
    "image_auroc": "Probability that a random bad image scores higher than a random good one.",
    "image_f1max": "Largest F1 over all thresholds. Calling everything bad already gives 2p/(1+p), p the share of bad.",
    "image_pg2": "Share of good images recognised when the threshold misses 2 % of the bad (interpolated quantile).",
    "image_pb2": "Share of bad images found when the threshold rejects 2 % of the good (interpolated quantile).",
    "image_pg2_strict": "As PG2, with at most 2 % of the bad images missed.",
    "image_pb2_strict": "As PB2, with at most 2 % of the good images rejected.",
    "pixel_auroc": "As image AUROC, over the pixels of all test images.",
    "pixel_aupro": "Mean share covered of each defect region, averaged over false positive rates up to 0.3.",
    "pixel_f1max": "As image F1max, over pixels.",
}


class Run(TypedDict):
    """What the page says about the run itself.

    Keys:
        experiment: Name of the pipeline.
        title: Heading of the page.
        demo: Whether the run is demo-sized; ``demo_note`` says in which way.
        seeds: Random seeds.
        grid: ``datasets``, ``detectors``, ``image_sizes``, ``conditions``.
        detectors: Settings of each detector, any JSON.
        versions: Library versions by name.
        finished: Time at which the run ended.
        environment: Machine and system, by name.
    """

    experiment: str
    title: str
    demo: bool
    demo_note: str
    seeds: Sequence[int]
    grid: Mapping[str, Sequence[Any]]
    detectors: Mapping[str, Any]
    versions: Mapping[str, str]
    finished: str
    environment: Mapping[str, Any] | str


class PagePictures(NamedTuple):
    """The pictures of a report. Those that are too many for the page are named on it.

    Attributes:
        examples: Worst misses and best catches, by cell.
        foregrounds: The foreground found in training images, by category.
        galleries: The drift transforms, by category.
    """

    examples: Mapping[str, Image.Image]
    foregrounds: Mapping[str, Image.Image] = MappingProxyType({})
    galleries: Mapping[str, Image.Image] = MappingProxyType({})


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


@dataclass(frozen=True)
class Plot:
    """A figure of the page as the JSON text of plotly, safe inside a script element."""

    title: str
    json: str
    height: int


@dataclass(frozen=True)
class Picture:
    """A picture of the page as a data URL."""

    title: str
    url: str
    width: int
    height: int


@dataclass(frozen=True)
class Pictures:
    """The pictures that fit into the page and the names of those that do not."""

    shown: list[Picture] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def render_page(
    run: Run,
    categories: pd.DataFrame,
    metrics: pd.DataFrame,
    costs: pd.DataFrame,
    figures: Mapping[str, Figure],
    score_figures: Mapping[str, Figure],
    pictures: PagePictures,
    drift_counts: pd.DataFrame | None = None,
) -> str:
    """The whole report as one HTML text.

    Args:
        run: What is said about the run itself.
        categories: One line per category and image size: ``dataset, category, image_size, title, licence, source,
            train_good, test_good, test_bad, vanished, lost_regions, has_pixel_labels, generated``. Of a category
            that could not be read all but the names may be absent.
        metrics: As for `shopfloor.report.tables.category_table`.
        costs: One line per run: the names of the cell, ``fit_seconds, predict_ms_per_image, peak_memory_mb,
            parameters, epochs, device, n_train, n_test, status, note``.
        figures: As `shopfloor.report.figures.overview_figures` returns them, by title.
        score_figures: Score histogram of each cell, by the cell's label.
        pictures: Pictures by title. They are embedded as JPEG until those of a kind together exceed 8 MB.
        drift_counts: How often each drift transform was drawn, per category and drift seed, and how many defects left
            the picture; None without drift.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), _package_text("page.js")]
    environment = Environment(
        loader=PackageLoader("shopfloor", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    histograms = _plots(score_figures)
    categories = categories.reindex(columns=_CATEGORY_COLUMNS)
    return environment.get_template("template.html").render(
        run=run,
        headline=headline(metrics),
        generated=list(dict.fromkeys(categories.loc[categories["generated"].eq(True), "dataset"])),
        failures=_text_table("Runs without a result", failures_table(metrics)),
        unavailable=_text_table("Not available", _named_metrics(unavailable_table(metrics))),
        dataset_tables=_dataset_tables(metrics),
        category_table=_value_table("Categories", category_table(metrics)),
        comparisons=_comparisons(metrics, costs, pictures, drift_counts),
        hints={METRICS[name]: hint for name, hint in _HINTS.items()},
        plots=_plots(figures),
        histograms=histograms[:_FEW],
        more_histograms=histograms[_FEW:],
        pictures=_pictures(pictures.examples),
        cost_tables=[_text_table("Costs", _readable_costs(costs)), _text_table("Costs of each run", costs)],
        sources=_text_table("Sources", _sources(categories)),
        data_table=_text_table("Images", _counts(categories)),
        settings={name: _pretty(settings) for name, settings in run["detectors"].items()},
        facts=_facts(run),
        style=Markup(_package_text("style.css")),
        scripts=[Markup(script) for script in scripts],
        script_hashes=[_hash(script) for script in scripts],
    )


def headline(metrics: pd.DataFrame) -> str:
    """The answer in one sentence: best mean image AUROC, and how much of the grid is there."""
    count = count_cells(metrics)
    cells = f"{count.finished} of {count.planned} cells finished, {count.failed} failed"
    cells += f", {count.missing} missing." if count.missing else "."
    condition = baseline_condition(metrics)
    table = mean_table(metrics)
    table = table[(table["condition"] == condition) & (table["test_set"] == "full")].reset_index(drop=True)
    if "image_auroc" not in table or table["image_auroc"].isna().all():
        return f"No detector has a complete set of image AUROC values; {cells}"
    printed = [cells_of_line["image_auroc"].text for cells_of_line in display_cells(table, ["image_auroc"])]
    best = printed[int(table["image_auroc"].argmax())]
    winners = table[[text == best for text in printed]]
    names = " and ".join(f"{line.detector} ({line.image_size} px)" for line in winners.itertuples())
    over = _mean_over(metrics, int(table["datasets"].iloc[0]))
    training = "clean training data" if condition == "clean" else f"training condition {condition}"
    unranked = list(dict.fromkeys(table.loc[table["image_auroc"].isna(), "detector"]))
    remark = f" Not ranked because their sets are incomplete: {', '.join(unranked)}." if unranked else ""
    return f"Best mean image AUROC: {best} % with {names}, {over}, {training}; {cells}{remark}"


def _mean_over(metrics: pd.DataFrame, datasets: int) -> str:
    categories = len(metrics[["dataset", "category"]].drop_duplicates())
    per_category = f"{categories} categor{'y' if categories == 1 else 'ies'}"
    if datasets == 1:
        return f"over {per_category} of {metrics['dataset'].iloc[0]}"
    return f"over {datasets} datasets ({per_category})"


def _dataset_tables(metrics: pd.DataFrame) -> list[Table]:
    """The mean over datasets, where there are several, and each dataset; the common test sets stand with the noise."""
    tables = []
    if metrics["dataset"].nunique() > 1:
        tables.append(("Mean over datasets", mean_table(metrics)))
    tables.append(("Datasets", dataset_table(metrics)))
    return [_value_table(name, table[table["test_set"] != "common"]) for name, table in tables]


@dataclass(frozen=True)
class Section:
    """A part of the page that only some runs have, such as a comparison of conditions."""

    id: str
    title: str
    text: str
    tables: list[Table]
    pictures: list[Picture] = field(default_factory=list)


def _comparisons(
    metrics: pd.DataFrame, costs: pd.DataFrame, pictures: PagePictures, drift_counts: pd.DataFrame | None
) -> list[Section]:
    """The sections that this run has something for."""
    drift_tables = _comparison_tables(drift_table(metrics), {"no_drift": "no drift", "drift": "drift"})
    if drift_counts is not None:
        drift_tables.append(_text_table("Drawn transforms", drift_counts))
    domains = domain_table(metrics)
    stopping = stopping_table(metrics, costs)
    sections = [
        Section("noise", "Noisy labels", _NOISE_TEXT, _noise_tables(metrics)),
        Section("sizes", "Input size", _SIZE_TEXT, _comparison_tables(size_table(metrics), {})),
        Section("drift", "Drift", _DRIFT_TEXT, drift_tables, _pictures(pictures.galleries).shown),
        Section("domains", "Natural drift", _DOMAIN_TEXT, _comparison_tables(domains, {})),
        Section("stopping", "Stopping", _STOPPING_TEXT, [_stopping_table(stopping)] if len(stopping) else []),
        Section("foreground", "Foreground", _FOREGROUND_TEXT, [], _pictures(pictures.foregrounds).shown),
    ]
    return [section for section in sections if section.tables or section.pictures]


_FOREGROUND_TEXT = (
    "Where detectors that make defects of textures take the part to be, in some training images; the rest is darkened. "
    "The first are those with the least and the most foreground. A mask that is wrong here puts defects on background."
)
_NOISE_TEXT = (
    "Percent, against the share of training images that are bad but labelled good. These images left the test set, so "
    "each level has a test set of its own; the columns “same test” compare all levels on the test set that the largest "
    "one leaves."
)
_SIZE_TEXT = (
    "Percent, against the side of the square model input in pixels. Pixel metrics of different sizes are measured "
    "against different masks: compare detectors with them rather than sizes."
)
_DRIFT_TEXT = (
    "Percent, on the test images as they are and with one or two changes of camera position, lighting or image "
    "quality. Training images never drift. The spread is that of the drift seeds; masks follow the geometry, and a bad "
    "image whose defect left the picture stays bad."
)
_DOMAIN_TEXT = (
    "Percent, per recording condition. A test set of several conditions is measured on each, and the mean is shown."
)
_STOPPING_TEXT = (
    "Percent, and epochs: how many were trained, and which was the best on the held-out images. With a rule the state "
    "of the best epoch is tested, at full length that of the last. All rows have the same training images; the "
    "held-out ones were cut from the training data and are in no test set."
)


def _noise_tables(metrics: pd.DataFrame) -> list[Table]:
    table = noise_table(metrics)
    columns = [name for name in table.columns if f"{name}_sd" in table.columns]
    if not metrics["test_set"].str.startswith("common_").any():
        columns = [name for name in columns if not name.endswith("_same_test")]
    return _comparison_tables(table, {name: _noise_label(name) for name in columns})


def _comparison_tables(table: pd.DataFrame, labels: Mapping[str, str]) -> list[Table]:
    """One table per metric; columns with their labels, or all of them as they are called."""
    labels = labels or {name: name for name in table.columns if f"{name}_sd" in table.columns}
    heads = [Column(label, is_number=True) for label in labels.values()]
    return [
        _table(METRICS[str(metric)], part.drop(columns="metric"), list(labels), heads)
        for metric, part in table.groupby("metric", sort=False)
    ]


def _stopping_table(table: pd.DataFrame) -> Table:
    """Metrics of each rule as of any value table, with the epochs before what is missing."""
    shown = [name for name in METRICS if name in table.columns]
    page_table = _table("Rules of stopping", table, shown, [Column(METRICS[name], is_number=True) for name in shown])
    place = [column.label for column in page_table.columns].index(METRICS[shown[-1]]) + 1
    columns = list(page_table.columns)
    columns[place:place] = [Column("Epochs trained", is_number=True), Column("Best epoch", is_number=True)]
    lines = [
        [*line[:place], _field(row["stopped_epoch"]), _field(row["best_epoch"]), *line[place:]]
        for line, row in zip(page_table.lines, table.to_dict("records"), strict=True)
    ]
    return Table(page_table.name, columns, lines, page_table.shared)


def _noise_label(column: str) -> str:
    level = column.removesuffix("_same_test")
    label = "clean" if level == "clean" else f"{noise_percent(level):g} %"
    return label if column == level else f"{label}, same test"


def _value_table(name: str, table: pd.DataFrame) -> Table:
    columns = [column for column in METRICS if column in table.columns]
    heads = [Column(METRICS[column], _HINTS[column], is_number=True) for column in columns]
    return _table(name, table, columns, heads)


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


def _table(name: str, table: pd.DataFrame, columns: list[str], heads: list[Column]) -> Table:
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
        lines.append([*(_field(line[key]) for key in names), *values, *(_field(line[key]) for key in counts), *missing])
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


def _text_table(name: str, table: pd.DataFrame) -> Table:
    """Any table: a column is numeric when all that it holds are numbers."""
    columns = []
    for column in table.columns:
        is_number = pd.api.types.is_numeric_dtype(table[column]) and not pd.api.types.is_bool_dtype(table[column])
        label = _KEY_LABELS.get(str(column), str(column).replace("_", " ").capitalize())
        columns.append(Column(label, is_number=is_number))
    # A seed is a name, not a quantity.
    table = table.assign(seed=table["seed"].astype(str)) if "seed" in table else table
    lines = [[_field(value) for value in line] for line in table.itertuples(index=False)]
    return Table(name, columns, lines)


def _field(value: Any) -> Field:
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


def _named_metrics(table: pd.DataFrame) -> pd.DataFrame:
    labels = [", ".join(METRICS.get(name, name) for name in names.split()) for names in table["metrics"]]
    return table.assign(metrics=labels)


def _readable_costs(costs: pd.DataFrame) -> pd.DataFrame:
    table = cost_table(costs)
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


def _counts(categories: pd.DataFrame) -> pd.DataFrame:
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


def _sources(categories: pd.DataFrame) -> pd.DataFrame:
    table = categories.groupby("dataset", sort=False)[["title", "licence", "source", "generated"]].first().reset_index()
    kinds = {True: "rendered, not photographed", False: "as given"}
    return table.assign(images=table["generated"].map(kinds)).drop(columns="generated")


def _facts(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Name and value pairs under their headings."""
    grid = [(name.replace("_", " "), ", ".join(map(str, values))) for name, values in run["grid"].items()]
    grid.append(("seeds", ", ".join(map(str, run["seeds"]))))
    environment = run["environment"]
    machine = environment.items() if isinstance(environment, Mapping) else [("environment", environment)]
    return [
        ("Grid", grid),
        ("Machine", [(str(name), str(value)) for name, value in machine]),
        ("Versions", [(str(name), str(version)) for name, version in run["versions"].items()]),
    ]


def _pretty(settings: Any) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False, default=str)


def _plots(figures: Mapping[str, Figure]) -> list[Plot]:
    from jinja2.utils import htmlsafe_json_dumps

    plots = []
    for title, figure in figures.items():
        content = json.loads(figure.to_json())
        height = int(content["layout"].get("height", 400))
        plots.append(Plot(title, htmlsafe_json_dumps(content, separators=(",", ":")), height))
    return plots


def _pictures(examples: Mapping[str, Image.Image]) -> Pictures:
    pictures, total = Pictures(), 0
    for title, image in examples.items():
        jpeg = _jpeg(image)
        total += len(jpeg)
        if total > _ALL_PICTURES_BYTES:
            pictures.left_out.append(title)
            continue
        url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
        pictures.shown.append(Picture(title, url, image.width, image.height))
    return pictures


def _jpeg(image: Image.Image) -> bytes:
    """The best quality that stays below the size of one picture."""
    for quality in (85, 75, 60, 45, 30):
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= _PICTURE_BYTES:
            break
    return buffer.getvalue()


def _package_text(name: str) -> str:
    return resources.files("shopfloor.report").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") + "'"
