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


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["simplenet", "msflow", "mmr", "inreach", "dra", "devnet"])
def test_a_trained_detector_is_better_than_an_untrained_one_and_than_chance(
    detector: str, learning: ModuleType, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["learning.py", "--root", str(shared_data / "magnetic_tile"), "--detectors", detector]
    monkeypatch.setattr(sys, "argv", [*command, "--train", "100", "--test", "60"])
    table = learning.main()
    assert len(table) == 3
    assert (table["image_auroc"] > 55).all(), table
    if "untrained_image_auroc" in table:  # InReaCh cannot score before it has seen images
        gain = table["image_auroc"] - table["untrained_image_auroc"]
        assert gain.mean() > 5 and (gain > 0).sum() >= 2, table
