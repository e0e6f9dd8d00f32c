"""Which nodes can run now: those whose makers are settled, a cell that was begun before a new one."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node


class Frontier:
    """The nodes of a pipeline in the order in which they can run, by what they need to run on.

    Args:
        pipeline: The nodes.
        place_of: What a node runs on, e.g. ``GPU``.
        skips: Whether a node whose makers are settled is left out because something is lost.
    """

    def __init__(self, pipeline: Pipeline, place_of: Callable[[Node], str], skips: Callable[[Node], bool]) -> None:
        self._place_of = place_of
        self._skips = skips
        self._nodes = {node.name: node for node in pipeline.nodes}
        groups = enumerate(pipeline.grouped_nodes)
        # The deepest first: results of a cell come before the next cell is begun.
        ranks = (((-depth, place), node) for depth, group in groups for place, node in enumerate(group))
        self._ranks = {node.name: rank for rank, node in ranks}
        self._waiting = {node.name: len(makers) for node, makers in pipeline.node_dependencies.items()}
        self._children: dict[str, list[str]] = {name: [] for name in self._nodes}
        for node, makers in pipeline.node_dependencies.items():
            for maker in makers:
                self._children[maker.name].append(node.name)
        self._ready: dict[str, list[tuple[tuple[int, int], str]]] = {}
        for name in [name for name, count in self._waiting.items() if not count]:
            self._push(name)

    def _push(self, name: str) -> None:
        node = self._nodes[name]
        if self._skips(node):
            self.settle(node)
        else:
            heapq.heappush(self._ready.setdefault(self._place_of(node), []), (self._ranks[name], name))

    def take(self, place: str) -> Node | None:
        """The next node for a place, which is then no longer ready; None if there is none."""
        ready = self._ready.get(place)
        return self._nodes[heapq.heappop(ready)[1]] if ready else None

    @property
    def is_ready(self) -> bool:
        """Whether some node could run."""
        return any(self._ready.values())

    def settle(self, node: Node) -> None:
        """The node is finished, failed or left out: those that waited for it alone become ready."""
        for child in self._children[node.name]:
            self._waiting[child] -= 1
            if not self._waiting[child]:
                self._push(child)
