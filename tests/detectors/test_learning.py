"""Do the detectors learn? Trained against untrained on real parts. Slow: run with ``pytest -m slow -n 0``."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import learning

    return learning


ONE_CLASS = ["--train", "100", "--test", "60"]
SUPERVISED = [
    "--train", "200", "--test", "60", "--bad", "100", "--epochs", "8",
    "--changes", str(BENCHMARKS / "learning_supervised.yml"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "options"),
    [
        ("simplenet", ONE_CLASS),
        ("msflow", ONE_CLASS),
        ("mmr", ONE_CLASS),
        ("inreach", ONE_CLASS),
        ("dra", SUPERVISED),
        ("devnet", SUPERVISED),
    ],
)
def test_a_trained_detector_is_better_than_an_untrained_one_and_than_chance(
    detector: str, options: list[str], learning: ModuleType, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(shared_data / "magnetic_tile")
    monkeypatch.setattr(sys, "argv", ["learning.py", "--root", root, "--detectors", detector, *options])
    table = learning.main()
    assert len(table) == 3
    assert (table["image_auroc"] > 55).all(), table
    if detector == "inreach":  # it cannot score before it has seen images
        assert "untrained_image_auroc" not in table
        return
    gain = table["image_auroc"] - table["untrained_image_auroc"]
    assert gain.mean() > 5 and (gain > 0).all(), table
