"""A finished run that tests copy and change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import copy_project
from tests.e2e.own_parts import MINE, make_project
from tests.e2e.running import run


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = copy_project(tmp_path_factory.mktemp("finished"))
    run(project, "model_evaluation")
    return project


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A project in which the model evaluation of the environment ``test`` is finished."""
    return shutil.copytree(_finished, tmp_path / "project")


@pytest.fixture(scope="session")
def _own_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("mine"))
    run(project, "model_evaluation", params=MINE)
    return project


@pytest.fixture
def own_parts(_own_parts: Path, tmp_path: Path) -> Path:
    """A project in which the model evaluation of the user's own parts is finished."""
    copy = shutil.copytree(_own_parts, tmp_path / "project")
    local = copy / "conf/local/parameters.yml"
    local.write_text(local.read_text().replace(str(_own_parts), str(copy)))
    return copy
