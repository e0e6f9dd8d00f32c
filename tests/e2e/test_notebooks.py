"""Every notebook runs from top to bottom on the results of the test environment."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.parametrize("notebook", sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")))
def test_a_notebook_runs(notebook: str, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEDRO_ENV", "test")
    content = nbformat.read(NOTEBOOKS / notebook, as_version=4)
    (finished / "notebooks").mkdir()
    NotebookClient(content, timeout=120, resources={"metadata": {"path": str(finished / "notebooks")}}).execute()
    shown = [output for cell in content.cells for output in cell.get("outputs", ())]
    assert len(shown) >= 5
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in shown), "a figure is shown"
    assert not content.metadata.get("widgets")


@pytest.mark.parametrize("notebook", sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")))
def test_a_notebook_is_kept_without_outputs(notebook: str) -> None:
    content = nbformat.read(NOTEBOOKS / notebook, as_version=4)
    assert not any(cell.get("outputs") for cell in content.cells)
