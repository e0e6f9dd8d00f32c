"""Sum up each experiment. Its results have fixed names: ``reporting.<experiment>.<what>``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kedro.pipeline import Node, Pipeline

from shopfloor.cell import Cell, each_once
from shopfloor.grid import Experiment
from shopfloor.pipelines.binding import bind
from shopfloor.pipelines.reporting import nodes
from shopfloor.runners.missing import TOLERANT

STAGE = "reporting"


def create_pipeline(experiments: Iterable[Experiment]) -> Pipeline:
    """Tables, figures and the report of each experiment that has cells."""
    return Pipeline([node for experiment in experiments if experiment.cells for node in _nodes(experiment)])


def _nodes(experiment: Experiment) -> list[Node]:
    name = experiment.dataset_name
    cells, predictions = experiment.cells, each_once(experiment.cells, "predict_name")
    fits = each_once([cell for cell in cells if not cell.drift], "fit_name")
    sizes, drifted = each_once(cells, "images_name"), each_once([cell for cell in cells if cell.drift], "drifted_name")
    galleries = each_once(drifted, "images_name")  # one drift seed is enough to look at
    plan = f"reporting.{experiment.name}.{experiment.digest}.grid"

    def collect(
        function: Callable[..., Any], results: list[str], of: list[dict[str, Any]], *outputs: str, **more: Any
    ) -> Node:
        names = [name(output) for output in outputs]
        return Node(
            func=bind(function, cells=of, **more),
            inputs=[plan, *results],
            outputs=names if len(names) > 1 else names[0],
            name=f"{experiment.name}.{function.__name__}",
            namespace=STAGE,
            tags=TOLERANT,
        )

    def sum_up(function: Callable[..., Any], inputs: list[str], *outputs: str) -> Node:
        names = [name(output) for output in outputs]
        return Node(
            func=function,
            inputs=[name(each) for each in inputs],
            outputs=names if len(names) > 1 else names[0],
            name=f"{experiment.name}.{function.__name__}",
            namespace=STAGE,
        )

    records = [cell.fit_record for cell in fits] + [cell.predict_record for cell in fits]
    scored = [cell.scored for cell in predictions]
    reports, shown = [cell.drift_report for cell in drifted], _coordinates(drifted)
    segmented = each_once([cell for cell in cells if cell.foreground_method != "none"], "foreground_name")
    previews = {"foregrounds": _coordinates(segmented)}
    tables = ["category_table", "dataset_table", "mean_table", "failures_table"]
    collected = [name(each) for each in ("metrics", "costs", "scores", "categories", "training_log")]
    pictures = [*(cell.examples for cell in predictions), *(cell.foreground_preview for cell in segmented)]
    drift_pictures = [*pictures, *(cell.drift_gallery for cell in galleries)]
    return [
        Node(
            func=bind(nodes.write_plan, plan=_plan(experiment)),
            inputs=None,
            outputs=plan,
            name=f"{experiment.name}.write_plan",
            namespace=STAGE,
        ),
        collect(
            nodes.collect_metrics,
            [cell.metrics for cell in cells],
            _coordinates(list(cells)),
            *("metrics", "group_metrics"),
        ),
        collect(nodes.collect_costs, records, _coordinates(fits), "costs"),
        collect(nodes.collect_training_log, [cell.fit_log for cell in fits], _coordinates(fits), "training_log"),
        collect(nodes.collect_scores, [cell.scores for cell in predictions], scored, "scores"),
        collect(
            nodes.collect_categories,
            [cell.resize_report for cell in sizes],
            _coordinates(sizes),
            "categories",
        ),
        *([collect(nodes.collect_drift_counts, reports, shown, "drift_counts")] if drifted else []),
        sum_up(nodes.make_tables, ["metrics"], *tables),
        sum_up(nodes.draw_figures, ["metrics", "costs"], "image_auroc_figure", "latency_figure"),
        *(sum_up(function, inputs, *outputs) for function, inputs, outputs in _COMPARISONS.get(experiment.name, ())),
        collect(
            nodes.render_drift_report,
            [*collected, name("drift_counts"), *drift_pictures],
            *(scored, "report"),
            **previews,
            galleries=_coordinates(galleries),
        )
        if drifted
        else collect(nodes.render_report, [*collected, *pictures], scored, "report", **previews),
    ]


def _coordinates(cells: list[Cell]) -> list[dict[str, Any]]:
    return [cell.coordinates for cell in cells]


#: What an experiment has beyond the tables of all experiments: function, what it takes, what it makes.
_COMPARISONS: dict[str, tuple[tuple[Callable[..., Any], list[str], list[str]], ...]] = {
    "input_size": (
        (nodes.make_size_table, ["metrics"], ["size_table"]),
        (nodes.draw_size_figure, ["metrics"], ["size_figure"]),
    ),
    "data_drift": (
        (nodes.make_drift_tables, ["metrics"], ["drift_table", "domain_table"]),
        (nodes.draw_drift_figure, ["metrics"], ["drift_figure"]),
    ),
    "noisy_labels": (
        (nodes.make_noise_table, ["metrics"], ["noise_table"]),
        (nodes.draw_noise_figure, ["metrics"], ["noise_figure"]),
    ),
    "validation": ((nodes.make_stopping_table, ["metrics", "costs"], ["stopping_table"]),),
}


def _plan(experiment: Experiment) -> dict[str, Any]:
    cells = experiment.cells
    return {
        "experiment": experiment.name,
        "digest": experiment.digest,
        "title": experiment.settings.get("title") or experiment.name,
        "demo_note": experiment.settings.get("demo_note") or "",
        "seeds": sorted({cell.seed for cell in cells}),
        "grid": {
            "datasets": list(dict.fromkeys(f"{cell.dataset}/{cell.category}" for cell in cells)),
            "detectors": list(dict.fromkeys(cell.detector for cell in cells)),
            "image_sizes": sorted({cell.image_size for cell in cells}),
            "conditions": list(dict.fromkeys(cell.condition.name for cell in cells)),
            "splits": list(dict.fromkeys(cell.condition.split for cell in cells)),
            "test_sets": list(dict.fromkeys(cell.test_set for cell in cells)),
        },
        "settings": {
            cell.detector: {**cell.detector_settings, "networks": dict(cell.network_settings)} for cell in cells
        },
        "cells": [
            {**cell.coordinates, "split": cell.condition.split, "metrics": cell.metrics, "checkpoint": cell.checkpoint}
            for cell in cells
        ],
    }
