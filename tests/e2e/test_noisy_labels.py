"""The noisy-label experiment against the protocol (4.5), recomputed from what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import CatalogProtocol
from sklearn.metrics import roc_auc_score

from shopfloor.config import ProjectConfigLoader
from shopfloor.experiments.grid import expand_experiments
from shopfloor.settings import CONFIG_LOADER_ARGS
from tests.e2e.running import catalog_of


@pytest.fixture(scope="module")
def catalog(noisy: Path) -> CatalogProtocol:
    """The catalog to load the results of the finished experiment from."""
    return catalog_of(noisy)


def value(metrics: pd.DataFrame, name: str) -> float:
    return float(metrics.loc[metrics["metric"] == name, "value"].iloc[0])


def test_the_experiment_follows_the_protocol(noisy: Path, catalog: CatalogProtocol) -> None:
    parameters = ProjectConfigLoader(str(noisy / "conf"), env="test", **CONFIG_LOADER_ARGS)["parameters"]
    cells = expand_experiments(parameters)["noisy_labels"].cells
    index = catalog.load(cells[0].names.index).set_index("image")
    common = {}
    for cell in cells:
        train, test = catalog.load(cell.names.train), catalog.load(cell.names.test)
        content = index["sha256"]
        assert not set(content[train["image"]]) & set(content[test["image"]]), "disjoint by content"
        assert len(train) == 12, "the size of the training set stays the same"
        moved = train["image"].str.contains("/test/").sum()
        assert moved == {"clean": 0, "noise_10": 1, "noise_20": 2}[cell.condition.name]
        assert (test["label"] == "bad").sum() == 12 - moved and (test["label"] == "good").sum() == 6
        assert catalog.load(cell.names.fit_record)["n_train_bad"] == 0, "the detector is told that all are good"

        # the metrics, recomputed with scikit-learn from the stored raw scores and maps
        scores = catalog.load(cell.names.scores)
        measured_on = catalog.load(cell.names.common_test) if cell.common_draw else test
        chosen = scores["image"].isin(measured_on["image"]).to_numpy()
        metrics = catalog.load(cell.names.metrics)
        expected = roc_auc_score(scores["label"][chosen] == "bad", scores["pred_score"][chosen])
        assert value(metrics, "image_auroc") == pytest.approx(expected, abs=1e-12)
        masks = np.stack([mask for mask, use in zip(catalog.load(cell.names.test_masks), chosen, strict=True) if use])
        expected = roc_auc_score(masks.ravel(), catalog.load(cell.names.maps)[chosen].ravel())
        assert value(metrics, "pixel_auroc") == pytest.approx(expected, abs=1e-9)
        if cell.common_draw:
            common[cell.condition.name] = tuple(scores["image"][chosen])
    assert set(common) == {"clean", "noise_10", "noise_20"}
    assert len(set(common.values())) == 1, "all levels are compared on the same images"


def test_the_table_has_a_column_per_level_and_test_set(catalog: CatalogProtocol) -> None:
    table = catalog.load("reporting.noisy_labels.noise_table")
    levels = ["clean", "noise_10", "noise_20"]
    assert {*levels, *(f"{level}_same_test" for level in levels)} <= set(table.columns)
    line = table[(table["metric"] == "image_auroc") & (table["dataset"] == "machined_parts")].iloc[0]
    metrics = catalog.load("reporting.noisy_labels.metrics")
    full = metrics[(metrics["metric"] == "image_auroc") & (metrics["test_set"] == "full")].set_index("condition")
    for level in levels:
        assert line[level] == pytest.approx(full.loc[level, "value"])
    report = catalog.load("reporting.noisy_labels.report")
    assert "Noisy labels" in report and "same test" in report
