"""Tell which results are current: made from what their inputs are now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from kedro.io import CatalogProtocol, DatasetError
from kedro.io.core import is_parameter
from kedro.pipeline.node import Node

from shopfloor.catalog.traces import Saved, Source, Trace, TracesDataset, content_id, file_id, stamp, value_id
from shopfloor.planning.binding import Sources, SourcesGoneError, bound, sources_of
from shopfloor.planning.names import CODE_VERSIONS
from shopfloor.runners.missing import ACROSS_GRIDS, TOLERANT

Given = dict[str, tuple[str, str]]
"""By name of what a node is given, its id and the node that made it; see :class:`~shopfloor.catalog.traces.Trace`."""

#: Keys of an entry of the parameter files that change no result: where something lies (the content of files counts by
#: itself), what people call it, how fast it goes, and what is bound into the nodes that use it.
_WITHOUT_EFFECT = frozenset(
    {
        "root", "folder", "foreground_folder", "mobile_sam", "num_workers", "size_multiple", "foreground",
        "foreground_of", "categories", "measured_apart", "title", "licence", "source", "project_page",
    }
)  # fmt: skip
#: A file that was changed so shortly before it was recorded may have been changed once more since, with the same size
#: and, on a file system with a coarse clock, the same time.
_UNCERTAIN_NS = 2_000_000_000


class State(StrEnum):
    """What is known of the results of a node."""

    CURRENT = "current"
    OUTDATED = "outdated"
    MISSING = "missing"
    UNTRACED = "untraced"


@dataclass(frozen=True)
class Finding:
    """State of a node's results.

    Attributes:
        state: The state.
        why: What makes them so.
        trace: The node's trace.
        changed: Files from outside that are not what they were.
    """

    state: State
    why: str = ""
    trace: Trace | None = None
    changed: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether the results may be used."""
        return self.state is State.CURRENT

    @property
    def stand_in(self) -> str:
        """What a trace holds in place of an id, where a node got a stand-in for the results."""
        return State.MISSING if self.state is State.MISSING else State.OUTDATED


class Freshness:
    """Compares the traces of a data folder with what is there now. Reads only.

    Args:
        nodes: Every node of the project, whatever the run is narrowed to.
        run: The nodes of this run: what is not current of theirs, it can make.
        catalog: The datasets, ``traces`` among them.
        hash_everything: Whether to read every file instead of going by size and time.
    """

    def __init__(
        self, nodes: Iterable[Node], run: Iterable[Node], catalog: CatalogProtocol, hash_everything: bool = False
    ) -> None:
        self.traces: TracesDataset = catalog.get("traces")  # type: ignore[assignment]
        #: Traces that hold other times than their unchanged files, to be written by a run.
        self.touched: dict[str, Trace] = {}
        #: Of nodes whose files from outside are not there, so that their results cannot be compared: what is not there.
        self.gone: dict[str, str] = {}
        self.catalog_id = _id_of_entries(catalog)
        self._catalog = catalog
        self._run = {node.name for node in run}
        self._makers = {output: node for node in (*nodes, *run) for output in node.outputs}
        self._hash_everything = hash_everything
        self._names = self.traces.names()
        self._known: dict[str, Trace | None] = {}
        self._found: dict[str, Finding] = {}
        self._ids: dict[str, str] = {}
        self._standing: dict[str, bool] = {}

    def of(self, node: Node) -> Finding:
        """Tell the state of a node's results."""
        if node.name not in self._found:
            self._found[node.name] = self._look_at(node)
        return self._found[node.name]

    def maker(self, name: str) -> Node | None:
        """Find the node that makes a dataset; None for what comes from outside."""
        return self._makers.get(name)

    def of_input(self, name: str, taker: Node) -> Finding:
        """Tell the state of a dataset that a node takes."""
        if ACROSS_GRIDS in taker.tags and not self.is_made_in_run(name):
            return self._as_it_stands(name)
        if maker := self._makers.get(name):
            return self.of(maker)
        is_there = is_parameter(name) or self._catalog.exists(name)
        return Finding(State.CURRENT if is_there else State.MISSING, "" if is_there else f"{name} is not there")

    def stand_ins(self, node: Node) -> dict[str, Finding]:
        """Find the inputs from outside the run in whose place a tolerant node gets a stand-in."""
        if TOLERANT not in node.tags:
            return {}
        outside = (name for name in node.inputs if not self.is_made_in_run(name))
        found = {name: self.of_input(name, node) for name in outside}
        return {name: finding for name, finding in found.items() if not finding.is_current}

    def given(self, node: Node, stand_ins: Mapping[str, str]) -> Given | None:
        """Take the ids of all that a node is made from now; None where an input is neither current nor replaced.

        Args:
            node: The node.
            stand_ins: Inputs in whose place it gets a stand-in, and what is told of each.
        """
        given = {"function": (value_id([_code_version(node), bound(node.func)]), "")}
        for name in node.inputs:
            maker = self._makers.get(name)
            id = stand_ins[name] if name in stand_ins else self._id_of(name, node)
            if id is None:
                return None
            given[name] = (id, maker.name if maker else "")
        return given

    def sources(self, node: Node) -> Sources | None:
        """List the files from outside that a node reads; None for a node that reads none.

        Raises:
            ClickException: They cannot be listed.
        """
        return sources_of(node.func, [self._catalog.load(name) for name in node.inputs if is_parameter(name)])

    def record(self, node: Node, trace: Trace | None) -> None:
        """Take note of what became of a node of the run; None if it failed."""
        self._known[node.name] = trace
        self._found[node.name] = Finding(State.CURRENT if trace else State.MISSING, trace=trace)
        self._standing = {}

    def look_again(self, node: Node) -> Finding:
        """Tell the state of a node's results when its inputs are settled."""
        self._found.pop(node.name, None)
        return self.of(node)

    def folders(self) -> dict[tuple[str, str], list[Node]]:
        """Find the folders of datasets: by dataset and category, the nodes that read there."""
        found: dict[tuple[str, str], list[Node]] = {}
        for node in {node.name: node for node in self._makers.values()}.values():
            coordinates = bound(node.func)
            if hasattr(node.func, "list_sources") and "dataset" in coordinates:
                found.setdefault((coordinates["dataset"], coordinates["category"]), []).append(node)
        return found

    def resting_on(self, nodes: Iterable[Node]) -> list[Trace]:
        """Find everything that was made from results of some nodes, in whatever run."""
        found: dict[str, Trace] = {}
        waiting = [node.name for node in nodes]
        while waiting:
            for trace in self._takers.get(waiting.pop(), ()):
                if trace.node not in found:
                    found[trace.node] = trace
                    waiting.append(trace.node)
        return list(found.values())

    @cached_property
    def _takers(self) -> dict[str, list[Trace]]:
        """By name of a node, the traces of those that took what it made, as they are before the run."""
        takers: dict[str, list[Trace]] = {}
        for trace in self.traces.read_all():
            for maker in {maker for _, maker in trace.made_from.values()}:
                takers.setdefault(maker, []).append(trace)
        return takers

    def changed(self, nodes: Iterable[Node]) -> list[str]:
        """Name the files from outside that changed, of nodes that this run rests on."""
        findings = (self._found[node.name] for node in nodes if node.name in self._found)
        return sorted({name for finding in findings for name in finding.changed})

    def is_made_in_run(self, name: str) -> bool:
        """Whether a node of this run makes a dataset."""
        maker = self._makers.get(name)
        return maker is not None and maker.name in self._run

    def _id_of(self, name: str, taker: Node) -> str | None:
        if name not in self._makers and ACROSS_GRIDS not in taker.tags:
            if name not in self._ids:
                self._ids[name] = self._id_from_outside(name)
            return self._ids[name]
        finding = self.of_input(name, taker)
        if not finding.is_current or finding.trace is None:
            return None
        saved = finding.trace.results.get(name)
        return saved.id if saved else "in memory"

    def _id_from_outside(self, name: str) -> str:
        """Take the id of a parameter, or of a file that no node makes."""
        if is_parameter(name):
            return value_id(_effective(self._catalog.load(name)))
        path = file_of(self._catalog, name)
        return file_id(path) if path and path.exists() else State.MISSING

    def _trace(self, name: str) -> Trace | None:
        if name not in self._known:
            self._known[name] = self.traces.read(name) if self.traces.path(name).name in self._names else None
        return self._known[name]

    def _look_at(self, node: Node) -> Finding:
        trace = self._trace(node.name)
        if trace is None:
            there = self._untraced_file(node)
            return Finding(State.UNTRACED, f"nothing tells what {there} was made from") if there else _NEVER_MADE
        is_finished = set(trace.results) == set(node.outputs)
        try:
            sources, changed = self._sources_now(node, trace)
        except SourcesGoneError as error:  # as when raw data was put away after a run: nothing speaks against results
            self.gone[node.name] = error.message
            sources, changed = trace.sources, ()
        except click.ClickException as error:
            return Finding(State.OUTDATED if is_finished else State.MISSING, error.message, trace)
        if not is_finished:
            return Finding(State.MISSING, "a run ended while it was made", trace, changed)
        if changed:
            return Finding(State.OUTDATED, f"{changed[0]} is not what it was", trace, changed)
        given = self.given(node, {name: finding.stand_in for name, finding in self.stand_ins(node).items()})
        if given != trace.made_from:
            return Finding(State.OUTDATED, self._difference(node, given, trace.made_from), trace)
        results, finding = self._results_now(trace)
        if finding is None:
            fresh = replace(trace, sources=sources, results=results, catalog=self.catalog_id)
            if any(sources[name] is not known for name, known in trace.sources.items()):  # hashed again, so newly known
                fresh = replace(fresh, recorded_ns=time.time_ns())
            if fresh != trace:
                self._known[node.name] = self.touched[node.name] = fresh
            finding = Finding(State.CURRENT, trace=fresh)
        return finding

    def _untraced_file(self, node: Node) -> Path | None:
        """Find a result of a node that has no trace."""
        if not self._has_strays and any(name in self._makers for name in node.inputs):
            return None
        paths = (file_of(self._catalog, name) for name in node.outputs)
        return next((path for path in paths if path and path.exists()), None)

    @cached_property
    def _has_strays(self) -> bool:
        """Whether some file in the layers of results is in no trace; if none is, none need be looked for by name.

        The layer of raw data is left out: it holds the user's own files.
        """
        for trace in self.traces.read_all():
            self._known.setdefault(trace.node, trace)
        known = {saved.file for trace in self._known.values() if trace for saved in trace.results.values()}
        return any(file not in known for file in self.traces.files_of_layers())

    def _difference(self, node: Node, given: Given | None, before: Given) -> str:
        """Say which input is not what it was."""
        for name in node.inputs:
            finding = self.of_input(name, node)
            if not finding.is_current and name in self._makers and TOLERANT not in node.tags:
                return finding.why or f"{name} is not there"
            if given and given[name] != before.get(name):
                return f"{name} is not what it was"
        return "its settings or its code changed"

    def _sources_now(self, node: Node, trace: Trace) -> tuple[dict[str, Source], tuple[str, ...]]:
        """Look at the files from outside, with their times of now, and name those that are not what they were."""
        sources = self.sources(node)
        if sources is None or not trace.recorded_ns:  # nothing from outside, or nothing was ever recorded
            return {}, ()
        now = {name: self._source_now(path, trace, name) for name, path in sources.files.items()}
        same = {name: source for name, source in now.items() if source}
        changed = {*trace.sources, *now} - set(same)
        notes = dict(sources.notes)
        changed |= {name for name in {*notes, *trace.notes} if notes.get(name) != trace.notes.get(name)}
        return same, tuple(sorted(changed))

    def _source_now(self, path: Path, trace: Trace, name: str) -> Source | None:
        known, found = trace.sources.get(name), stamp(path)
        if known is None or found is None:
            return None
        is_certain = not isinstance(found, str) and max(found[1:]) < trace.recorded_ns - _UNCERTAIN_NS
        if found == known.stamp and is_certain and not self._hash_everything:
            return known
        try:
            return Source(known.id, found) if file_id(path) == known.id else None
        except OSError:
            return None

    def _results_now(self, trace: Trace) -> tuple[dict[str, Saved], Finding | None]:
        """Look at the files that a node made, with their times of now; a finding where one is not what was saved."""
        results = {}
        for name, saved in trace.results.items():
            path = self.traces.path_of(saved)
            if trace.catalog != self.catalog_id:
                path = file_of(self._catalog, name) or path
            now = replace(saved, file=self.traces.name_of(path), stamp=stamp(path) or "")
            if not now.stamp:
                return {}, Finding(State.MISSING, f"{path} is not there", trace)
            if (now != saved or self._hash_everything) and not self._holds(name, saved):
                return {}, Finding(State.OUTDATED, f"{path} is not what was saved there", trace)
            results[name] = now
        return results, None

    def _holds(self, name: str, saved: Saved) -> bool:
        """Read a result again: whether it is what was saved."""
        try:
            return content_id(self._catalog.get(name)) == saved.id
        except (OSError, ValueError, KeyError, DatasetError):  # a damaged file can break anywhere
            return False

    def _as_it_stands(self, name: str) -> Finding:
        """Tell the state of what another run made, maybe of another grid: by its own trace and those behind it."""
        path = file_of(self._catalog, name)
        if path is None or not path.exists():
            return _NEVER_MADE
        maker = self._makers.get(name)
        trace = self._trace(maker.name) if maker else self._trace_with(name)
        if trace is None or name not in trace.results:
            return Finding(State.UNTRACED, f"nothing tells what {path} was made from")
        if self._stands(trace.node):
            return Finding(State.CURRENT, trace=trace)
        return Finding(State.OUTDATED, "what it was made from has changed or was made anew since", trace)

    def _trace_with(self, name: str) -> Trace | None:
        """Find the trace of what made a dataset that no node of this grid makes."""
        found = next((trace for trace in self.traces.read_all() if name in trace.results), None)
        if found:
            self._known[found.node] = found
        return found

    def _stands(self, name: str) -> bool:
        """Whether a node's files, and all that they were made from by the traces, are what was saved."""
        if name not in self._standing:
            trace = self._trace(name)
            made = {input: (id, maker) for input, (id, maker) in trace.made_from.items() if maker} if trace else {}
            self._standing[name] = bool(
                trace
                and trace.results
                and not self._results_now(trace)[1]
                and all(self._is_of(maker, input, id) for input, (id, maker) in made.items())
            )
        return self._standing[name]

    def _is_of(self, maker: str, name: str, id: str) -> bool:
        trace = self._trace(maker)
        made = trace.results.get(name) if trace else None
        if id in (State.MISSING, State.OUTDATED):
            return made is None or not self._stands(maker)
        return made is not None and made.id == id and self._stands(maker)


_NEVER_MADE = Finding(State.MISSING, "it was never made")


def _id_of_entries(catalog: Any) -> str:
    """Take the id of the catalog's entries and patterns."""
    return value_id([catalog.config_resolver.config, catalog.config_resolver._dataset_patterns])


def file_of(catalog: CatalogProtocol, name: str) -> Path | None:
    """Tell where a dataset is kept; None for what lives in memory."""
    path = getattr(catalog.get(name), "_filepath", None)
    return Path(path) if path else None


def _effective(value: Any) -> Any:
    """The part of a parameter that results depend on."""
    if not isinstance(value, dict):
        return value
    kept = {key: each for key, each in value.items() if key not in _WITHOUT_EFFECT}
    if isinstance(kept.get("weights"), dict):  # a file, which counts by its content
        del kept["weights"]
    return kept


def _code_version(node: Node) -> int:
    """Version of what the function does, where names of results do not hold it already."""
    return CODE_VERSIONS.get(getattr(node.func, "__name__", ""), CODE_VERSIONS.get(str(node.namespace), 0))
