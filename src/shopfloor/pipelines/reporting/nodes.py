"""Sum up the cells of an experiment: tables, figures, the report.

Every function takes one input per cell, in the order of the cells it is bound to. An input may be a
:class:`MissingResult`: what is not there is shown as a hole with its reason, never as a number.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL.Image import Image
from plotly.graph_objects import Figure

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.catalog.result_table import typed
from shopfloor.metrics.names import IMAGE_METRICS, PIXEL_METRICS
from shopfloor.report.tables.value_tables import CELL
from shopfloor.runners.missing import MissingResult

if TYPE_CHECKING:
    from shopfloor.report.page.report import Run
    from shopfloor.report.page.results import Results

Coordinates = dict[str, Any]
Plan = dict[str, Any]

_TRAINING = ["dataset", "category", "detector", "image_size", "condition", "condition_kind", "condition_amount", "seed"]
_TEST_SET = ["test_set", "test_set_kind"]
_SCORED = [*_TRAINING, *_TEST_SET, "test_set_seed"]
_COSTS = [
    "fit_seconds", "predict_ms_per_image", "peak_memory_mb", "peak_gpu_memory_mb", "parameters", "epochs",
    "stopped_epoch", "best_epoch",
]  # fmt: skip
_COST_FACTS = ["device", "n_train", "n_train_bad", "n_validation", "n_test"]
_DRAWN_COSTS = ("predict_ms_per_image", "fit_seconds", "peak_memory_mb", "parameters")
#: Endings of the files in which each of the paper's tables is kept.
TABLE_FORMATS = ("html", "csv", "md", "tex")
_LOG = ["epoch", "seconds", "learning_rate", "loss", "value"]
_MEASURED = ["metric", "value", "status", "note"]
_LOGGER = logging.getLogger(__name__)
_LIBRARIES = ("shopfloor", "kedro", "torch", "torchvision", "anomalib", "lightning", "timm", "numpy")


def write_plan(*, plan: Plan) -> Plan:
    """What the experiment's results are to be made of: its cells and settings.

    Args:
        plan: The expanded grid, as the pipeline was made from it.

    Returns:
        The same.
    """
    return plan


def collect_metrics(
    *metrics: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All metrics of the experiment as tidy tables.

    Args:
        metrics: Metrics of each cell.
        cells: Coordinates of each cell.

    Returns:
        ``metrics``: one line per cell and metric: coordinates, ``metric``, ``value`` (fraction, NaN for a hole),
        ``status`` (``ok``, ``not_available``, ``failed``, ``outdated``, ``missing``), ``note``. ``group_metrics``: such
        lines with a column ``group``, for domains and types of anomalies that were measured apart.
    """
    tables = [
        _holes(cell, table) if isinstance(table, MissingResult) else table
        for cell, table in _whole("metrics", [*_SCORED, "group", *_MEASURED], cells, metrics)
    ]
    together = pd.concat(tables, ignore_index=True)
    is_value = together["group"] == ""
    return together[is_value].drop(columns="group").reset_index(drop=True), together[~is_value].reset_index(drop=True)


def collect_costs(*records: dict[str, Any] | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """What every training and prediction took.

    Args:
        records: Fit record of each cell, then prediction record of each cell.
        cells: Coordinates of each cell.

    Returns:
        One line per training: coordinates, seconds, milliseconds per image, memory, parameters, device, ``libraries``
        (those it was trained with), ``status``, ``note``.
    """
    lines = []
    fits = _whole("record of the training", ["fit_seconds"], cells, records[: len(cells)])
    predictions = _whole("record of the prediction", ["predict_ms_per_image"], cells, records[len(cells) :])
    for (cell, fit), (_, predict) in zip(fits, predictions, strict=True):
        facts = {**_facts(predict), **_facts(fit)}
        hole = next((record for record in (fit, predict) if isinstance(record, MissingResult)), None)
        lines.append(
            {
                **{key: cell[key] for key in _TRAINING},
                **{key: facts.get(key) for key in (*_COSTS, *_COST_FACTS)},
                "libraries": _libraries(facts.get("versions")),
                "status": hole.status if hole else "ok",
                "note": hole.reason if hole else "",
            }
        )
    return typed(pd.DataFrame(lines))


def _libraries(versions: Any) -> str:
    known = versions if isinstance(versions, Mapping) else {}
    return ", ".join(f"{name} {number}" for name, number in known.items())


def collect_scores(*scores: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """Raw scores of every test image of every cell that has them.

    Args:
        scores: Scores of each cell.
        cells: Coordinates of each cell.

    Returns:
        Coordinates, ``image``, ``label``, ``defect_type``, ``pred_score``.
    """
    of_image = ["image", "label", "defect_type", "pred_score"]
    columns = [*_SCORED, *of_image]
    tables = [
        table.assign(**{key: cell[key] for key in _SCORED})[columns]
        for cell, table in _whole("scores", of_image, cells, scores)
        if not isinstance(table, MissingResult)
    ]
    return pd.concat(tables, ignore_index=True) if tables else typed(pd.DataFrame(columns=columns))


def collect_categories(*reports: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """Counts, licences and lost defects of every category.

    Args:
        reports: Account of the resize of each category and image size.
        cells: Coordinates of a cell of each.

    Returns:
        One line per category and image size; a category that could not be read has its names only.
    """
    names = ["dataset", "category", "image_size"]
    categories = [{key: cell[key] for key in names} for cell in cells]
    tables = [
        pd.DataFrame([category]) if isinstance(report, MissingResult) else report
        for category, report in _whole("account of the images", names, categories, reports)
    ]
    return typed(pd.concat(tables, ignore_index=True))


def collect_training_log(*logs: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """Every epoch of every training.

    Args:
        logs: Log of each training.
        cells: Coordinates of each.

    Returns:
        One line per training, epoch and loss: coordinates, ``epoch``, ``seconds``, ``learning_rate``, ``loss`` (its
        name), ``value``. A detector that logs no loss has lines without ``loss`` and ``value``.
    """
    tables = [
        _long(log).assign(**{key: cell[key] for key in CELL})[[*CELL, *_LOG]]
        for cell, log in _whole("log of the training", ["epoch", "seconds"], cells, logs)
        if not isinstance(log, MissingResult)
    ]
    return typed(pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*CELL, *_LOG]))


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
    from shopfloor.report.tables import value_tables as tables

    functions = (tables.category_table, tables.dataset_table, tables.mean_table, tables.failures_table)
    return tuple(make(metrics) for make in functions)  # type: ignore[return-value]  # four functions, four tables


def make_noise_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Every metric of protocol 4.5 per noise level, on the own and on the common test set."""
    from shopfloor.report.tables.comparison import noise_table

    return noise_table(metrics)


def make_size_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Every metric of protocol 4.2 per input size."""
    from shopfloor.report.tables.comparison import size_table

    return size_table(metrics)


def make_drift_tables(metrics: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every metric of protocol 4.3 without and with synthetic drift, and of protocol 4.4 per test set of domains."""
    from shopfloor.report.tables.comparison import domain_table, drift_table

    return drift_table(metrics), domain_table(metrics)


def make_stopping_table(metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Metrics and epochs of protocol 4.7 per rule of stopping."""
    from shopfloor.report.tables.comparison import stopping_table

    return stopping_table(metrics, costs)


def collect_drift_counts(*reports: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """How often each transform was drawn, per category and drift seed; of what could not be made there is nothing."""
    names, counts = ["dataset", "category", "test_set"], ["transform", "images", "emptied"]
    test_sets = [{key: cell[key] for key in names} for cell in cells]
    tables = [
        report.assign(**test_set)
        for test_set, report in _whole("account of the drift", counts, test_sets, reports)
        if not isinstance(report, MissingResult)
    ]
    columns = [*names, *counts]
    return typed(pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns))


def draw_figures(metrics: pd.DataFrame, costs: pd.DataFrame) -> tuple[Figure, Figure, Figure, Figure, Figure]:
    """The figures that most people look at first.

    Args:
        metrics: All metrics of the experiment.
        costs: What it took.

    Returns:
        Image AUROC by category; image AUROC against prediction time, training time, memory and number of parameters.
    """
    from shopfloor.report.figures.costs import cost_figure
    from shopfloor.report.figures.overview import metric_by_category

    size = int(metrics["image_size"].iloc[0])
    by_category = metric_by_category(metrics, "image_auroc", size)
    latency, fit_time, memory, parameters = (cost_figure(metrics, costs, cost) for cost in _DRAWN_COSTS)
    return by_category, latency, fit_time, memory, parameters


def draw_noise_figure(metrics: pd.DataFrame) -> Figure:
    """Image AUROC against the share of mislabelled training images."""
    from shopfloor.report.figures.overview import noise_figure

    return noise_figure(metrics, "image_auroc")


def draw_size_figure(metrics: pd.DataFrame) -> Figure:
    """Image AUROC against the input size."""
    from shopfloor.report.figures.overview import size_figure

    return size_figure(metrics, "image_auroc")


def draw_drift_figure(metrics: pd.DataFrame) -> Figure:
    """Image AUROC without and with drift."""
    from shopfloor.report.figures.overview import drift_figure

    return drift_figure(metrics, "image_auroc")


def measure_certainty(
    metrics: pd.DataFrame, group_metrics: pd.DataFrame, scores: pd.DataFrame, bootstrap: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """How much other test images of the same categories would change.

    Args:
        metrics: All metrics of the experiment, which know the cells that have no scores.
        group_metrics: What was measured apart.
        scores: Raw scores of all cells.
        bootstrap: ``resamples``, ``level``, ``seed``.

    Returns:
        Intervals of every cell's image metrics, of their means over the datasets per detector, and of the differences
        between detectors.
    """
    from shopfloor.report.statistics.uncertainty import certainty_tables

    return certainty_tables(scores, bootstrap, metrics, group_metrics)


def rank_detectors(metrics: pd.DataFrame) -> tuple[pd.DataFrame, Figure]:
    """Average ranks of the detectors over the categories, as a table and as a critical-difference diagram."""
    from shopfloor.report.figures.ranks import rank_figure
    from shopfloor.report.statistics.ranks import rank_detectors as rank

    ranking = rank(metrics)
    return ranking.table, rank_figure(ranking)


def make_paper_tables(
    plan: Plan, metrics: pd.DataFrame, costs: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, str]:
    """The paper's tables that this experiment answers, each as HTML, CSV, Markdown and LaTeX.

    Args:
        plan: The experiment's plan.
        metrics: All metrics.
        costs: What it took, and the epochs.
        settings: The block ``paper_tables``.

    Returns:
        Texts by file name.
    """
    from shopfloor.report.paper.tables import paper_tables, render_all

    return render_all(paper_tables(plan["experiment"], metrics, costs, settings))


def compare_with_paper(
    plan: Plan,
    metrics: pd.DataFrame,
    costs: pd.DataFrame,
    settings: dict[str, Any],
    published: pd.DataFrame,
    contradictions: pd.DataFrame,
) -> pd.DataFrame:
    """Every published number that this experiment answers beside the measured one.

    Args:
        plan: The experiment's plan.
        metrics: All metrics.
        costs: What it took, and the epochs.
        settings: The block ``paper_tables``.
        published: The paper's numbers, percent.
        contradictions: Those that do not agree with others of the paper.

    Returns:
        One line per published number: difference, tolerance, verdict.
    """
    from shopfloor.report.paper.against_paper import against_paper

    return against_paper(plan["experiment"], metrics, costs, settings, published, contradictions)


def raise_drift_alarm(scores: pd.DataFrame, settings: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How well the scores of good images tell drifted from clean ones, image by image and in batches.

    Args:
        scores: Raw scores of all cells.
        settings: ``batch_sizes``, ``repetitions``, ``false_alarms``, ``seed``.

    Returns:
        One line per cell, drift seed and batch size; one line per detector, means.
    """
    from shopfloor.report.statistics.drift_alarm import alarm_summary, drift_alarm

    alarms = drift_alarm(scores, settings)
    return alarms, alarm_summary(alarms)


def show_side_by_side(
    test_images: ImagePart | MissingResult,
    test_masks: ImagePart | MissingResult,
    *results: pd.DataFrame | np.ndarray | MissingResult,
    detectors: Sequence[str],
    with_maps: Sequence[str],
) -> Image:
    """What several detectors make of the same images of a category.

    Args:
        test_images: Test images (N, S, S, 3).
        test_masks: Their masks (N, S, S).
        results: Raw scores of each detector, then raw maps (N, S, S) of those that give maps.
        detectors: Names of the detectors.
        with_maps: Those that give maps.

    Returns:
        The picture; detectors without results are left out, and where fewer than two remain it says so.
    """
    from shopfloor.report.pictures.side_by_side import draw_note, draw_side_by_side

    scores = _there(detectors, results[: len(detectors)])
    maps = _there(with_maps, results[len(detectors) :])
    if isinstance(test_images, MissingResult) or len(scores) < 2:
        return draw_note("Fewer than two detectors have scores of these images: nothing to put side by side.")
    if isinstance(test_masks, MissingResult) or not test_masks.table["has_pixel_labels"].any():
        return draw_side_by_side(test_images, None, maps, scores)
    return draw_side_by_side(test_images, test_masks, maps, scores)


def show_score_distributions(*scores: pd.DataFrame | MissingResult, detectors: Sequence[str]) -> Image:
    """Raw scores of good and bad images of a category with the thresholds of PG2 and PB2, for print.

    Args:
        scores: Raw scores of each detector.
        detectors: Names of the detectors.

    Returns:
        One histogram per detector that has scores, one below the other.
    """
    from shopfloor.report.figures.print_figure import print_below_one_another
    from shopfloor.report.figures.scores import score_histogram
    from shopfloor.report.pictures.side_by_side import draw_note

    there = _there(detectors, scores)
    if not there:
        return draw_note("No detector has scores of these images.")
    return print_below_one_another({name: score_histogram(table) for name, table in there.items()})


def print_figure(figure: Figure) -> Image:
    """An interactive figure as a picture for print."""
    from shopfloor.report.figures.print_figure import print_figure as draw

    return draw(figure)


def render_report(
    plan: Plan, *, titles: Mapping[str, Sequence[str]], paper_tables: Sequence[str], **results: Any
) -> str:
    """The report of an experiment as one self-contained HTML page.

    Args:
        plan: The experiment's plan.
        titles: Kind (an attribute of `PagePictures`) and title of each picture, by its name among the results.
        paper_tables: Names of the paper's tables among the results.
        results: The attributes of `shopfloor.report.page.results.Results`, the paper's tables as HTML, and pictures.

    Returns:
        HTML.
    """
    from shopfloor.report.figures.overview import overview_figures, score_histogram
    from shopfloor.report.figures.training import training_figures
    from shopfloor.report.page.pictures import PagePictures
    from shopfloor.report.page.report import render_page

    pictures: dict[str, dict[str, Image]] = {kind: {} for kind in PagePictures._fields}
    for name, (kind, title) in titles.items():
        picture = results.pop(name)
        if not isinstance(picture, MissingResult):
            pictures[kind][title] = picture
    content, names = _contents(results, paper_tables), [*CELL, *_TEST_SET]
    histograms = {
        cell_label(dict(zip(names, key, strict=True))): score_histogram(table)
        for key, table in content.scores.groupby(names, sort=False)
    }
    figures = {**overview_figures(content.metrics, content.costs), **training_figures(content.training_log)}
    return render_page(_run(plan, content.costs), content, figures, histograms, PagePictures(**pictures))


def summarise(plan: Plan, *, paper_tables: Sequence[str], **results: Any) -> dict[str, Any]:
    """What the page over all experiments says about this one, as plain data."""
    from shopfloor.report.page.summary import summarise as sum_up

    content = _contents(results, paper_tables)
    return sum_up(_run(plan, content.costs), content)


def render_front_page(*summaries: dict[str, Any] | MissingResult, experiments: Sequence[str]) -> str:
    """One page over all experiments.

    Args:
        summaries: What each experiment says about itself.
        experiments: Their names.

    Returns:
        HTML.
    """
    from shopfloor.report.page.front_page import render_front_page as render

    return render(dict(zip(experiments, summaries, strict=True)))


def _contents(results: dict[str, Any], paper_tables: Sequence[str]) -> Results:
    """What pages are made of, with the paper's tables in one place."""
    from shopfloor.report.page.results import Results

    tables = {name: results.pop(name) for name in paper_tables}
    return Results(**results, paper_tables=tables)


def _run(plan: Plan, costs: pd.DataFrame) -> Run:
    """What a page says about the run itself."""
    return {
        "experiment": plan["experiment"],
        "title": plan["title"],
        "demo": bool(plan["demo_note"]),
        "demo_note": plan["demo_note"],
        "seeds": plan["seeds"],
        "grid": plan["grid"],
        "detectors": plan["settings"],
        "settings": {plan["experiment"]: plan["experiment_settings"], **plan["dataset_settings"]},
        "versions": {library: version(library) for library in _LIBRARIES},
        "finished": datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        "environment": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "device": ", ".join(filter(None, costs["device"].unique())) or "none used",
            "trained with": "; ".join(filter(None, costs["libraries"].unique())) or "nothing was trained",
        },
    }


def _there(names: Iterable[str], results: Iterable[Any]) -> dict[str, Any]:
    """The results that are there, by name."""
    return {name: result for name, result in zip(names, results, strict=True) if not isinstance(result, MissingResult)}


def _holes(cell: Coordinates, hole: MissingResult) -> pd.DataFrame:
    line = {**cell, "group": "", "value": float("nan"), "status": hole.status, "note": hole.reason}
    return pd.DataFrame([{**line, "metric": name} for name in (*IMAGE_METRICS, *PIXEL_METRICS)])


def _whole(
    what: str, needed: Sequence[str], cells: Sequence[Coordinates], results: Sequence[Any]
) -> list[tuple[Coordinates, Any]]:
    """Each cell with its result; one whose content is damaged is a hole, so that it costs its own cell only."""
    pairs: list[tuple[Coordinates, Any]] = []
    for cell, result in zip(cells, results, strict=True):
        damage = _damage(result, needed)
        if not damage:
            pairs.append((cell, result))
            continue
        where = ", ".join(f"{key} {cell[key]}" for key in (*CELL, "test_set") if key in cell)
        reason = f"The {what} of {where}: {damage}. Delete the file and run with --only-missing-outputs."
        _LOGGER.warning(reason)
        pairs.append((cell, MissingResult("failed", reason)))
    return pairs


def _damage(result: Any, needed: Sequence[str]) -> str:
    """What is wrong with a record or a table; nothing where it has all that is needed."""
    if isinstance(result, MissingResult):
        return ""
    if not isinstance(result, Mapping | pd.DataFrame):
        return f"expected names and values, found {str(result)[:40]}"
    lacking = [name for name in needed if name not in result]
    return f"no {', '.join(lacking)} in it" if lacking else ""


def _facts(record: dict[str, Any] | MissingResult) -> dict[str, Any]:
    return {} if isinstance(record, MissingResult) else record


def cell_label(cell: Coordinates) -> str:
    """The coordinates of a cell as a title."""
    names = [cell["dataset"], cell["category"], cell["detector"], f"{cell['image_size']} px", cell["condition"]]
    if cell["test_set_kind"] != "full":
        names.append(str(cell["test_set"]).replace("_", " "))
    return " · ".join([*names, f"seed {cell['seed']}"])
