"""A grid of plain functions on files, with cells that do what trainings can do; run by a test or as a command.

``python -m tests.runners.stub_grid <folder> <cells> <runner and its parameters>``, e.g. ``dask workers=2``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from shopfloor.planning.binding import bind
from shopfloor.runners.grid_runner import GridRunner
from shopfloor.runners.missing import TOLERANT, MissingResult


class StubbornError(Exception):
    """Cannot be unpickled: its constructor wants more than it keeps."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def prepare() -> str:
    return "images"


def fit(images: str, *, cell: str, folder: str) -> str:
    """Writes down that it began and that it ended, and misbehaves in between if it is told to.

    How it behaves stands in a file, so that the same training may fail once and not the next time.
    """
    note(folder, "began", cell)
    told = json.loads((Path(folder) / "behaviours.json").read_text(encoding="utf-8"))
    behaviour = told["behaviours"].get(cell)
    time.sleep(told["seconds"])
    if behaviour == "raise":
        raise ValueError(f"{cell} is broken")
    if behaviour == "stubborn":
        raise StubbornError(cell, "its friend")
    if behaviour == "exit":
        raise SystemExit(3)
    if behaviour == "die once" and lines(folder, "began").count(cell) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "eat memory":
        hoard = []
        for _ in range(60):  # 3 GB, in steps that are noticed
            hoard.append(bytearray(b"x") * 50_000_000)
            time.sleep(0.05)
    note(folder, "ended", cell)
    return f"weights of {cell} on {images}"


def measure(weights: str) -> str:
    return f"metrics of {weights}"


def report(*metrics: str | MissingResult) -> str:
    return "\n".join(each if isinstance(each, str) else f"<{each.status}: {each.reason}>" for each in metrics)


def note(folder: str, what: str, cell: str) -> None:
    """Append a line; short appends of several processes do not mix."""
    with (Path(folder) / f"{what}.log").open("a", encoding="utf-8") as file:
        file.write(f"{cell}\n")


def lines(folder: str | Path, what: str) -> list[str]:
    path = Path(folder) / f"{what}.log"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def cell_names(cells: int) -> list[str]:
    return [f"cell_{number:04d}" for number in range(cells)]


def make_pipeline(
    folder: Path, cells: int, seconds: float = 0.0, behaviours: dict[str, str] | None = None, gpu: bool = True
) -> Pipeline:
    """Prepare, then fit and measure each cell, then report."""
    told = json.dumps({"behaviours": behaviours or {}, "seconds": seconds})
    (folder / "behaviours.json").write_text(told, encoding="utf-8")
    nodes = [Node(prepare, None, "images", name="prepare")]
    for cell in cell_names(cells):
        nodes += [
            Node(
                bind(fit, cell=cell, folder=str(folder)),
                *("images", f"{cell}.weights"),
                name=f"{cell}.fit",
                tags="gpu" if gpu else None,
            ),
            Node(measure, f"{cell}.weights", f"{cell}.metrics", name=f"{cell}.measure"),
        ]
    metrics = [f"{cell}.metrics" for cell in cell_names(cells)]
    return Pipeline([*nodes, Node(report, metrics, "report", name="report", tags=TOLERANT)])


def traces_entry(folder: Path) -> dict[str, dict[str, str]]:
    """The catalog's entry for traces."""
    return {"traces": {"type": "shopfloor.catalog.traces.TracesDataset", "path": str(folder / "data" / ".traces")}}


def make_catalog(folder: Path, pipeline: Pipeline) -> DataCatalog:
    """A text file for each dataset, below a layer of a data folder."""
    return DataCatalog.from_config(
        {
            name: {
                "type": "shopfloor.catalog.atomic.TextDataset",
                "filepath": str(folder / "data" / "06_models" / f"{name}.txt"),
            }
            for name in pipeline.all_outputs()
        }
        | traces_entry(folder)
    )


def run(runner: GridRunner, folder: Path, pipeline: Pipeline, *, only_missing: bool = False) -> None:
    """Run the pipeline as a session would."""
    catalog = make_catalog(folder, pipeline)
    runner.run(pipeline, catalog, _create_hook_manager(), run_id=str(time.time()), only_missing_outputs=only_missing)


def results(folder: Path) -> dict[str, str]:
    """Text of every result."""
    return {path.name: path.read_text(encoding="utf-8") for path in (folder / "data").rglob("*.txt")}


def make_runner(kind: str, *parameters: str) -> GridRunner:
    """A runner by name, with parameters as the command line gives them."""
    from shopfloor.runners import DaskRunner, LocalRunner

    pairs = (parameter.split("=", 1) for parameter in parameters)
    values: dict[str, Any] = {key: int(value) if value.isdigit() else value for key, value in pairs}
    return {"dask": DaskRunner, "local": LocalRunner}[kind](**values)


def main() -> None:
    import logging

    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("shopfloor").setLevel(logging.INFO)
    folder, cells, seconds, *runner = sys.argv[1:]
    pipeline = make_pipeline(Path(folder), int(cells), float(seconds))
    if (gate := Path(folder) / "gate").exists():  # so that several begin in the same instant
        note(folder, "waiting", str(os.getpid()))
        while gate.exists():
            time.sleep(0.005)
    run(make_runner(*runner), Path(folder), pipeline, only_missing=True)


if __name__ == "__main__":
    # A shell that starts the tests in the background has what they start ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
