"""Names and files that mean harm in a whole run: none of them runs, leaves its folder or breaks the report."""

from __future__ import annotations

import pickle
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from shopfloor.catalog.traces import Saved, TracesDataset, file_id, stamp
from shopfloor.runners.failures import FailedNodesError
from tests.e2e.running import command, run
from tests.e2e.test_bad_input import PARTS, write_local
from tests.readers.trees import save_image

HTML = "<img src=x onerror=alert(1)>'\"&"
LONG = "n" * 300


class Page(HTMLParser):
    """What a browser would do with a page: tags with handlers, foreign sources."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handlers += [f"{tag} {name}" for name, _ in attributes if name.startswith("on")]
        self.open.append(tag)


def write_manifest(root: Path, category: str, defect: str, prefix: str) -> None:
    """A dataset of one category whose names are all as given."""
    rows = ["image,split,label,defect_type,category"]
    for part, split, label in PARTS:
        for number in range(4):
            name = f"{prefix}{part}{number}.png"
            save_image(root / name, len(rows))
            cells = (name, split, label, defect if label == "bad" else "", category)
            rows.append(",".join('"' + cell.replace('"', '""') + '"' for cell in cells))
    (root / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_names_stay_names(project: Path) -> None:
    category, defect, prefix = HTML + LONG, "../../" + HTML + LONG, HTML + "n" * 180
    write_local(project, "own_data: {parts: {root: parts}}\n")
    (project / "parts").mkdir()
    write_manifest(project / "parts", category, defect, prefix)
    before = {path for path in project.rglob("*") if "data" not in path.relative_to(project).parts}
    outside = set(project.parent.iterdir())
    code, output = command(project, "run", "--env=test", "--params=only.datasets=parts,only.detectors=padim")

    assert set(project.parent.iterdir()) == outside
    after = {path for path in project.rglob("*") if "data" not in path.relative_to(project).parts}
    assert after == before, "nothing is written beside data"
    assert code == 0, output
    page = Page()
    text = (project / "data/08_reporting/model_evaluation/report.html").read_text(encoding="utf-8")
    page.feed(text)
    assert not [each for each in page.handlers if each.startswith("img")]
    assert {"html", "body", "table"} <= set(page.open)
    assert "<img src=x" not in text and "&lt;img src=x" in text


class _Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.path, "it ran")


def test_a_checkpoint_with_code_costs_its_cells_and_does_not_run_it(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    (checkpoint,) = (finished / "data/06_models").glob("elpv.mono.padim.*.pt")
    checkpoint.write_bytes(pickle.dumps({"state_dict": _Payload(target)}))
    traces = TracesDataset(str(finished / "data/.traces"))
    (trace,) = (each for each in traces.read_all() if f"06_models/{checkpoint.name}" in str(each.results))
    forged = {
        name: Saved(saved.file, file_id(checkpoint), stamp(checkpoint) or "") if saved.file.endswith(".pt") else saved
        for name, saved in trace.results.items()
    }
    traces.write(replace(trace, results=forged))  # as if it had been made so
    with pytest.raises(FailedNodesError) as error:
        run(finished, "model_evaluation", only_missing=True)
    assert not target.exists()
    assert str(checkpoint) in error.value.message and "Delete it" in error.value.message
    pickle.loads(checkpoint.read_bytes())
    assert target.exists(), "the payload is a real one"
