"""The picture that kedro-viz draws: five stages in layers, tables and figures with previews."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.running import command

STAGES = ["data_prep", "perturbation", "training", "evaluation", "reporting"]


@pytest.fixture
def drawn(noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the static site of the test environment after both experiments ran."""
    project = shutil.copytree(noisy, tmp_path / "project")
    monkeypatch.setenv("KEDRO_ENV", "test")
    code, output = command(project, "viz", "build", "--include-previews")
    assert code == 0, output
    return project / "build" / "api"


def test_the_graph_opens_on_five_stages_with_previews(drawn: Path) -> None:
    graph = json.loads((drawn / "pipelines" / "noisy_labels").read_text())
    assert graph["layers"] == STAGES
    boxes = graph["modular_pipelines"]["__root__"]["children"]
    assert {child["id"] for child in boxes if child["type"] == "modularPipeline"} == set(STAGES)
    assert not [child for child in boxes if child["type"] == "task"], "every node lies in one of the boxes"

    previews = {}
    for node in graph["nodes"]:
        if node["type"] == "data" and node["name"].startswith("reporting."):
            details = json.loads((drawn / "nodes" / node["id"]).read_text())
            previews[node["name"]] = details.get("preview_type")
    assert previews["reporting.noisy_labels.noise_table"] == "TablePreview"
    assert previews["reporting.noisy_labels.metrics"] == "TablePreview"
    assert previews["reporting.noisy_labels.noise_figure"] == "ImagePreview"
    assert previews["reporting.noisy_labels.image_auroc_figure"] == "ImagePreview"
