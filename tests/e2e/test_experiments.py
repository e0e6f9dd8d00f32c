"""Every experiment of the protocol, demo-sized, from parameters to tables and report."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from shopfloor.config import ProjectConfigLoader
from shopfloor.experiments.grid import expand_experiments
from shopfloor.settings import CONFIG_LOADER_ARGS
from tests.conftest import copy_project
from tests.e2e.running import catalog_of, run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project in which the experiments run one after the other, so that they share what they can."""
    return copy_project(tmp_path_factory.mktemp("experiments"))


def load(project: Path, name: str) -> Any:
    return catalog_of(project).load(name)


@lru_cache
def cells(project: Path, experiment: str) -> Any:
    parameters = ProjectConfigLoader(str(project / "conf"), env="test", **CONFIG_LOADER_ARGS)["parameters"]
    return expand_experiments(parameters)[experiment].cells


def report(project: Path, experiment: str) -> str:
    return (project / f"data/08_reporting/{experiment}/report.html").read_text(encoding="utf-8")


def test_input_size(project: Path) -> None:
    ran = run(project, "input_size")
    assert len([name for name in ran if name.startswith("training.machined_parts")]) == 4
    table = load(project, "reporting.input_size.size_table").set_index(["detector", "metric"])
    metrics = load(project, "reporting.input_size.metrics")
    one = metrics[
        (metrics["detector"] == "padim") & (metrics["metric"] == "image_auroc") & (metrics["image_size"] == 96)
    ]
    assert table.loc[("padim", "image_auroc"), "96"] == pytest.approx(one["value"].iloc[0])
    assert table[["64", "96"]].notna().all(axis=None)
    costs = load(project, "reporting.input_size.costs").set_index(["detector", "image_size"])
    assert costs["n_train"].to_dict() == {
        ("patchcore", 64): 12, ("patchcore", 96): 6, ("padim", 64): 12, ("padim", 96): 12
    }, "half of the images at 96 pixels"  # fmt: skip
    (share,) = [cell for cell in cells(project, "input_size") if cell.condition.kind == "share"]
    assert len(load(project, share.names.draw)) == 6 and len(load(project, share.names.train)) == 6
    assert "Input size" in report(project, "input_size")


def test_data_drift(project: Path) -> None:
    ran = run(project, "data_drift", only_missing=True)
    assert not [name for name in ran if name.startswith("training.")], "the models are those of the input size at 64"
    drifted = {cell.drift.seed: cell for cell in cells(project, "data_drift") if cell.drift}
    as_it_is = next(cell for cell in cells(project, "data_drift") if not cell.drift)
    assert set(drifted) == {3341, 1954}
    clean = load(project, as_it_is.names.test_images)
    for cell in drifted.values():
        part, masks, draw = (
            load(project, name) for name in (cell.names.test_images, cell.names.test_masks, cell.names.drift_draw)
        )
        assert part.table["image"].tolist() == clean.table["image"].tolist() == draw["image"].tolist()
        changed = [not np.array_equal(one, other) for one, other in zip(part, clean, strict=True)]
        assert np.mean(changed) > 0.9
        untouched = draw["camera_position"].fillna("") == ""
        before = load(project, as_it_is.names.test_masks)
        for row in np.flatnonzero(untouched):
            assert np.array_equal(masks[row], before[row]), "lighting and quality leave the mask as it is"
        assert np.any([not np.array_equal(masks[row], before[row]) for row in np.flatnonzero(~untouched)])
        scores, metrics = (
            load(project, cell.names.scores),
            load(project, cell.names.metrics).set_index("metric")["value"],
        )
        expected = roc_auc_score(scores["label"] == "bad", scores["pred_score"])
        assert metrics["image_auroc"] == pytest.approx(expected)
    table = load(project, "reporting.data_drift.drift_table").set_index("metric")
    values = [
        load(project, cell.names.metrics).set_index("metric")["value"]["image_auroc"] for cell in drifted.values()
    ]
    assert table.loc["image_auroc", "drift"] == pytest.approx(np.mean(values))
    assert table.loc["image_auroc", "drift_sd"] == pytest.approx(np.std(values, ddof=1))
    counts = load(project, "reporting.data_drift.drift_counts")
    assert counts.groupby("test_set")["images"].sum().between(18, 36).all(), "one or two for each of 18 images"
    page = report(project, "data_drift")
    assert "Drawn transforms" in page and page.count("data:image/jpeg") >= 1


def test_natural_drift_is_measured_per_domain(project: Path) -> None:
    """The user's own parts with domains, in the place of AeBAD-S."""
    from tests.readers.trees import save_image

    parts = project / "lines"
    rows = ["image,split,label,domain"]
    for number in range(6):
        save_image(parts / f"train/{number}.png", number, side=64)
        rows.append(f"train/{number}.png,train,good,day")
    for seed, domain in enumerate(("same", "background", "illumination", "view"), start=1):
        for number in range(6):
            path = f"{domain}/{number}.png"
            save_image(parts / path, 100 * seed + number, side=64)
            rows.append(f"{path},test,{'good' if number < 3 else 'bad'},{domain}")
    (parts / "manifest.csv").write_text("\n".join(rows) + "\n")
    local = "own_data: {lines: {root: lines}}\n"
    (project / "conf/local/parameters.yml").write_text(local)
    try:
        run(
            project,
            "data_drift",
            only_missing=True,
            params={"data_drift": {"natural": ["lines"], "datasets": ["lines"]}},
        )
        table = load(project, "reporting.data_drift.domain_table").set_index("metric")
        groups = load(project, "reporting.data_drift.group_metrics")
    finally:
        (project / "conf/local/parameters.yml").unlink()
    auroc = groups[groups["metric"] == "image_auroc"].set_index("group")["value"]
    assert set(auroc.index) == {"same", "background", "illumination", "view"}
    assert table.loc["image_auroc", "same"] == pytest.approx(auroc["same"])
    assert table.loc["image_auroc", "shifted"] == pytest.approx(auroc.drop("same").mean())


def test_supervised(project: Path) -> None:
    run(project, "supervised", only_missing=True)
    (cell,) = cells(project, "supervised")
    train, test, draw = (load(project, name) for name in (cell.names.train, cell.names.test, cell.names.draw))
    assert train["label"].value_counts().to_dict() == {"good": 12, "bad": 4}
    assert test["label"].value_counts().to_dict() == {"good": 6, "bad": 8}
    assert len(draw) == 4
    index = load(project, cell.names.index).set_index("image")["sha256"]
    assert not set(index[train["image"]]) & set(index[test["image"]])
    metrics = load(project, cell.names.metrics).set_index("metric")
    assert metrics.loc["image_auroc", "status"] == "ok"
    assert metrics.loc["pixel_auroc", "note"] == "this detector gives no anomaly maps"
    assert load(project, "reporting.supervised.costs")["n_train_bad"].tolist() == [4]


def test_validation(project: Path) -> None:
    run(project, "validation", only_missing=True)
    by_rule = {cell.condition.name: cell for cell in cells(project, "validation")}
    assert set(by_rule) == {"full_length", "early_stop", "early_stop_good"}
    one = by_rule["early_stop"]
    train, held_out, test = (load(project, name) for name in (one.names.train, one.names.validation, one.names.test))
    assert held_out["label"].value_counts().to_dict() == {"good": 2, "bad": 1}
    index = load(project, one.names.index).set_index("image")["sha256"]
    parts = [set(index[part["image"]]) for part in (train, held_out, test)]
    assert sum(map(len, parts)) == len(set().union(*parts))
    records = {name: load(project, cell.names.fit_record) for name, cell in by_rule.items()}
    assert records["full_length"]["epochs"] == records["full_length"]["stopped_epoch"] == 3
    curve = records["full_length"]["validation"]["image_auroc"]
    assert len(curve) == 3
    early = records["early_stop"]
    assert early["validation"]["image_auroc"] == curve[: early["stopped_epoch"]], "the same training until it stops"
    assert early["best_epoch"] == 1 + int(np.argmax(early["validation"]["image_auroc"]))
    good = records["early_stop_good"]
    assert good["best_epoch"] == 1 + int(np.argmin(good["validation"]["good_loss"]))
    table = load(project, "reporting.validation.stopping_table").set_index("condition")
    assert table["best_epoch"].to_dict() == {name: record["best_epoch"] for name, record in records.items()}
    metrics = load(project, by_rule["early_stop"].names.metrics).set_index("metric")["value"]
    assert table.loc["early_stop", "image_auroc"] == pytest.approx(metrics["image_auroc"])
    assert "Best epoch" in report(project, "validation")
    assert json.loads((project / "data/08_reporting/validation/grid.json").read_text())["grid"]["splits"] == [
        "holdout_20"
    ]
