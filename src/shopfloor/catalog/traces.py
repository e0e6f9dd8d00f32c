"""Record what every result was made from, so that whether it is current can be told by looking, not by its existence.

A trace belongs to one run of one node and lies in a folder of plain files, one per node. It holds the ids of all that
the node was given (results of other nodes, parameters, what is bound into the function, files from outside, the version
of the code) and, of every file that it made, an id of the content with size and time. Such records are called verifying
traces: Mokhov, Mitchell, Peyton Jones, Build Systems a la Carte, 2018 (https://doi.org/10.1145/3236774).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from shopfloor.catalog.atomic_write import atomic_write

Stamp = list[int] | str
"""Size in bytes, modification and change time in nanoseconds of a file; of a folder, a digest of those of its files.

The change time tells of a file that took the place of another of equal size and modification time, as ``mv`` may do.
"""


def value_id(value: Any) -> str:
    """Take the id of plain data; equal data has equal ids whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def file_id(path: Path) -> str:
    """Take the id of a file's content, or of a folder's: that of all its files and their names."""
    if path.is_dir():
        return value_id([(file.relative_to(path).as_posix(), file_id(file)) for file in _files_in(path)])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def stamp(path: Path) -> Stamp | None:
    """Look at size and time of a file or folder, without opening it; None where there is none."""
    try:
        if path.is_dir():
            return value_id([(file.relative_to(path).as_posix(), stamp(file)) for file in _files_in(path)])
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _files_in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def content_id(dataset: Any) -> str:
    """Take the id of what a dataset holds: of its file, unless the dataset knows better (a view, a written stack)."""
    return dataset.content_id() if hasattr(dataset, "content_id") else file_id(Path(dataset._filepath))


@dataclass(frozen=True)
class Saved:
    """A file that a node made.

    Attributes:
        file: Path relative to the folder that the traces lie in.
        id: Id of the content.
        stamp: Size and time.
    """

    file: str
    id: str
    stamp: Stamp


@dataclass(frozen=True)
class Source:
    """A file from outside that a node read: a photo, a weight file.

    Attributes:
        id: Id of the content.
        stamp: Size and time.
    """

    id: str
    stamp: Stamp


@dataclass(frozen=True)
class Trace:
    """What one run of a node was given and what it made.

    Attributes:
        node: Name of the node.
        made_from: By name of what was given, its id and, where a node made it, the name of that node.
        sources: Files from outside by name.
        notes: What lists said of files from outside, by name.
        results: Files that the node made, by dataset; none while the node is at work.
        catalog: Id of the catalog's entries: where they are the same, results lie where they lay.
        trains: Whether the node is a training.
        seconds: How long it took.
        recorded_ns: When this was written.
    """

    node: str
    made_from: dict[str, tuple[str, str]] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    results: dict[str, Saved] = field(default_factory=dict)
    catalog: str = ""
    trains: bool = False
    seconds: float = 0.0
    recorded_ns: int = 0

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Trace:
        """Read what :func:`dataclasses.asdict` made."""
        given = {name: (str(id), str(maker)) for name, (id, maker) in content["made_from"].items()}
        sources = {name: Source(**source) for name, source in content["sources"].items()}
        results = {name: Saved(**saved) for name, saved in content["results"].items()}
        return cls(**{**content, "made_from": given, "sources": sources, "results": results})


class TracesDataset(AbstractDataset[NoReturn, pd.DataFrame]):
    """The traces of a data folder: one JSON file per node, read and written by the runners.

    ``catalog.load("traces")`` gives a table: one line per result with its file, node, seconds and id.

    Args:
        path: Folder of the traces, inside the data folder.
        metadata: For Kedro's plugins.
    """

    def __init__(self, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    @property
    def data_folder(self) -> Path:
        """The folder that paths of results are relative to."""
        return self._path.parent

    def names(self) -> set[str]:
        """Name the files of all traces in one look at the folder."""
        try:
            return set(os.listdir(self._path))
        except OSError:
            return set()

    def path(self, node: str) -> Path:
        """Where the trace of a node lies."""
        return self._path / f"{quote(node, safe='')}.json"

    def read(self, node: str) -> Trace | None:
        """Read the trace of a node; None where there is none."""
        return self._read(self.path(node))

    def read_all(self) -> Iterator[Trace]:
        """Read every trace."""
        for name in sorted(self.names()):
            if name.endswith(".json") and (trace := self._read(self._path / name)):
                yield trace

    def _read(self, path: Path) -> Trace | None:
        try:
            return Trace.from_dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return Trace(path.name)  # damaged: as of a node that was interrupted

    def begin(self, node: str) -> None:
        """Take the results out of the trace of a node that starts: what it leaves if it is killed is not finished.

        What it was made from before stays, so that a folder that changed since is still noticed.
        """
        self.write(replace(self.read(node) or Trace(node), node=node, results={}))

    def write(self, trace: Trace) -> None:
        """Write a trace."""
        with atomic_write(self.path(trace.node), is_durable=False) as partial:
            partial.write_text(json.dumps(asdict(trace), separators=(",", ":")), encoding="utf-8")

    def saved(self, dataset: Any) -> Saved:
        """Take id, size and time of what a dataset has just saved.

        Raises:
            DatasetError: The file is gone or changes while it is looked at.
        """
        path = Path(dataset._filepath)
        before, id = stamp(path), content_id(dataset)
        if before is None or stamp(path) != before:
            raise DatasetError(f"{path} was changed by somebody else while it was saved. Run again.")
        return Saved(self.name_of(path), id, before)

    def name_of(self, path: Path) -> str:
        """Name a file as traces name it."""
        return os.path.relpath(path, self.data_folder)

    def path_of(self, saved: Saved) -> Path:
        """Where a result lies."""
        return self.data_folder / saved.file

    def files_of_layers(self) -> Iterator[str]:
        """Name the files of the data folder as traces name them, without hidden ones and those of the first layer."""
        for folder, folders, files in os.walk(self.data_folder):
            folders[:] = [name for name in folders if not name.startswith((".", "01_"))]
            below = os.path.relpath(folder, self.data_folder)
            yield from (os.path.normpath(os.path.join(below, name)) for name in files if not name.startswith("."))

    def load(self) -> pd.DataFrame:
        lines = [
            {"dataset": name, "file": saved.file, "node": trace.node, "seconds": trace.seconds, "id": saved.id}
            for trace in self.read_all()
            for name, saved in trace.results.items()
        ]
        return pd.DataFrame(lines, columns=["dataset", "file", "node", "seconds", "id"])

    def save(self, data: NoReturn) -> NoReturn:
        raise DatasetError("Traces are written by the runners.")

    def _exists(self) -> bool:
        return self._path.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
