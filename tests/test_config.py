"""Configuration as the pipelines see it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from shopfloor.config import ConfigError, ProjectConfigLoader, project_parameters
from shopfloor.experiments.grid import expand_experiments
from shopfloor.planning.errors import GridError
from shopfloor.settings import CONFIG_LOADER_ARGS
from tests.conftest import PROJECT


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


def test_parameters_are_read_once_and_who_changes_them_changes_his_own(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = ProjectConfigLoader(str(PROJECT / "conf"), **CONFIG_LOADER_ARGS)
    first = loader["parameters"]
    monkeypatch.setattr("omegaconf.OmegaConf.load", lambda *_, **__: pytest.fail("read again"))
    expected = copy.deepcopy(first)
    first["detectors"].clear()
    assert loader["parameters"] == expected != first
    loader["parameters"] = {"detectors": {}}
    assert loader["parameters"] == {"detectors": {}}, "what is set is not read"


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


@pytest.mark.parametrize("env", [None, "test"])
@pytest.mark.parametrize(
    ("local", "texts"),
    [
        ("datasets: [elpv]", ["datasets: a mapping in conf/base", "['elpv'] in conf/local"]),
        ("own_data:\n\tparts:\n\t\troot: /x", ["conf/local/parameters.yml cannot be read", "'\\t'", "line 2"]),
        (
            "own_data:\n  a: {root: /x}\nown_data:\n  b: {root: /x}",
            ["conf/local/parameters.yml cannot be read", "duplicate key own_data", "line 3"],
        ),
    ],
)
def test_files_that_cannot_be_read_are_explained_under_every_environment(
    project: Path, env: str | None, local: str, texts: list[str]
) -> None:
    (project / "conf/local/parameters.yml").write_text(local + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        parameters(project, env)
    for text in texts:
        assert text in error.value.message


def test_what_only_the_machine_may_say_is_compared_without_an_environment(project: Path) -> None:
    (project / "conf/local/parameters.yml").write_text("detectors: {padim: {init_args: [1]}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"detectors.padim.init_args: a mapping in conf/base, \[1\] in conf/local"):
        parameters(project)


def test_a_file_of_another_encoding_is_named(project: Path) -> None:
    (project / "conf/local/parameters.yml").write_bytes(b"own_data: {parts: {root: \xe4}}\n")
    with pytest.raises(ConfigError, match=r"conf/local/parameters.yml cannot be read: 'utf-8' codec"):
        parameters(project, "test")


def test_own_data_that_is_no_mapping_is_refused_by_the_grid(project: Path) -> None:
    (project / "conf/local/parameters.yml").write_text("own_data: parts\n", encoding="utf-8")
    with pytest.raises(GridError, match="own_data: expected names with settings below them, found 'parts'"):
        expand_experiments(parameters(project))


def test_an_unknown_environment_or_source_is_told(project: Path) -> None:
    with pytest.raises(ConfigError, match="'papr' is unknown. Did you mean paper"):
        parameters(project, "papr")
    with pytest.raises(ConfigError, match="it has no folder base"):
        ProjectConfigLoader(str(project), **CONFIG_LOADER_ARGS)
