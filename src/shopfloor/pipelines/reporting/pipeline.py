"""Sum up each experiment. Its results have fixed names: ``reporting.<experiment>.<what>``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from shopfloor.experiments import EXPERIMENTS
from shopfloor.pipelines.reporting import nodes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import CLEAN_KINDS, Cell, each_once
from shopfloor.planning.grid import Experiment
from shopfloor.runners.missing import ACROSS_GRIDS, TOLERANT

STAGE = "reporting"
#: Tag of the nodes that make the reports people read.
REPORT_TAG = "report"


def create_pipeline(experiments: Iterable[Experiment]) -> Pipeline:
    """Tables, figures and the report of each experiment that has cells, and the page over all experiments."""
    nodes = [node for experiment in experiments if experiment.cells for node in _nodes(experiment)]
    return Pipeline([*nodes, _front_page()] if nodes else [])


def _nodes(experiment: Experiment) -> list[Node]:
    """All nodes of one experiment."""
    return [
        Node(
            func=bind(nodes.write_plan, plan=_plan(experiment)),
            inputs=None,
            outputs=experiment.plan_name,
            name=f"{experiment.name}.write_plan",
            namespace=STAGE,
        ),
        *_collect_nodes(experiment),
        *_table_nodes(experiment),
        *_figure_nodes(experiment),
        *_page_nodes(experiment),
    ]


def _collect_nodes(experiment: Experiment) -> list[Node]:
    """One table of each kind from those of all cells."""
    cells, predictions = experiment.cells, each_once(experiment.cells, "predict_key")
    fits = each_once([cell for cell in cells if not cell.drift], "fit_key")
    sizes, drifted = each_once(cells, "images_key"), _drifted(experiment)

    def collect(function: Callable[..., Any], results: list[str], of: list[dict[str, Any]], *outputs: str) -> Node:
        names = [experiment.dataset_name(output) for output in outputs]
        return Node(
            func=bind(function, cells=of),
            inputs=results,
            outputs=names if len(names) > 1 else names[0],
            name=f"{experiment.name}.{function.__name__}",
            namespace=STAGE,
            tags=TOLERANT,
        )

    records = [cell.names.fit_record for cell in fits] + [cell.names.predict_record for cell in fits]
    metrics, logs = [cell.names.metrics for cell in cells], [cell.names.fit_log for cell in fits]
    counts = [cell.names.drift_report for cell in drifted]
    return [
        collect(nodes.collect_metrics, metrics, _coordinates(cells), "metrics", "group_metrics"),
        collect(nodes.collect_costs, records, _coordinates(fits), "costs"),
        collect(nodes.collect_training_log, logs, _coordinates(fits), "training_log"),
        collect(
            nodes.collect_scores,
            [cell.names.scores for cell in predictions],
            [cell.scored for cell in predictions],
            "scores",
        ),
        collect(
            nodes.collect_categories, [cell.names.resize_report for cell in sizes], _coordinates(sizes), "categories"
        ),
        *([collect(nodes.collect_drift_counts, counts, _coordinates(drifted), "drift_counts")] if drifted else []),
    ]


def _table_nodes(experiment: Experiment) -> list[Node]:
    """What follows from the collected tables."""
    steps: list[_Step] = [
        (nodes.make_tables, ["metrics"], ["category_table", "dataset_table", "mean_table", "failures_table"]),
        (
            nodes.measure_certainty,
            ["metrics", "group_metrics", "scores", "params:bootstrap"],
            ["intervals", "mean_intervals", "differences"],
        ),
        (
            nodes.compare_with_paper,
            ["plan", "metrics", "costs", "params:paper_tables", *_PUBLISHED],
            ["against_paper"],
        ),
        *_TABLES.get(experiment.name, ()),
    ]
    return [*(_sum_up(experiment, *step) for step in steps), *_paper_table_nodes(experiment)]


def _paper_table_nodes(experiment: Experiment) -> list[Node]:
    """Those of the paper's tables that the experiment answers, each in every format."""
    files = [f"{table}.{suffix}" for table in _paper_tables(experiment) for suffix in nodes.TABLE_FORMATS]
    if not files:
        return []
    inputs = [experiment.plan_name, *map(experiment.dataset_name, ("metrics", "costs")), "params:paper_tables"]
    return [
        Node(
            func=nodes.make_paper_tables,
            inputs=inputs,
            outputs={file: experiment.dataset_name(file) for file in files},
            name=f"{experiment.name}.make_paper_tables",
            namespace=STAGE,
        )
    ]


def _paper_tables(experiment: Experiment) -> list[str]:
    """Names of those of the paper's tables that the experiment answers, e.g. ``table_4``."""
    tables = (experiment.report_settings.get("paper_tables") or {}).get("tables") or {}
    return [name for name, table in tables.items() if table.get("experiment") == experiment.name]


def _figure_nodes(experiment: Experiment) -> list[Node]:
    """Interactive figures, and each as a picture for print."""
    of_costs = ["latency", "fit_time", "memory", "parameters"]
    steps: list[_FigureStep] = [
        (nodes.draw_figures, ["metrics", "costs"], [], ["image_auroc", *of_costs]),
        (nodes.rank_detectors, ["metrics"], ["rank_table"], ["rank"]),
        *_FIGURES.get(experiment.name, ()),
    ]
    prints = [
        Node(
            func=nodes.print_figure,
            inputs=experiment.dataset_name(f"{figure}_figure"),
            outputs=experiment.dataset_name(f"{figure}_print"),
            name=f"{experiment.name}.print_{figure}_figure",
            namespace=STAGE,
        )
        for *_, figures in steps
        for figure in figures
    ]
    return [
        *(
            _sum_up(experiment, function, inputs, [*tables, *(f"{figure}_figure" for figure in figures)])
            for function, inputs, tables, figures in steps
        ),
        *prints,
        *(node for cells in _groups(experiment) for node in _picture_nodes(experiment, cells)),
    ]


def _page_nodes(experiment: Experiment) -> list[Node]:
    """The report, and what it says in short."""
    name, drifted = experiment.dataset_name, _drifted(experiment)
    contents = {"plan": experiment.plan_name, **{each: name(each) for each in _CONTENTS}}
    contents |= {table: name(f"{table}.html") for table in _paper_tables(experiment)}
    if drifted:
        contents |= {each: name(each) for each in ("drift_counts", "drift_alarm_table")}
    pictures, tables = _pictures(experiment), _paper_tables(experiment)
    titles = {key: facts for key, (*facts, _) in pictures.items()}
    return [
        Node(
            func=bind(nodes.render_report, titles=titles, paper_tables=tables),
            inputs={**contents, **{key: dataset for key, (*_, dataset) in pictures.items()}},
            outputs=name("report"),
            name=f"{experiment.name}.render_report",
            namespace=STAGE,
            tags=[TOLERANT, REPORT_TAG],
        ),
        Node(
            func=bind(nodes.summarise, paper_tables=tables),
            inputs=contents,
            outputs=name("summary"),
            name=f"{experiment.name}.summarise",
            namespace=STAGE,
        ),
    ]


def _front_page() -> Node:
    """One page over all experiments, of whatever grids; every experiment that ends makes it anew."""
    return Node(
        func=bind(nodes.render_front_page, experiments=list(EXPERIMENTS)),
        inputs=[f"{STAGE}.{name}.summary" for name in EXPERIMENTS],
        outputs=f"{STAGE}.front_page",
        name="front_page",
        namespace=STAGE,
        tags=[TOLERANT, ACROSS_GRIDS],
    )


def _sum_up(experiment: Experiment, function: Callable[..., Any], inputs: list[str], outputs: list[str]) -> Node:
    """A node over the experiment's own results; parameters and published numbers have names of their own."""
    names = {"plan": experiment.plan_name, **{each: each for each in inputs if each in _PUBLISHED or ":" in each}}
    made = [experiment.dataset_name(output) for output in outputs]
    return Node(
        func=function,
        inputs=[names.get(each, experiment.dataset_name(each)) for each in inputs],
        outputs=made if len(made) > 1 else made[0],
        name=f"{experiment.name}.{function.__name__}",
        namespace=STAGE,
    )


def _drifted(experiment: Experiment) -> list[Cell]:
    """One cell for the drifted images of each category, size and seed."""
    return each_once([cell for cell in experiment.cells if cell.drift], "drifted_key")


def _groups(experiment: Experiment) -> list[list[Cell]]:
    """The cells that can be seen side by side: several detectors on the same undrifted test images."""
    plain = [cell for cell in experiment.cells if cell.test_set_kind == "full"]
    clean = [cell for cell in plain if cell.condition.kind in CLEAN_KINDS]
    groups: dict[str, dict[str, Cell]] = {}
    for cell in clean or [cell for cell in plain if cell.condition.name == plain[0].condition.name]:
        groups.setdefault(cell.names.images_key, {}).setdefault(cell.detector, cell)
    return [list(cells.values()) for cells in groups.values() if len(cells) > 1]


def _picture_nodes(experiment: Experiment, cells: list[Cell]) -> list[Node]:
    """What several detectors make of the same images: scores, and some of the images."""
    return [_score_distributions(experiment, cells), _side_by_side(experiment, cells)]


def _score_distributions(experiment: Experiment, cells: list[Cell]) -> Node:
    return Node(
        func=bind(nodes.show_score_distributions, detectors=[cell.detector for cell in cells]),
        inputs=[cell.names.scores for cell in cells],
        outputs=experiment.dataset_name(f"{cells[0].names.part_key}.score_distributions"),
        name=f"{experiment.name}.{cells[0].names.part_key}.show_score_distributions",
        namespace=STAGE,
        tags=TOLERANT,
    )


def _side_by_side(experiment: Experiment, cells: list[Cell]) -> Node:
    first, mapped = cells[0], [cell for cell in cells if cell.gives_maps]
    detectors = {"detectors": [cell.detector for cell in cells], "with_maps": [cell.detector for cell in mapped]}
    return Node(
        func=bind(nodes.show_side_by_side, **detectors),
        inputs=[
            *(first.names.test_images, first.names.test_masks),
            *(cell.names.scores for cell in cells),
            *(cell.names.maps for cell in mapped),
        ],
        outputs=experiment.dataset_name(f"{first.names.part_key}.side_by_side"),
        name=f"{experiment.name}.{first.names.part_key}.show_side_by_side",
        namespace=STAGE,
        tags=TOLERANT,
    )


def _pictures(experiment: Experiment) -> dict[str, tuple[str, str, str]]:
    """Kind, title and dataset of each picture of the report, by the name under which the report takes it."""
    cells = experiment.cells
    segmented = each_once([cell for cell in cells if cell.foreground_method != "none"], "foreground_key")
    kinds = {
        "examples": [(nodes.cell_label(cell.scored), cell.names.examples) for cell in each_once(cells, "predict_key")],
        "foregrounds": [(_training_part(cell), cell.names.foreground_preview) for cell in segmented],
        # One drift seed is enough to look at.
        "galleries": [
            (_category(cell), cell.names.drift_gallery) for cell in each_once(_drifted(experiment), "images_key")
        ],
        "side_by_side": [
            (_sized_category(first), experiment.dataset_name(f"{first.names.part_key}.side_by_side"))
            for first, *_ in _groups(experiment)
        ],
    }
    return {
        f"{kind}_{place}": (kind, title, dataset)
        for kind, pictures in kinds.items()
        for place, (title, dataset) in enumerate(pictures)
    }


def _category(cell: Cell) -> str:
    return f"{cell.dataset} · {cell.category}"


def _sized_category(cell: Cell) -> str:
    return f"{_category(cell)} · {cell.image_size} px"


def _training_part(cell: Cell) -> str:
    return f"{_sized_category(cell)} · {cell.condition.name} · {cell.detector}"


def _coordinates(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    return [cell.coordinates for cell in cells]


#: Function, what it takes, what it makes.
_Step = tuple[Callable[..., Any], list[str], list[str]]
#: Function, what it takes, the tables and then the figures that it makes; figures without ``_figure``.
_FigureStep = tuple[Callable[..., Any], list[str], list[str], list[str]]

#: What the paper published, and where it contradicts itself.
_PUBLISHED = ("reference.paper_results", "reference.paper_contradictions")

#: What reports and summaries are made of: the attributes of `shopfloor.report.page.results.Results`.
_CONTENTS = (
    "metrics", "costs", "scores", "categories", "training_log", "intervals", "mean_intervals", "differences",
    "rank_table", "rank_figure", "against_paper",
)  # fmt: skip

#: What an experiment has beyond the tables of all experiments: function, what it takes, what it makes.
_TABLES: dict[str, tuple[_Step, ...]] = {
    "input_size": ((nodes.make_size_table, ["metrics"], ["size_table"]),),
    "data_drift": (
        (nodes.make_drift_tables, ["metrics"], ["drift_table", "domain_table"]),
        (nodes.raise_drift_alarm, ["scores", "params:drift_alarm"], ["drift_alarms", "drift_alarm_table"]),
    ),
    "noisy_labels": ((nodes.make_noise_table, ["metrics"], ["noise_table"]),),
    "validation": ((nodes.make_stopping_table, ["metrics", "costs"], ["stopping_table"]),),
}

#: As above, figures.
_FIGURES: dict[str, tuple[_FigureStep, ...]] = {
    "input_size": ((nodes.draw_size_figure, ["metrics"], [], ["size"]),),
    "data_drift": ((nodes.draw_drift_figure, ["metrics"], [], ["drift"]),),
    "noisy_labels": ((nodes.draw_noise_figure, ["metrics"], [], ["noise"]),),
}


# What decides which images are evaluated, and how; where they lie is left out.
_DATASET_KEYS = ("reader", "options", "generator", "measured_apart")


def _plan(experiment: Experiment) -> dict[str, Any]:
    cells = experiment.cells
    return {
        "experiment": experiment.name,
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
        "experiment_settings": dict(experiment.settings),
        "dataset_settings": {
            cell.dataset: {key: value for key, value in cell.dataset_settings.items() if key in _DATASET_KEYS}
            for cell in cells
        },
        "settings": {
            cell.detector: {
                **cell.detector_settings,
                "networks": {name: cell.network_facts(name) for name in cell.network_settings},
            }
            for cell in cells
        },
        "cells": [
            {
                **{name: value for name, value in cell.coordinates.items() if pd.notna(value)},  # JSON has no NaN
                "split": cell.condition.split,
                "metrics": cell.names.metrics,
                "checkpoint": cell.names.checkpoint,
            }
            for cell in cells
        ],
    }
