"""PatchCore on real parts, named in conf/local as the README says. Slow: run with ``pytest -m slow -n 0``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.running import kedro


@pytest.mark.slow
def test_patchcore_on_magnetic_tile(project: Path, shared_data: Path) -> None:
    local = f"own_data:\n  magnetic_tile:\n    root: {shared_data / 'magnetic_tile'}\n"
    (project / "conf/local/parameters.yml").write_text(local, encoding="utf-8")
    code, output = kedro(project, "run", "--params=only.datasets=magnetic_tile,only.detectors=patchcore", timeout=1500)
    assert code == 0, output
    reports = project / "data/08_reporting/model_evaluation"
    line = pd.read_csv(reports / "category_table.csv").iloc[0]
    # The figures of docs/performance.md; another machine's rounding may move them a little.
    assert line["image_auroc"] == pytest.approx(0.964, abs=0.01)
    assert line["pixel_aupro"] == pytest.approx(0.731, abs=0.02)
    counts = pd.read_csv(reports / "categories.csv").iloc[0]
    assert (counts["train_good"], counts["test_good"], counts["test_bad"]) == (700, 252, 392)
    assert (counts["empty_masks"], counts["vanished"]) == (4, 2)
