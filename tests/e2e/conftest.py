"""Finished runs, made once for all workers, which tests copy and change."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import copy_project
from tests.e2e.own_parts import MINE, make_project
from tests.e2e.running import run


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker fills that asks for it; the others wait, and none may change it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "finished", lambda folder: run(copy_project(folder), "model_evaluation"))


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A project in which the model evaluation of the environment ``test`` is finished."""
    return shutil.copytree(_finished, tmp_path / "project")


@pytest.fixture(scope="session")
def noisy(_finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, not to be changed, in which noisy labels came after the model evaluation; ran.txt says what ran."""

    def make(project: Path) -> None:
        shutil.copytree(_finished, project, dirs_exist_ok=True)
        (project / "ran.txt").write_text("\n".join(run(project, "noisy_labels", only_missing=True)))

    return made_once(tmp_path_factory, "noisy", make)


@pytest.fixture(scope="session")
def _own_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(
        tmp_path_factory, "mine", lambda folder: run(make_project(folder), "model_evaluation", params=MINE)
    )


@pytest.fixture
def own_parts(_own_parts: Path, tmp_path: Path) -> Path:
    """A project in which the model evaluation of the user's own parts is finished."""
    copy = shutil.copytree(_own_parts, tmp_path / "project")
    local = copy / "conf/local/parameters.yml"
    local.write_text(local.read_text().replace(str(_own_parts), str(copy)))
    return copy
