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
    cells, fits = experiment.cells, each_once(experiment.cells, "predict_name")
    sizes = each_once(cells, "images_name")
    plan = f"reporting.{experiment.name}.{experiment.digest}.grid"

    def collect(function: Callable[..., Any], results: list[str], of: list[Cell], output: str) -> Node:
        return Node(
            func=bind(function, cells=[cell.coordinates for cell in of]),
            inputs=[plan, *results],
            outputs=name(output),
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
    tables = ["category_table", "dataset_table", "mean_table", "failures_table"]
    collected = [name(each) for each in ("metrics", "costs", "scores", "categories")]
    return [
        Node(
            func=bind(nodes.write_plan, plan=_plan(experiment)),
            inputs=None,
            outputs=plan,
            name=f"{experiment.name}.write_plan",
            namespace=STAGE,
        ),
        collect(nodes.collect_metrics, [cell.metrics for cell in cells], list(cells), "metrics"),
        collect(nodes.collect_costs, records, fits, "costs"),
        collect(nodes.collect_scores, [cell.scores for cell in fits], fits, "scores"),
        collect(nodes.collect_categories, [cell.resize_report for cell in sizes], sizes, "categories"),
        sum_up(nodes.make_tables, ["metrics"], *tables),
        sum_up(nodes.draw_figures, ["metrics", "costs"], "image_auroc_figure", "latency_figure"),
        *(
            [
                sum_up(nodes.make_noise_table, ["metrics"], "noise_table"),
                sum_up(nodes.draw_noise_figure, ["metrics"], "noise_figure"),
            ]
            if any(cell.condition.is_drawn for cell in cells)
            else []
        ),
        collect(nodes.render_report, [*collected, *(cell.examples for cell in fits)], fits, "report"),
    ]


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
        },
        "settings": {
            cell.detector: {**cell.detector_settings, "backbone_settings": cell.backbone_settings} for cell in cells
        },
        "cells": [{**cell.coordinates, "metrics": cell.metrics, "checkpoint": cell.checkpoint} for cell in cells],
    }
