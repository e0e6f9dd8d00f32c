"""Say which nodes can run now: those whose makers are settled, a cell that was begun before a new one."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable
from graphlib import TopologicalSorter

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

#: Tag of the nodes that run before all others that are ready.
FIRST = "first"


class ReadyQueue:
    """The nodes of a pipeline in the order in which they can run, by what they need to run on.

    Args:
        pipeline: The nodes.
        place_of: What a node runs on, e.g. ``GPU``.
        skips: Whether a node whose makers are settled is left out because something is lost.
    """

    def __init__(self, pipeline: Pipeline, place_of: Callable[[Node], str], skips: Callable[[Node], bool]) -> None:
        self._place_of = place_of
        self._skips = skips
        # The deepest first: results of a cell come before the next cell is begun.
        groups = enumerate(pipeline.grouped_nodes)
        self._ranks = {
            node: (FIRST not in node.tags, -depth, place) for depth, group in groups for place, node in enumerate(group)
        }
        self._ready: defaultdict[str, list[tuple[tuple[bool, int, int], Node]]] = defaultdict(list)
        self._waiting = TopologicalSorter(pipeline.node_dependencies)
        self._waiting.prepare()
        self._add_ready()

    def _add_ready(self) -> None:
        while nodes := self._waiting.get_ready():  # what is left out may make others ready
            for node in nodes:
                if self._skips(node):
                    self._waiting.done(node)
                else:
                    heapq.heappush(self._ready[self._place_of(node)], (self._ranks[node], node))

    def take(self, place: str) -> Node | None:
        """Take the next node for a place, which is then no longer ready; None if there is none."""
        ready = self._ready[place]
        return heapq.heappop(ready)[1] if ready else None

    @property
    def is_ready(self) -> bool:
        """Whether some node could run."""
        return any(self._ready.values())

    def settle(self, node: Node) -> None:
        """Count a node as finished, failed or left out: those that waited for it alone become ready."""
        self._waiting.done(node)
        self._add_ready()
