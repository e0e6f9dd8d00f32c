"""A project of its own for every test that runs the pipelines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from kedro.pipeline import Pipeline

os.environ["KEDRO_DISABLE_TELEMETRY"] = "1"
PROJECT = Path(__file__).resolve().parents[1]


def copy_project(folder: Path) -> Path:
    """Copy the project's configuration; data and conf/local are empty, the package is the installed one."""
    shutil.copy(PROJECT / "pyproject.toml", folder / "pyproject.toml")
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf" / "local").mkdir()
    (folder / "src").mkdir()
    return folder


@pytest.fixture(scope="session", params=["base", "paper", "test"])
def registered(request: pytest.FixtureRequest) -> dict[str, Pipeline]:
    """All pipelines of an environment."""
    from kedro.framework.project import configure_project, pipelines, settings

    from shopfloor.config import ProjectConfigLoader

    configure_project("shopfloor")
    ProjectConfigLoader(str(PROJECT / "conf"), env=request.param, **settings.CONFIG_LOADER_ARGS)
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
