"""Sum up each experiment. Its results have fixed names: ``reporting.<experiment>.<what>``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from shopfloor.experiments import EXPERIMENTS
from shopfloor.experiments.experiment import Step
from shopfloor.experiments.grid import Grid
from shopfloor.metrics.entries import label_of
from shopfloor.pipelines.reporting import nodes
from shopfloor.planning.binding import bind
from shopfloor.planning.cell import CLEAN_KINDS, Cell, each_once
from shopfloor.report.figures.costs import COST_TITLES
from shopfloor.report.tables import collecting
from shopfloor.runners.missing import ACROSS_GRIDS, TOLERANT

STAGE = "reporting"
_node = partial(Node, namespace=STAGE)
#: Tag of the nodes that make the reports people read.
REPORT_TAG = "report"

#: What the paper published, and where it contradicts itself.
_PUBLISHED = ("reference.paper_results", "reference.paper_contradictions")

#: Tables and figures of every experiment, figures in the order of the page; an experiment's own come in between.
_TABLES = (
    Step(
        nodes.make_tables,
        ("metrics", "costs"),
        ("category_table", "dataset_table", "mean_table", "failures_table", "unavailable_table", "cost_table"),
    ),
    Step(
        nodes.measure_certainty,
        ("metrics", "group_metrics", "scores", "params:bootstrap"),
        ("intervals", "mean_intervals", "differences"),
    ),
    Step(
        nodes.compare_with_paper,
        ("plan", "metrics", "costs", "params:paper_tables", *_PUBLISHED),
        ("against_paper",),
    ),
    Step(nodes.rank_detectors, ("metrics",), ("rank_table",), {"rank": "Average ranks"}),
    Step(
        nodes.draw_categories,
        ("category_table",),
        figures={name: f"{label_of(name)} by category" for name in nodes.DRAWN_METRICS},
    ),
)
_COST_FIGURES = (
    Step(
        nodes.draw_costs,
        ("metrics", "costs"),
        figures={name: f"Image AUROC against {COST_TITLES[cost]}" for name, cost in nodes.DRAWN_COSTS.items()},
    ),
    Step(nodes.draw_training, ("training_log",), figures={"training": "Loss per epoch"}),
)
#: Tables that neither the page nor the summary needs.
_NOT_ON_THE_PAGE = {"group_metrics", "scores", "training_log", "intervals"}


def create_pipeline(grids: Iterable[Grid]) -> Pipeline:
    """Make tables, figures and the report of each experiment that has cells, and the page over all experiments."""
    nodes = [node for grid in grids if grid.cells for node in _nodes(grid)]
    return Pipeline([*nodes, _front_page()] if nodes else [])


def _nodes(grid: Grid) -> list[Node]:
    """All nodes of one experiment."""
    collected = _collect(grid)
    steps = [*_TABLES, *grid.experiment.steps, *_COST_FIGURES]
    figures = {name: title for step in steps for name, title in step.figures.items()}
    made = [*collected, *(table for step in steps for table in step.tables)]
    tables = [table for table in made if table not in _NOT_ON_THE_PAGE]
    return [
        _node(
            func=bind(nodes.write_plan, plan=_plan(grid)),
            inputs=None,
            outputs=grid.result("plan"),
            name=f"{grid.name}.write_plan",
        ),
        *dict.fromkeys(collected.values()),
        *(_step(grid, step) for step in steps),
        *_paper_tables(grid),
        *(node for cells in _groups(grid) for node in (_score_distributions(grid, cells), _side_by_side(grid, cells))),
        _prints(grid, figures),
        _summary(grid, tables),
        _report(grid, tables, figures),
    ]


def _collect(grid: Grid) -> dict[str, Node]:
    """By the names of the tables that every cell adds to: the nodes that collect them."""
    cells, predictions = grid.cells, each_once(grid.cells, "predict_key")
    fits = each_once([cell for cell in cells if not cell.drift], "fit_key")
    sizes, drifted = each_once(cells, "images_key"), _drifted(grid)

    def collect(
        function: Callable[..., Any], of: list[Cell], results: Iterable[str], *tables: str, key: str = "coordinates"
    ) -> dict[str, Node]:
        """``results`` names what is collected as a cell's names call it."""
        made = [grid.result(table) for table in tables]
        node = _node(
            func=bind(function, cells=[getattr(cell, key) for cell in of]),
            inputs=[getattr(cell.names, result) for result in results for cell in of],
            outputs=made if len(made) > 1 else made[0],
            name=f"{grid.name}.{function.__name__}",
            tags=TOLERANT,
        )
        return dict.fromkeys(tables, node)

    return {
        **collect(collecting.collect_metrics, list(cells), ["metrics"], "metrics", "group_metrics"),
        **collect(collecting.collect_costs, fits, ["fit_record", "predict_record"], "costs"),
        **collect(collecting.collect_training_log, fits, ["fit_log"], "training_log"),
        **collect(collecting.collect_scores, predictions, ["scores"], "scores", key="scored"),
        **collect(collecting.collect_categories, sizes, ["resize_report"], "categories"),
        **(collect(collecting.collect_drift_counts, drifted, ["drift_report"], "drift_counts") if drifted else {}),
    }


def _step(grid: Grid, step: Step) -> Node:
    """A node over the experiment's own results; parameters and published numbers have names of their own."""
    made = [grid.result(table) for table in step.tables] + [grid.result(f"{name}_figure") for name in step.figures]
    return _node(
        func=step.function,
        inputs=[each if each in _PUBLISHED or ":" in each else grid.result(each) for each in step.inputs],
        outputs=made if len(made) > 1 else made[0],
        name=f"{grid.name}.{step.function.__name__}",
    )


def _paper_tables(grid: Grid) -> list[Node]:
    """Those of the paper's tables that the experiment answers, each in every format."""
    files = [f"{table}.{suffix}" for table in grid.paper_tables for suffix in nodes.TABLE_FORMATS]
    if not files:
        return []
    return [
        _node(
            func=nodes.make_paper_tables,
            inputs=[*map(grid.result, ("plan", "metrics", "costs")), "params:paper_tables"],
            outputs={file: grid.result(file) for file in files},
            name=f"{grid.name}.make_paper_tables",
        )
    ]


def _prints(grid: Grid, figures: Iterable[str]) -> Node:
    """Each figure as a picture for print."""
    return _node(
        func=nodes.print_figures,
        inputs=[grid.result(f"{name}_figure") for name in figures],
        outputs=[grid.result(f"{name}_print") for name in figures],
        name=f"{grid.name}.print_figures",
    )


def _summary(grid: Grid, tables: Iterable[str]) -> Node:
    """What the experiment found, in few numbers and sentences."""
    return _node(
        func=bind(nodes.summarise, experiment=grid.name),
        inputs={name: grid.result(name) for name in ("plan", *tables)},
        outputs=grid.result("summary"),
        name=f"{grid.name}.summarise",
    )


def _report(grid: Grid, tables: list[str], figures: Mapping[str, str]) -> Node:
    """The page over the experiment."""
    pictures = _pictures(grid)
    own = ["plan", "summary", *tables, *(f"{name}_figure" for name in figures)]
    facts = {
        "experiment": grid.name,
        "tables": tables,
        "figures": dict(figures),
        "pictures": {name: [kind, title] for name, (kind, title, _) in pictures.items()},
        "paper_tables": list(grid.paper_tables),
    }
    return _node(
        func=bind(nodes.render_report, **facts),
        inputs={
            **{name: grid.result(name) for name in own},
            **{name: grid.result(f"{name}.html") for name in grid.paper_tables},
            **{name: dataset for name, (*_, dataset) in pictures.items()},
        },
        outputs=grid.result("report"),
        name=f"{grid.name}.render_report",
        tags=[TOLERANT, REPORT_TAG],
    )


def _front_page() -> Node:
    """One page over all experiments, of whatever grids; every experiment that ends makes it anew."""
    return _node(
        func=bind(nodes.render_front_page, experiments=list(EXPERIMENTS)),
        inputs=[f"{STAGE}.{name}.summary" for name in EXPERIMENTS],
        outputs=f"{STAGE}.front_page",
        name="front_page",
        tags=[TOLERANT, ACROSS_GRIDS],
    )


def _drifted(grid: Grid) -> list[Cell]:
    """One cell for the drifted images of each category, size and seed."""
    return each_once([cell for cell in grid.cells if cell.drift], "drifted_key")


def _groups(grid: Grid) -> list[list[Cell]]:
    """The cells that can be seen side by side: several detectors on the same undrifted test images."""
    plain = [cell for cell in grid.cells if cell.test_set_kind == "full"]
    clean = [cell for cell in plain if cell.condition.kind in CLEAN_KINDS]
    groups: dict[str, dict[str, Cell]] = {}
    for cell in clean or [cell for cell in plain if cell.condition.name == plain[0].condition.name]:
        groups.setdefault(cell.names.images_key, {}).setdefault(cell.detector, cell)
    return [list(cells.values()) for cells in groups.values() if len(cells) > 1]


def _score_distributions(grid: Grid, cells: list[Cell]) -> Node:
    part = cells[0].names.part_key
    return _node(
        func=bind(nodes.show_score_distributions, detectors=[cell.detector for cell in cells]),
        inputs=[cell.names.score_histogram for cell in cells],
        outputs=grid.result(f"{part}.score_distributions"),
        name=f"{grid.name}.{part}.show_score_distributions",
        tags=TOLERANT,
    )


def _side_by_side(grid: Grid, cells: list[Cell]) -> Node:
    first, mapped = cells[0].names, [cell for cell in cells if cell.gives_maps]
    detectors = {"detectors": [cell.detector for cell in cells], "with_maps": [cell.detector for cell in mapped]}
    return _node(
        func=bind(nodes.show_side_by_side, **detectors),
        inputs=[
            *(first.test_images, first.test_masks),
            *(cell.names.scores for cell in cells),
            *(cell.names.maps for cell in mapped),
        ],
        outputs=grid.result(f"{first.part_key}.side_by_side"),
        name=f"{grid.name}.{first.part_key}.show_side_by_side",
        tags=TOLERANT,
    )


def _pictures(grid: Grid) -> dict[str, tuple[str, str, str]]:
    """Kind, title and dataset of each picture and histogram of the report, by the name under which it takes it."""
    predictions = each_once(grid.cells, "predict_key")
    segmented = each_once([cell for cell in grid.cells if cell.foreground_method != "none"], "foreground_key")
    kinds = {
        "examples": [(cell.label, cell.names.examples) for cell in predictions],
        "histograms": [(cell.label, cell.names.score_histogram) for cell in predictions],
        "foregrounds": [(_training_part(cell), cell.names.foreground_preview) for cell in segmented],
        # One drift seed is enough to look at.
        "galleries": [(_category(cell), cell.names.drift_gallery) for cell in each_once(_drifted(grid), "images_key")],
        "side_by_side": [
            (_sized_category(first), grid.result(f"{first.names.part_key}.side_by_side")) for first, *_ in _groups(grid)
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


# What decides which images are evaluated, and how; where they lie is left out.
_DATASET_KEYS = ("reader", "options", "generator", "measured_apart")


def _plan(grid: Grid) -> dict[str, Any]:
    cells = grid.cells
    return {
        "experiment": grid.name,
        "title": grid.settings.title or grid.name,
        "demo_note": grid.settings.demo_note or "",
        "seeds": sorted({cell.seed for cell in cells}),
        "grid": {
            "datasets": list(dict.fromkeys(f"{cell.dataset}/{cell.category}" for cell in cells)),
            "detectors": list(dict.fromkeys(cell.detector for cell in cells)),
            "image_sizes": sorted({cell.image_size for cell in cells}),
            "conditions": list(dict.fromkeys(cell.condition.name for cell in cells)),
            "splits": list(dict.fromkeys(cell.condition.split for cell in cells)),
            "test_sets": list(dict.fromkeys(cell.test_set for cell in cells)),
        },
        "experiment_settings": dict(grid.settings.given),
        "dataset_settings": {
            cell.dataset: {key: value for key, value in cell.dataset_settings.given.items() if key in _DATASET_KEYS}
            for cell in cells
        },
        "settings": {
            cell.detector: {
                **cell.detector_settings.given,
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
