"""Configuration as the pipelines see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shopfloor.config import ConfigError, ProjectConfigLoader, project_parameters
from shopfloor.settings import CONFIG_LOADER_ARGS


def parameters(project: Path, env: str | None = None, params: dict[str, Any] | None = None) -> dict[str, Any]:
    loader = ProjectConfigLoader(str(project / "conf"), env=env, runtime_params=params, **CONFIG_LOADER_ARGS)
    assert project_parameters() == loader["parameters"]
    return loader["parameters"]


def test_an_environment_changes_single_keys(project: Path) -> None:
    base, paper = parameters(project), parameters(project, "paper")
    assert base["detectors"]["patchcore"]["backbone"] == "tf_efficientnet_lite0"
    assert paper["detectors"]["patchcore"]["backbone"] == "wide_resnet50_2.tv_in1k"
    assert paper["detectors"]["patchcore"]["class_path"] == base["detectors"]["patchcore"]["class_path"]
    assert paper["noisy_labels"]["seeds"] == [3341, 1954, 1087]  # protocol 1
    assert paper["noisy_labels"]["noise_percent"] == [4, 8, 16]  # protocol 4.5


@pytest.mark.parametrize("env", [None, "base", "paper", "test"])
def test_own_data_is_seen_in_every_environment(project: Path, env: str | None) -> None:
    (project / "conf/local/parameters.yml").write_text(
        "own_data: {mine: {root: images}}\nmodel_evaluation: {seeds: [1]}\n", encoding="utf-8"
    )
    found = parameters(project, env)
    assert found["own_data"]["mine"]["root"] == str(project / "images"), "relative to the project, as in the catalog"
    assert found["model_evaluation"]["seeds"] == ([1] if env is None else [3341]), "the grid is the environment's"


def test_a_parameter_of_the_command_line_wins(project: Path) -> None:
    found = parameters(project, "test", {"detectors": {"padim": {"init_args": {"n_features": 5}}}})
    assert found["detectors"]["padim"]["init_args"] == {"layers": ["blocks.1", "blocks.2"], "n_features": 5}


@pytest.mark.parametrize(
    ("local", "texts"),
    [
        ("detectors: [padim]", ["detectors: a mapping in conf/base", "['padim'] in conf/local"]),
        (
            "detectors: {padim: {init_args: [1]}}",
            ["detectors.padim.init_args: a mapping in conf/base, [1] in conf/local"],
        ),
        ("detectors: {padim: ", ["conf/local"]),
    ],
)
def test_files_that_do_not_fit_together_are_explained(project: Path, local: str, texts: list[str]) -> None:
    (project / "conf/local/parameters.yml").write_text(local + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        parameters(project)
    for text in texts:
        assert text in error.value.message
