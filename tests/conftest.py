"""A project of its own for every test that runs the pipelines."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.pipeline import Pipeline

from shopfloor.config import ProjectConfigLoader
from shopfloor.settings import CONFIG_LOADER_ARGS

os.environ["KEDRO_DISABLE_TELEMETRY"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: workers that share the cores wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
PROJECT = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later search for garbage, which each training does: half a second of it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let it go again: torch's compiler complains of what it finds at the end of the process."""
    gc.unfreeze()


#: The detectors that most tests run; every other one would only make them slow.
FEW_DETECTORS = {
    "model_evaluation": ["patchcore", "padim"],
    "noisy_labels": ["patchcore"],
    "supervised": ["feature_classifier"],
}


def copy_project(folder: Path, *, all_detectors: bool = False) -> Path:
    """Copy the project's configuration; data and conf/local are empty, the package is the installed one.

    Args:
        folder: Where to.
        all_detectors: Whether the environment ``test`` keeps all its detectors, or :data:`FEW_DETECTORS` of them.
    """
    shutil.copy(PROJECT / "pyproject.toml", folder / "pyproject.toml")
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copytree(PROJECT / "reference", folder / "reference")
    (folder / "conf" / "local").mkdir()
    (folder / "src").mkdir()
    if not all_detectors:
        file = folder / "conf" / "test" / "parameters.yml"
        parameters = yaml.safe_load(file.read_text(encoding="utf-8"))
        for experiment, detectors in FEW_DETECTORS.items():
            parameters[experiment]["detectors"] = detectors
        file.write_text(yaml.safe_dump(parameters), encoding="utf-8")
    return folder


@lru_cache
def _loader_of(env: str) -> ProjectConfigLoader:
    return ProjectConfigLoader(str(PROJECT / "conf"), env=env, **CONFIG_LOADER_ARGS)


def parameters_of(env: str) -> dict[str, Any]:
    """The project's own parameters of an environment, to be changed at will; its files are read once."""
    parameters: dict[str, Any] = _loader_of(env)["parameters"]
    return parameters


@pytest.fixture(scope="session", params=["base", "paper", "test"])
def registered(request: pytest.FixtureRequest) -> dict[str, Pipeline]:
    """All pipelines of an environment."""
    from kedro.framework.project import configure_project, pipelines

    configure_project("shopfloor")
    ProjectConfigLoader.latest = _loader_of(request.param)
    found = dict(pipelines)
    configure_project("shopfloor")
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project without any data."""
    return copy_project(tmp_path)


@pytest.fixture
def shared_data() -> Path:
    """The folder of small real datasets, which are not part of the repository."""
    folder = Path(os.environ.get("SHOPFLOOR_SHARED", PROJECT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set SHOPFLOOR_SHARED to where the real datasets lie")
    return folder


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that everybody may read and nobody but root may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    folder.rmdir()
