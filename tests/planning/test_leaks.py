"""What a training descends from: proven of every pipeline as it is; leaks that are planted into them are refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pandas as pd
import pytest
from kedro.pipeline import Node, Pipeline
from kedro.pipeline.pipeline import CircularDependencyError

from shopfloor import pipeline_registry
from shopfloor.experiments import EXPERIMENTS
from shopfloor.experiments.grid import Grid, expand_experiments, unique_cells
from shopfloor.perturbations.splits import SplitError, clean_split, holdout_split, supervised_split
from shopfloor.pipeline_registry import experiment_pipeline, register_pipelines
from shopfloor.planning.cell import CLEAN, Cell, Condition, each_once
from shopfloor.planning.leaks import LeakError, refuse_leaks
from tests.conftest import parameters_of
from tests.perturbations.test_splits import make_index

pytestmark = pytest.mark.filterwarnings("ignore:Namespace")  # of planted nodes

Planned = tuple[Pipeline, tuple[Cell, ...]]


@lru_cache
def experiments_of(env: str) -> dict[str, Grid]:
    return expand_experiments(parameters_of(env))


@lru_cache
def planned_of(env: str, name: str) -> Planned:
    experiment = experiments_of(env)[name]
    return experiment_pipeline(experiment), experiment.cells


@pytest.fixture(scope="module", params=[f"{env} {name}" for env in ("base", "test") for name in EXPERIMENTS])
def planned(request: pytest.FixtureRequest) -> Planned:
    """The pipeline of an experiment, and its cells."""
    return planned_of(*request.param.split())


def maker_of(pipeline: Pipeline, name: str) -> Node:
    (node,) = (node for node in pipeline.nodes if name in node.outputs)
    return node


def way_to(pipeline: Pipeline, cell: Cell) -> Pipeline:
    """One training and what leads to it; all other datasets count as left by an earlier run."""
    return pipeline.to_outputs(cell.names.checkpoint)


def without_results(pipeline: Pipeline, cell: Cell) -> Pipeline:
    """Everything but what follows from one training; as an input of that it would be a circle."""
    fit = maker_of(pipeline, cell.names.checkpoint)
    return pipeline - pipeline.from_nodes(fit.name) + Pipeline([fit])


def kind_of(name: str) -> str:
    """Stage and content; every parameter is a kind of its own."""
    return name if name.startswith("params:") else f"{name.partition('.')[0]} {name.rpartition('.')[2]}"


def one_of_each_kind(pipeline: Pipeline, cell: Cell, allowed: set[str]) -> list[str]:
    """One of each kind of the datasets that are not allowed; if possible one of the cell's category."""
    names = sorted(pipeline.datasets() - allowed, key=lambda name: (f".{cell.category}." in name, name))
    return list({kind_of(name): name for name in names}.values())


def of_each_sort(planned: Planned) -> list[Cell]:
    """One cell for each sort of training: by the kinds of what it takes, and whether its images are generated."""
    pipeline, cells = planned
    taken = {cell: maker_of(pipeline, cell.names.checkpoint).inputs for cell in each_once(cells, "fit_key")}
    sorts = {(frozenset(map(kind_of, inputs)), cell.is_generated): cell for cell, inputs in taken.items()}
    return list(sorts.values())


def anything(*_: Any, **__: Any) -> None:
    """Takes the place of a rewired node's function, which would not take other arguments."""


def rewired(pipeline: Pipeline, made: str, inputs: Iterable[str], *others: Node) -> Pipeline:
    """The pipeline with other inputs of the node that makes a dataset, and perhaps other nodes."""
    node = maker_of(pipeline, made)
    new = node._copy(func=anything, inputs=list(inputs))
    return Pipeline([*(each for each in pipeline.nodes if each is not node), new, *others])


def is_refused(cells: Iterable[Cell], pipeline: Pipeline, made: str, inputs: Iterable[str], *others: Node) -> bool:
    try:
        refuse_leaks(rewired(pipeline, made, inputs, *others), cells)
    except (LeakError, CircularDependencyError):  # Kedro itself refuses what leads back to where it comes from
        return True
    return False


def test_what_is_planned_passes(planned: Planned) -> None:
    refuse_leaks(*planned)


# The truth: what lies behind a training, by what the cells say that it holds


def made_for_testing(cell: Cell) -> set[str]:
    """Test images, their tables, draws and labels, and what is computed from them."""
    names = {
        cell.names.test,
        cell.names.draw,
        cell.names.test_images,
        cell.names.test_masks,
        cell.names.masks,
        cell.names.resize_report,
    }
    names |= {cell.names.maps, cell.names.scores, cell.names.predict_record, cell.names.metrics, cell.names.examples}
    if cell.common_draw:
        names.add(cell.names.common_test)
    if cell.drift:
        names |= {
            cell.names.drift_draw,
            cell.names.drifted_images,
            cell.names.drifted_masks,
            cell.names.drift_report,
            cell.names.drift_gallery,
        }
    return names


def ancestors(makers: dict[str, Node], name: str, closed: Iterable[str] = ()) -> set[str]:
    """What a dataset is made of, back to the raw data, but not through the closed ones."""
    waiting, seen = [name], set(closed)
    while waiting:
        if (last := waiting.pop()) not in seen:
            seen.add(last)
            waiting += makers[last].inputs if last in makers else []
    return seen - {name, *closed}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("env", ["base", "test", "paper"])
def test_no_test_data_lies_behind_a_training_and_images_reach_it_through_a_cut_alone(env: str, experiment: str) -> None:
    pipeline, cells = planned_of(env, experiment)
    forbidden = set().union(*map(made_for_testing, cells))
    assert forbidden & pipeline.datasets() > {cells[0].names.test, cells[0].names.scores, cells[0].names.masks}
    makers = {output: node for node in pipeline.nodes for output in node.outputs}
    fits = each_once(cells, "fit_key")
    for cell in fits:
        cuts = {cell.names.train_images: cell.names.train}
        if cell.condition.kind == "holdout":
            cuts[cell.names.validation_images] = cell.names.validation
        behind = ancestors(makers, cell.names.checkpoint)
        assert behind.isdisjoint(forbidden)
        assert {cell.names.images, cell.names.index, *cuts} <= behind
        beside = ancestors(makers, cell.names.checkpoint, closed=cuts)
        assert not {cell.names.images, cell.names.index, cell.names.files, cell.names.folder} & beside
        for part, table in cuts.items():
            assert set(makers[part].inputs) == {cell.names.images, table}
            assert makers[table].inputs == [cell.names.index]
    trained = {output for node in pipeline.nodes if node.namespace == "training" for output in node.outputs}
    made = {name for cell in fits for name in (cell.names.checkpoint, cell.names.fit_record, cell.names.fit_log)}
    assert trained == made | {cell.names.weights(network) for cell in fits for network in cell.network_settings}


# Leaks, planted into these pipelines


def allowed_for(cell: Cell, node: Node) -> set[str]:
    """What a node may take: what it takes, for a training any entry of its networks too, and what Kedro refuses."""
    entries = map(cell.names.network_params, cell.network_settings) if cell.names.checkpoint in node.outputs else []
    return {*node.inputs, *entries, *node.outputs}


def test_a_training_takes_no_dataset_beside_those_of_its_own_cell(planned: Planned) -> None:
    """The training that takes most: one input more, of each kind of dataset that the experiment has."""
    pipeline, cells = planned
    cell = max(cells, key=lambda cell: len(maker_of(pipeline, cell.names.checkpoint).inputs))
    fit, before = maker_of(pipeline, cell.names.checkpoint), without_results(pipeline, cell)
    allowed = allowed_for(cell, fit)
    foreign = one_of_each_kind(pipeline, cell, allowed)
    for name in foreign:
        assert is_refused(cells, before, cell.names.checkpoint, [*fit.inputs, name]), name
    assert len(foreign) > 40
    for name in allowed - set(fit.outputs):
        refuse_leaks(rewired(before, cell.names.checkpoint, [cell.names.train_images, name]), cells)


def test_what_leads_to_a_training_is_made_of_nothing_else(planned: Planned) -> None:
    """One input more of each node on the way: training, weights, textures, foreground, parts, tables, images, ..."""
    pipeline, cells = planned
    rewired_nodes: set[Node] = set()
    for cell in of_each_sort(planned):
        way = way_to(pipeline, cell)
        for node in set(way.nodes) - rewired_nodes:
            rewired_nodes.add(node)
            foreign = one_of_each_kind(pipeline, cell, allowed_for(cell, node))
            for name in foreign:
                assert is_refused(cells, way, node.outputs[0], [*node.inputs, name]), f"{name} for {node.name}"
            assert len(foreign) > 40


def test_settings_are_not_made_by_a_node(planned: Planned) -> None:
    pipeline, cells = planned
    for name in (cells[0].names.detector_params, cells[0].dataset_params):
        made = Node(anything, cells[0].names.scores, name, name="tune")
        with pytest.raises(
            LeakError, match=f"which tune takes for the unplanned dataset {name}. Allowed there: nothing."
        ):
            refuse_leaks(Pipeline([*way_to(pipeline, cells[0]).nodes, made]), cells)


@pytest.mark.parametrize(
    "name",
    [
        "perturbation.x.train_images2",
        "perturbation.x.train_images",
        "perturbation.x.foreground",
        "training.x.weights",
        "data_prep.textures.x.images",
        "params:x",
    ],
)
def test_a_harmless_name_hides_nothing(planned: Planned, name: str) -> None:
    """One node more stands between the dataset and the training, or between the dataset and the training part."""
    pipeline, cells = planned
    cell = cells[-1]
    way = way_to(pipeline, cell)
    for made in (cell.names.checkpoint, cell.names.train_images, cell.names.train):
        inputs = maker_of(way, made).inputs
        for source in (
            cell.names.test_images,
            cell.names.test_masks,
            cell.names.images,
            cell.names.index,
            cell.names.train,
            cell.names.scores,
        ):
            launder = Node(anything, source, name, name="launder")
            assert is_refused(cells, way, made, [*inputs, name], launder), f"{source} for {made}"


OTHER_SPLIT = Condition("noise_3", "noise_3", "noise", 3)

#: What is planted: the dataset, and of what it is made, in words of a cell.
PLANTED: dict[str, tuple[str, Callable[[Cell], list[str]]]] = {
    "part cut by the test table": ("train_images", lambda cell: [cell.names.images, cell.names.test]),
    "part cut by the table of another split": (
        "train_images",
        lambda cell: [cell.names.images, replace(cell, condition=OTHER_SPLIT).names.train],
    ),
    "part cut by no table": ("train_images", lambda cell: [cell.names.images]),
    "part cut out of the masks": ("train_images", lambda cell: [cell.names.masks, cell.names.train]),
    "part cut out of another size": (
        "train_images",
        lambda cell: [replace(cell, image_size=2 * cell.image_size).names.images, cell.names.train],
    ),
    "validation part cut by the test table": ("validation_images", lambda cell: [cell.names.images, cell.names.test]),
    "validation part cut by no table": ("validation_images", lambda cell: [cell.names.images]),
    "validation table made of scores": ("validation", lambda cell: [cell.names.index, cell.names.scores]),
    "training table made of scores": ("train", lambda cell: [cell.names.index, cell.names.scores]),
    "images made of scores": ("images", lambda cell: [cell.names.index, cell.names.scores]),
    "index made of metrics": ("index", lambda cell: [cell.names.files, cell.names.metrics]),
    "foreground of all images": ("foreground", lambda cell: [cell.names.images, cell.dataset_params]),
    "foreground of the masks": ("foreground", lambda cell: [cell.names.masks]),
    "foreground of the index": ("foreground", lambda cell: [cell.names.train_images, cell.names.index]),
    "foreground of the test part": ("foreground", lambda cell: [cell.names.test_images]),
    "foreground of another split": (
        "foreground",
        lambda cell: [replace(cell, condition=OTHER_SPLIT).names.train_images],
    ),
    "textures of the training part": ("textures", lambda cell: [cell.names.train_images]),
    "training on all images": ("checkpoint", lambda cell: [cell.names.images, cell.names.detector_params]),
    "training on the masks": ("checkpoint", lambda cell: [cell.names.train_images, cell.names.masks]),
    "training on all parameters": ("checkpoint", lambda cell: [cell.names.train_images, "parameters"]),
    "training on the dataset's folder": ("checkpoint", lambda cell: [cell.names.train_images, cell.dataset_params]),
    "training on the drift": ("checkpoint", lambda cell: [cell.names.train_images, "params:data_drift.drift"]),
    "training with a validation part that the cell does not have": (
        "checkpoint",
        lambda cell: [cell.names.train_images, replace(cell, condition=CLEAN).names.validation_images],
    ),
    "training on the test part": ("checkpoint", lambda cell: [cell.names.test_images, cell.names.detector_params]),
}


@pytest.mark.parametrize("leak", PLANTED)
def test_a_planted_leak_is_refused(leak: str) -> None:
    """In every experiment that makes the dataset at all: its node takes these inputs instead."""
    what, inputs_of = PLANTED[leak]
    refused = 0
    for env in ("base", "test"):
        for name in EXPERIMENTS:
            pipeline, cells = planned_of(env, name)
            for cell in of_each_sort((pipeline, cells)):
                made, way = getattr(cell.names, what), way_to(pipeline, cell)
                if made in way.all_outputs():
                    with pytest.raises(LeakError, match=re.escape(f"{cell.names.fit_key} would be trained on ")):
                        refuse_leaks(rewired(way, made, inputs_of(cell)), cells)
                    refused += 1
    assert refused >= (1 if what.startswith(("validation", "foreground", "textures")) else 12)


def test_weights_are_made_of_their_own_entry_alone(planned: Planned) -> None:
    pipeline, cells = planned
    for cell in of_each_sort(planned):
        way = way_to(pipeline, cell)
        for network in cell.network_settings:
            for source in (
                cell.names.train_images,
                cell.names.test_images,
                cell.names.detector_params,
                "params:backbones.other",
            ):
                assert is_refused(cells, way, cell.names.weights(network), [source])


@pytest.mark.parametrize("env", ["base", "test"])
def test_a_training_takes_parts_of_its_own_cell_though_others_are_planned(env: str) -> None:
    """All experiments in one plan: a clean training must not see the supervised part, which holds test images."""
    cells = unique_cells(experiments_of(env).values())
    pipelines = {cell: planned_of(env, name)[0] for name in EXPERIMENTS for cell in planned_of(env, name)[1]}
    parts = {cell.names.train_images for cell in cells}
    parts |= {cell.names.validation_images for cell in cells if cell.condition.kind == "holdout"}
    parts |= {cell.names.foreground for cell in cells if cell.foreground_method != "none"}
    clean, supervised = (
        {cell.names.train_images for cell in cells if cell.condition.kind == kind and cell.category == "machined_ring"}
        for kind in ("clean", "supervised")
    )
    assert clean and supervised and len(parts) > 8
    for cell in each_once(cells, "fit_key"):
        way = way_to(pipelines[cell], cell)
        inputs = maker_of(way, cell.names.checkpoint).inputs
        refuse_leaks(way, cells)
        for part in parts - set(inputs):
            others = [name for name in inputs if name != cell.names.train_images]
            assert is_refused(cells, way, cell.names.checkpoint, [part, *others]), f"{part} for {cell.names.checkpoint}"


@pytest.mark.parametrize("namespace", ["evaluation", "reporting", None])
def test_a_training_is_told_by_what_it_makes(planned: Planned, namespace: str | None) -> None:
    pipeline, cells = planned
    cell = cells[0]
    others = [node for node in pipeline.nodes if cell.names.checkpoint not in node.outputs]
    for inputs in (cell.names.test_images, cell.names.images):
        hidden = Node(anything, inputs, cell.names.checkpoint, name="harmless", namespace=namespace)
        with pytest.raises(LeakError, match=f"harmless would be trained on {re.escape(inputs)}"):
            refuse_leaks(Pipeline([*others, hidden]), cells)


@pytest.mark.parametrize("outputs", [["training.x.checkpoint"], ["{checkpoint}", "training.x.mean"], []])
def test_what_no_cell_asks_for_is_not_trained(planned: Planned, outputs: list[str]) -> None:
    """Its input alone would be harmless."""
    pipeline, cells = planned
    made = [name.format(checkpoint=cells[0].names.checkpoint) for name in outputs]
    others = [node for node in pipeline.nodes if not set(made) & set(node.outputs)]
    node = Node(anything, cells[0].names.train_images, made, name="extra", namespace="training")
    with pytest.raises(LeakError, match="extra would train what no cell of the plan asks for"):
        refuse_leaks(Pipeline([*others, node]), cells)


def test_the_error_names_training_dataset_node_and_what_is_allowed() -> None:
    pipeline, cells = planned_of("test", "validation")
    cell = cells[0]
    with pytest.raises(LeakError) as error:
        refuse_leaks(
            rewired(way_to(pipeline, cell), cell.names.validation_images, [cell.names.images, cell.names.test]), cells
        )
    (training, node) = (maker_of(pipeline, name).name for name in (cell.names.checkpoint, cell.names.validation_images))
    assert error.value.message == (
        f"{training} would be trained on {cell.names.test}, which {node} takes for the validation part "
        f"{cell.names.validation_images}. Allowed there: {cell.names.images}, {cell.names.validation}."
    )


@pytest.mark.parametrize("leaking", EXPERIMENTS)
def test_no_experiment_is_registered_with_a_leak(monkeypatch: pytest.MonkeyPatch, leaking: str) -> None:
    def plan(experiment: Grid) -> Pipeline:
        pipeline, cell = experiment_pipeline(experiment), experiment.cells[0]
        if experiment.name != leaking:
            return pipeline
        return rewired(pipeline, cell.names.train_images, [cell.names.images, cell.names.test])

    monkeypatch.setattr(pipeline_registry, "project_parameters", lambda: parameters_of("test"))
    monkeypatch.setattr(pipeline_registry, "experiment_pipeline", plan)
    with pytest.raises(LeakError, match="would be trained on"):
        register_pipelines()


# The gate: what a split makes is disjoint by content


@pytest.mark.parametrize("split", [clean_split, lambda index: supervised_split(index, 3, 0, 5)])
def test_a_test_image_moved_to_train_is_refused_by_its_content(split) -> None:
    index = make_index()
    train, test = index.index[index["split"] == "train"][0], index.index[index["split"] == "test"][0]
    index.loc[train, "sha256"] = index.loc[test, "sha256"]
    with pytest.raises(SplitError, match="DUPLICATE_TRAIN_TEST"):
        split(index)


def contents(index: pd.DataFrame, table: pd.DataFrame) -> set[str]:
    return set(index.set_index("image").loc[table["image"], "sha256"])


def test_train_validation_and_test_are_disjoint_by_content() -> None:
    index = make_index(train_bad=20)
    train, validation, test, _ = holdout_split(index, 10, 7)
    parts = [contents(index, part) for part in (train, validation, test)]
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_a_validation_image_that_is_also_a_training_image_is_refused() -> None:
    index = make_index(train_bad=20)
    index.loc[index["split"] == "train", "sha256"] = "same"
    with pytest.raises(SplitError, match=r"DUPLICATE_TRAIN_VALIDATION.*training images are also validation"):
        holdout_split(index, 10, 7)
