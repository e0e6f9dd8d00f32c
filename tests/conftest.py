"""A project of its own for every test that runs the pipelines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ["KEDRO_DISABLE_TELEMETRY"] = "1"
PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's configuration with empty data; the package is the installed one."""
    for name in ("pyproject.toml", "conf"):
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    shutil.rmtree(tmp_path / "conf" / "local")
    (tmp_path / "conf" / "local").mkdir()
    (tmp_path / "src").mkdir()
    return tmp_path
