"""Every notebook runs from top to bottom on the results of the test environment."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.e2e.running import run

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(scope="module")
def project(_finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the model evaluation and the data drift are finished."""
    copied = shutil.copytree(_finished, tmp_path_factory.mktemp("notebooks") / "project")
    run(copied, "data_drift", only_missing=True)
    (copied / "notebooks").mkdir()
    return copied


@pytest.mark.parametrize("notebook", sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")))
def test_a_notebook_runs(notebook: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEDRO_ENV", "test")
    content = nbformat.read(NOTEBOOKS / notebook, as_version=4)
    folder = shutil.copytree(project, tmp_path / "project") / "notebooks"
    NotebookClient(content, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    shown = [output for cell in content.cells for output in cell.get("outputs", ())]
    assert len(shown) >= 5
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert "image/svg+xml" in kinds, "a figure is shown"
    assert "text/html" in kinds, "a table is shown"
    said = "".join(output.get("text", "") for output in shown)
    assert "Not run yet" not in said
    assert not content.metadata.get("widgets")


@pytest.mark.parametrize("notebook", sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")))
def test_a_notebook_is_kept_without_outputs(notebook: str) -> None:
    content = nbformat.read(NOTEBOOKS / notebook, as_version=4)
    assert not any(cell.get("outputs") for cell in content.cells)
