"""Sum up the cells of an experiment: tables, figures, the report.

Every function takes one input per cell, in the order of the cells it is bound to. An input may be a
:class:`MissingResult`: what is not there is shown as a hole with its reason, never as a number.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL.Image import Image
from plotly.graph_objects import Figure

from shopfloor.metrics.names import IMAGE_METRICS, PIXEL_METRICS
from shopfloor.runners.missing import MissingResult

if TYPE_CHECKING:
    from shopfloor.report.page import PagePictures

Coordinates = dict[str, Any]
Plan = dict[str, Any]

_CELL = ["dataset", "category", "detector", "image_size", "condition", "seed"]
_SCORED = [*_CELL, "test_set"]
_COSTS = [
    "fit_seconds", "predict_ms_per_image", "peak_memory_mb", "peak_gpu_memory_mb", "parameters", "epochs",
    "stopped_epoch", "best_epoch",
]  # fmt: skip
_COST_FACTS = ["device", "n_train", "n_train_bad", "n_validation", "n_test"]
_LOG = ["epoch", "seconds", "learning_rate", "loss", "value"]
_LIBRARIES = ("shopfloor", "kedro", "torch", "torchvision", "anomalib", "lightning", "timm", "numpy")


def write_plan(*, plan: Plan) -> Plan:
    """What the experiment's results are to be made of: its cells and settings.

    Args:
        plan: The expanded grid, as the pipeline was made from it.

    Returns:
        The same; as a file it tells whether the reports are those of this grid.
    """
    return plan


def collect_metrics(
    plan: Plan, *metrics: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All metrics of the experiment as tidy tables.

    Args:
        plan: The experiment's plan.
        metrics: Metrics of each cell.
        cells: Coordinates of each cell.

    Returns:
        ``metrics``: one line per cell and metric: coordinates, ``metric``, ``value`` (fraction, NaN for a hole),
        ``status`` (``ok``, ``not_available``, ``failed``, ``missing``), ``note``. ``group_metrics``: such lines with a
        column ``group``, for domains and types of anomalies that were measured apart.
    """
    tables = [
        _holes(cell, table) if isinstance(table, MissingResult) else table
        for cell, table in zip(cells, metrics, strict=True)
    ]
    together = pd.concat(tables, ignore_index=True)
    is_value = together["group"] == ""
    return together[is_value].drop(columns="group").reset_index(drop=True), together[~is_value].reset_index(drop=True)


def collect_costs(plan: Plan, *records: dict[str, Any] | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """What every training and prediction took.

    Args:
        plan: The experiment's plan.
        records: Fit record of each cell, then prediction record of each cell.
        cells: Coordinates of each cell.

    Returns:
        One line per training: coordinates, seconds, milliseconds per image, memory, parameters, device, ``status``,
        ``note``.
    """
    lines = []
    for cell, fit, predict in zip(cells, records[: len(cells)], records[len(cells) :], strict=True):
        facts = {**_facts(predict), **_facts(fit)}
        hole = next((record for record in (fit, predict) if isinstance(record, MissingResult)), None)
        lines.append(
            {
                **{key: cell[key] for key in _CELL},
                **{key: facts.get(key) for key in (*_COSTS, *_COST_FACTS)},
                "status": hole.status if hole else "ok",
                "note": hole.reason if hole else "",
            }
        )
    return pd.DataFrame(lines)


def collect_scores(plan: Plan, *scores: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """Raw scores of every test image of every cell that has them.

    Args:
        plan: The experiment's plan.
        scores: Scores of each cell.
        cells: Coordinates of each cell.

    Returns:
        Coordinates, ``image``, ``label``, ``defect_type``, ``pred_score``.
    """
    columns = [*_SCORED, "image", "label", "defect_type", "pred_score"]
    tables = [
        table.assign(**{key: cell[key] for key in _SCORED})[columns]
        for cell, table in zip(cells, scores, strict=True)
        if not isinstance(table, MissingResult)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def collect_categories(
    plan: Plan, *reports: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]
) -> pd.DataFrame:
    """Counts, licences and lost defects of every category.

    Args:
        plan: The experiment's plan.
        reports: Account of the resize of each category and image size.
        cells: Dataset, category and image size of each.

    Returns:
        One line per category and image size; a category that could not be read has its names only.
    """
    tables = [
        pd.DataFrame([cell]) if isinstance(report, MissingResult) else report
        for cell, report in zip(cells, reports, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def collect_training_log(plan: Plan, *logs: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """Every epoch of every training.

    Args:
        plan: The experiment's plan.
        logs: Log of each training.
        cells: Coordinates of each.

    Returns:
        One line per training, epoch and loss: coordinates, ``epoch``, ``seconds``, ``learning_rate``, ``loss`` (its
        name), ``value``. A detector that logs no loss has lines without ``loss`` and ``value``.
    """
    tables = [
        _long(log).assign(**{key: cell[key] for key in _CELL})[[*_CELL, *_LOG]]
        for cell, log in zip(cells, logs, strict=True)
        if not isinstance(log, MissingResult)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*_CELL, *_LOG])


def _long(log: pd.DataFrame) -> pd.DataFrame:
    """One line per epoch and loss."""
    log = log.reindex(columns=list(dict.fromkeys([*log.columns, "epoch", "seconds", "learning_rate"])))
    losses = [name for name in log.columns if "loss" in name]
    if not losses:
        return log.assign(loss="", value=float("nan"))
    return log.melt(["epoch", "seconds", "learning_rate"], losses, var_name="loss").dropna(subset=["value"])


def make_tables(metrics: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Tables per category, per dataset, over the datasets, and of what is not there (protocol 3).

    Args:
        metrics: All metrics of the experiment.

    Returns:
        ``category_table``, ``dataset_table``, ``mean_table``, ``failures_table``; fractions.
    """
    from shopfloor.report import tables

    functions = (tables.category_table, tables.dataset_table, tables.mean_table, tables.failures_table)
    return tuple(make(metrics) for make in functions)  # type: ignore[return-value]  # four functions, four tables


def make_noise_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Every metric of protocol 4.5 per noise level, on the own and on the common test set."""
    from shopfloor.report.comparison import noise_table

    return noise_table(metrics)


def make_size_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Every metric of protocol 4.2 per input size."""
    from shopfloor.report.comparison import size_table

    return size_table(metrics)


def make_drift_tables(metrics: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every metric of protocol 4.3 without and with synthetic drift, and of protocol 4.4 per test set of domains."""
    from shopfloor.report.comparison import domain_table, drift_table

    return drift_table(metrics), domain_table(metrics)


def make_stopping_table(metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Metrics and epochs of protocol 4.7 per rule of stopping."""
    from shopfloor.report.comparison import stopping_table

    return stopping_table(metrics, costs)


def collect_drift_counts(
    plan: Plan, *reports: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]
) -> pd.DataFrame:
    """How often each transform was drawn, per category and drift seed; of what could not be made there is nothing."""
    tables = [
        report.assign(dataset=cell["dataset"], category=cell["category"], test_set=cell["test_set"])
        for cell, report in zip(cells, reports, strict=True)
        if not isinstance(report, MissingResult)
    ]
    columns = ["dataset", "category", "test_set", "transform", "images", "emptied"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def draw_figures(metrics: pd.DataFrame, costs: pd.DataFrame) -> tuple[Figure, Figure]:
    """The figures that most people look at first.

    Args:
        metrics: All metrics of the experiment.
        costs: What it took.

    Returns:
        Image AUROC by category; image AUROC against prediction time.
    """
    from shopfloor.report.figures import baseline_condition, cost_figure, metric_by_category

    size = int(metrics["image_size"].iloc[0])
    by_category = metric_by_category(metrics, "image_auroc", size, baseline_condition(metrics))
    return by_category, cost_figure(metrics, costs, "predict_ms_per_image")


def draw_noise_figure(metrics: pd.DataFrame) -> Figure:
    """Image AUROC against the share of mislabelled training images."""
    from shopfloor.report.figures import noise_figure

    return noise_figure(metrics, "image_auroc")


def draw_size_figure(metrics: pd.DataFrame) -> Figure:
    """Image AUROC against the input size."""
    from shopfloor.report.figures import size_figure

    return size_figure(metrics, "image_auroc")


def draw_drift_figure(metrics: pd.DataFrame) -> Figure:
    """Image AUROC without and with drift."""
    from shopfloor.report.figures import drift_figure

    return drift_figure(metrics, "image_auroc")


def render_report(
    plan: Plan,
    metrics: pd.DataFrame,
    costs: pd.DataFrame,
    scores: pd.DataFrame,
    categories: pd.DataFrame,
    training_log: pd.DataFrame,
    *pictures: Image | MissingResult,
    cells: Sequence[Coordinates],
    foregrounds: Sequence[Coordinates] = (),
) -> str:
    """The report of an experiment as one self-contained HTML page.

    Args:
        plan: The experiment's plan.
        metrics: All metrics.
        costs: What it took.
        scores: Raw scores of all cells.
        categories: Counts and licences.
        training_log: Every epoch of every training.
        pictures: Picture of each cell's worst misses and best catches, then of each foreground that was found.
        cells: Coordinates of each of these cells.
        foregrounds: Coordinates of each foreground.

    Returns:
        HTML.
    """
    from shopfloor.report.page import PagePictures

    shown = PagePictures(
        examples=_named(map(_label, cells), pictures[: len(cells)]),
        foregrounds=_named(map(_training_part, foregrounds), pictures[len(cells) :]),
    )
    return _render(plan, metrics, costs, scores, categories, training_log, shown)


def render_drift_report(  # noqa: PLR0913 (what the page shows)
    plan: Plan,
    metrics: pd.DataFrame,
    costs: pd.DataFrame,
    scores: pd.DataFrame,
    categories: pd.DataFrame,
    training_log: pd.DataFrame,
    drift_counts: pd.DataFrame,
    *pictures: Image | MissingResult,
    cells: Sequence[Coordinates],
    foregrounds: Sequence[Coordinates],
    galleries: Sequence[Coordinates],
) -> str:
    """As :func:`render_report`, with what there is to show of drifted test images.

    Args:
        plan: The experiment's plan.
        metrics: All metrics.
        costs: What it took.
        scores: Raw scores of all cells.
        categories: Counts and licences.
        training_log: Every epoch of every training.
        drift_counts: How often each transform was drawn.
        pictures: Picture of each cell's worst misses and best catches, then of each foreground that was found, then
            the gallery of each category.
        cells: Coordinates of each of these cells.
        foregrounds: Coordinates of each foreground.
        galleries: Coordinates of each gallery.

    Returns:
        HTML.
    """
    from shopfloor.report.page import PagePictures

    after_examples, after_foregrounds = len(cells), len(cells) + len(foregrounds)
    shown = PagePictures(
        examples=_named(map(_label, cells), pictures[:after_examples]),
        foregrounds=_named(map(_training_part, foregrounds), pictures[after_examples:after_foregrounds]),
        galleries=_named(map(_category, galleries), pictures[after_foregrounds:]),
    )
    return _render(plan, metrics, costs, scores, categories, training_log, shown, drift_counts)


def _render(
    plan: Plan,
    metrics: pd.DataFrame,
    costs: pd.DataFrame,
    scores: pd.DataFrame,
    categories: pd.DataFrame,
    training_log: pd.DataFrame,
    pictures: PagePictures,
    drift_counts: pd.DataFrame | None = None,
) -> str:
    from shopfloor.report.figures import overview_figures, score_histogram
    from shopfloor.report.page import Run, render_page
    from shopfloor.report.training_curves import training_figures

    run = Run(
        experiment=plan["experiment"],
        title=plan["title"],
        demo=bool(plan["demo_note"]),
        demo_note=plan["demo_note"],
        seeds=plan["seeds"],
        grid=plan["grid"],
        detectors=plan["settings"],
        versions={library: version(library) for library in _LIBRARIES},
        finished=datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        environment={
            "system": platform.platform(),
            "python": platform.python_version(),
            "device": ", ".join(costs["device"].dropna().unique()) or "none used",
        },
    )
    histograms = {
        _label(dict(zip(_SCORED, key, strict=True))): score_histogram(table)
        for key, table in scores.groupby(_SCORED, sort=False)
    }
    figures = {**overview_figures(metrics, costs), **training_figures(training_log)}
    return render_page(run, categories, metrics, costs, figures, histograms, pictures, drift_counts)


def _named(names: Iterable[str], pictures: Iterable[Image | MissingResult]) -> dict[str, Image]:
    """The pictures that are there, by name."""
    return {
        name: picture for name, picture in zip(names, pictures, strict=True) if not isinstance(picture, MissingResult)
    }


def _holes(cell: Coordinates, hole: MissingResult) -> pd.DataFrame:
    line = {**cell, "group": "", "value": float("nan"), "status": hole.status, "note": hole.reason}
    return pd.DataFrame([{**line, "metric": name} for name in (*IMAGE_METRICS, *PIXEL_METRICS)])


def _facts(record: dict[str, Any] | MissingResult) -> dict[str, Any]:
    return {} if isinstance(record, MissingResult) else record


def _category(cell: Coordinates) -> str:
    return f"{cell['dataset']} · {cell['category']}"


def _training_part(cell: Coordinates) -> str:
    return f"{_category(cell)} · {cell['image_size']} px · {cell['condition']} · {cell['detector']}"


def _label(cell: Coordinates) -> str:
    names = [cell["dataset"], cell["category"], cell["detector"], f"{cell['image_size']} px", cell["condition"]]
    if cell["test_set"] != "full":
        names.append(str(cell["test_set"]).replace("_", " "))
    return " · ".join([*names, f"seed {cell['seed']}"])
