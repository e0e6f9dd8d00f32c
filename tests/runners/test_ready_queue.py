"""The order in which nodes can run."""

from __future__ import annotations

from pathlib import Path

from kedro.pipeline.node import Node

from shopfloor.experiments.grid import expand_experiments, unique_cells
from shopfloor.pipelines import data_prep
from shopfloor.runners.cells import GPU
from shopfloor.runners.ready_queue import ReadyQueue
from tests.conftest import parameters_of
from tests.runners.stub_grid import make_pipeline


def place_of(node: Node) -> str:
    return "GPU" if GPU in node.tags else "CPU"


def drain(queue: ReadyQueue) -> list[str]:
    """Take and settle everything, what rests on something first."""
    taken = []
    while node := queue.take("CPU") or queue.take("GPU"):
        taken.append(node.name)
        queue.settle(node)
    return taken


def test_a_cell_is_finished_before_the_next_is_begun(tmp_path: Path) -> None:
    queue = ReadyQueue(make_pipeline(tmp_path, 2), place_of, lambda node: False)
    assert drain(queue) == [
        "prepare", "cell_0000.fit", "cell_0000.measure", "cell_0001.fit", "cell_0001.measure", "report"
    ]  # fmt: skip
    assert not queue.is_ready


def test_what_rests_on_nodes_that_are_left_out_is_ready_at_once(tmp_path: Path) -> None:
    queue = ReadyQueue(make_pipeline(tmp_path, 2), place_of, lambda node: "report" not in node.name)
    assert queue.is_ready and drain(queue) == ["report"]


def test_a_node_waits_for_all_its_makers(tmp_path: Path) -> None:
    queue = ReadyQueue(make_pipeline(tmp_path, 2), place_of, lambda node: False)
    assert queue.take("GPU") is None
    prepare = queue.take("CPU")
    assert prepare is not None and queue.take("CPU") is None and not queue.is_ready


def test_the_table_of_datasets_is_made_before_any_image_is_prepared() -> None:
    cells = unique_cells(expand_experiments(parameters_of("test")).values())
    queue = ReadyQueue(data_prep.create_pipeline(cells, []), place_of, lambda node: False)
    order = drain(queue)
    prepared = [place for place, name in enumerate(order) if "prepare" in name]
    assert len(prepared) > 3 and order.index("data_prep.summarise_datasets") < min(prepared)
