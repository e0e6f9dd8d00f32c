"""Sum up an experiment: tables, figures, the report; collecting.py in report/tables makes the first tables."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from PIL.Image import Image

from shopfloor import __version__
from shopfloor.catalog.image_stack import ImagePart
from shopfloor.planning.reading import read_settings
from shopfloor.planning.report_settings import BootstrapSettings, PaperTablesSettings
from shopfloor.report.figures.style import Chart
from shopfloor.runners.missing import MissingResult

Plan = dict[str, Any]

#: Endings of the files in which each of the paper's tables is kept.
TABLE_FORMATS = ("html", "csv", "md", "tex")
#: Metrics that are drawn by category; the figure of each has its name.
DRAWN_METRICS = ("image_auroc", "image_pg2", "pixel_aupro")
#: Costs that are drawn, by the names of their figures.
DRAWN_COSTS = {
    "latency": "predict_ms_per_image",
    "fit_time": "fit_seconds",
    "memory": "peak_memory_mb",
    "parameters": "parameters",
}
_LIBRARIES = ("kedro", "torch", "torchvision", "anomalib", "lightning", "timm", "numpy")


def write_plan(*, plan: Plan) -> Plan:
    """Write down what the experiment's results are to be made of: its cells and settings.

    Args:
        plan: The expanded grid, as the pipeline was made from it.

    Returns:
        The same.
    """
    return plan


def make_tables(metrics: pd.DataFrame, costs: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """Make the tables that every experiment has (protocol 3).

    Args:
        metrics: All metrics of the experiment.
        costs: What it took.

    Returns:
        ``category_table``, ``dataset_table``, ``mean_table``, ``failures_table``, ``unavailable_table`` and
        ``cost_table`` of :mod:`shopfloor.report.tables.value_tables`; values are fractions.
    """
    from shopfloor.report.tables import value_tables as tables

    values = (tables.category_table(metrics), tables.dataset_table(metrics), tables.mean_table(metrics))
    return *values, tables.failures_table(metrics), tables.unavailable_table(metrics), tables.cost_table(costs)


def draw_categories(category_table: pd.DataFrame) -> tuple[Chart, ...]:
    """Draw the metrics that most people look at first, by category.

    Args:
        category_table: Values of each category.

    Returns:
        One figure for each of `DRAWN_METRICS`.
    """
    from shopfloor.report.figures.by_category import metric_by_category

    return tuple(metric_by_category(category_table, metric) for metric in DRAWN_METRICS)


def draw_costs(metrics: pd.DataFrame, costs: pd.DataFrame) -> tuple[Chart, ...]:
    """Draw image AUROC against what it costs.

    Args:
        metrics: All metrics of the experiment.
        costs: What it took.

    Returns:
        One figure for each of `DRAWN_COSTS`.
    """
    from shopfloor.report.figures.costs import cost_figures

    return cost_figures(metrics, costs, DRAWN_COSTS.values())


def draw_training(training_log: pd.DataFrame) -> Chart:
    """Draw the loss of each epoch.

    Args:
        training_log: Every epoch of every training.

    Returns:
        One panel per detector.
    """
    from shopfloor.report.figures.training import training_figure

    return training_figure(training_log)


def measure_certainty(
    metrics: pd.DataFrame, group_metrics: pd.DataFrame, scores: pd.DataFrame, bootstrap: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Measure how much other test images of the same categories would change.

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

    return certainty_tables(scores, read_settings(BootstrapSettings, "bootstrap", bootstrap), metrics, group_metrics)


def rank_detectors(metrics: pd.DataFrame) -> tuple[pd.DataFrame, Chart]:
    """Rank the detectors over the categories, as a table and as a critical-difference diagram."""
    from shopfloor.report.figures.ranks import rank_figure
    from shopfloor.report.statistics.ranks import rank_detectors as rank

    ranking = rank(metrics)
    return ranking.table, rank_figure(ranking)


def make_paper_tables(
    plan: Plan, metrics: pd.DataFrame, costs: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, str]:
    """Make those of the paper's tables that this experiment answers, each as HTML, CSV, Markdown and LaTeX.

    Args:
        plan: The experiment's plan.
        metrics: All metrics.
        costs: What it took, and the epochs.
        settings: The block ``paper_tables``.

    Returns:
        Texts by file name.
    """
    from shopfloor.report.paper.tables import paper_tables, render_all

    read = read_settings(PaperTablesSettings, "paper_tables", settings)
    return render_all(paper_tables(plan["experiment"], metrics, costs, read))


def compare_with_paper(
    plan: Plan,
    metrics: pd.DataFrame,
    costs: pd.DataFrame,
    settings: dict[str, Any],
    published: pd.DataFrame,
    contradictions: pd.DataFrame,
) -> pd.DataFrame:
    """Put every published number that this experiment answers beside the measured one.

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

    read = read_settings(PaperTablesSettings, "paper_tables", settings)
    return against_paper(plan["experiment"], metrics, costs, read, published, contradictions)


def show_side_by_side(
    test_images: ImagePart | MissingResult,
    test_masks: ImagePart | MissingResult,
    *results: pd.DataFrame | np.ndarray | MissingResult,
    detectors: Sequence[str],
    with_maps: Sequence[str],
) -> Image:
    """Show what several detectors make of the same images of a category.

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


def show_score_distributions(*histograms: Chart | MissingResult, detectors: Sequence[str]) -> Image:
    """Show the raw scores of good and bad images of a category with the thresholds of PG2 and PB2, for print.

    Args:
        histograms: Score histogram of each detector.
        detectors: Names of the detectors.

    Returns:
        The histograms that are there, one below the other.
    """
    from shopfloor.report.figures.rendering import below_one_another, print_picture
    from shopfloor.report.pictures.side_by_side import draw_note

    there = _there(detectors, histograms)
    return print_picture(below_one_another(there)) if there else draw_note("No detector has scores of these images.")


def print_figures(*figures: Chart) -> tuple[Image, ...]:
    """Make a picture for print of each figure."""
    from shopfloor.report.figures.rendering import print_picture

    return tuple(map(print_picture, figures))


def summarise(plan: Plan, *, experiment: str, **tables: pd.DataFrame) -> dict[str, Any]:
    """Say what the experiment found and what it was made with, as plain data.

    Args:
        plan: The experiment's plan.
        experiment: Its name.
        **tables: Its tables, ``costs`` among them.

    Returns:
        See :func:`shopfloor.report.page.summary.summarise`; and ``versions``, ``finished``, ``environment``.
    """
    from shopfloor.experiments import EXPERIMENTS
    from shopfloor.report.page.summary import summarise as sum_up

    each, costs = EXPERIMENTS[experiment], tables["costs"]
    change = each.find_change(tables) if each.find_change else None
    return {
        **sum_up(plan, tables, change, shows_detectors=each.shows_detectors),
        "versions": {"shopfloor": __version__, **{library: version(library) for library in _LIBRARIES}},
        "finished": datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        "environment": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "device": ", ".join(filter(None, costs["device"].unique())) or "none used",
            "trained with": "; ".join(filter(None, costs["libraries"].unique())) or "nothing was trained",
        },
    }


def render_report(
    plan: Plan,
    summary: dict[str, Any],
    *,
    experiment: str,
    tables: Sequence[str],
    figures: Mapping[str, str],
    pictures: Mapping[str, Sequence[str]],
    paper_tables: Sequence[str],
    **results: Any,
) -> str:
    """Render the report of an experiment as one self-contained HTML page.

    Args:
        plan: The experiment's plan.
        summary: What it found.
        experiment: Its name.
        tables: Names of the tables among the results.
        figures: Titles of the figures among the results, by their names.
        pictures: Kind and title of each picture and histogram among the results, by its name; kinds are ``histograms``
            and the attributes of `shopfloor.report.page.pictures.PagePictures`.
        paper_tables: Names of the paper's tables among the results.
        **results: All of these. Pictures that are missing are left out.

    Returns:
        HTML.
    """
    from shopfloor.experiments import EXPERIMENTS
    from shopfloor.report.page.pictures import PagePictures
    from shopfloor.report.page.report import render_page

    by_kind: dict[str, dict[str, Any]] = {kind: {} for kind in (*PagePictures._fields, "histograms")}
    for name, (kind, title) in pictures.items():
        if not isinstance(results[name], MissingResult):
            by_kind[kind][title] = results[name]
    histograms, known = by_kind.pop("histograms"), {name: results[name] for name in tables}
    own_sections = EXPERIMENTS[experiment].sections
    return render_page(
        plan,
        summary,
        known,
        own_sections(known) if own_sections else [],
        {name: (title, results[f"{name}_figure"]) for name, title in figures.items()},
        histograms,
        PagePictures(**by_kind),
        [results[name] for name in paper_tables],
    )


def render_front_page(*summaries: dict[str, Any] | MissingResult, experiments: Sequence[str]) -> str:
    """Render one page over all experiments.

    Args:
        summaries: What each experiment says about itself.
        experiments: Their names.

    Returns:
        HTML.
    """
    from shopfloor.report.page.front_page import render_front_page as render

    return render(dict(zip(experiments, summaries, strict=True)))


def _there(names: Iterable[str], results: Iterable[Any]) -> dict[str, Any]:
    """The results that are there, by name."""
    return {name: result for name, result in zip(names, results, strict=True) if not isinstance(result, MissingResult)}
