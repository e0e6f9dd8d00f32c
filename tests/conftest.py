"""A project of its own for every test that runs the pipelines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ["KEDRO_DISABLE_TELEMETRY"] = "1"
PROJECT = Path(__file__).resolve().parents[1]


def copy_project(folder: Path) -> Path:
    """Copy the project's configuration; data and conf/local are empty, the package is the installed one."""
    shutil.copy(PROJECT / "pyproject.toml", folder / "pyproject.toml")
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf" / "local").mkdir()
    (folder / "src").mkdir()
    return folder


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
