"""The measuring node: own and common test set, and what is not available."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.metrics.entries import METRICS, image_metric_names
from shopfloor.pipelines.evaluation.nodes import measure

COORDINATES = {"dataset": "d", "category": "c", "detector": "x", "seed": 1, "test_set": "full"}
COUNT = 30


@pytest.fixture
def scores() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    label = np.where(np.arange(COUNT) % 3 == 0, "bad", "good")
    pred_score = rng.normal(20, 3, COUNT) + 4 * (label == "bad")
    return pd.DataFrame({"image": [f"{i}.png" for i in range(COUNT)], "label": label, "pred_score": pred_score})


def table(scores: pd.DataFrame, rows: slice = slice(None), pixel_labels: bool = True) -> pd.DataFrame:
    return scores[["image", "label"]].assign(has_pixel_labels=pixel_labels)[rows].reset_index(drop=True)


def values(result: pd.DataFrame) -> dict[str, float]:
    return dict(zip(result["metric"], result["value"], strict=True))


def maps_and_masks(scores: pd.DataFrame) -> tuple[np.ndarray, ImagePart]:
    rng = np.random.default_rng(4)
    maps = rng.normal(size=(COUNT, 8, 8)).astype(np.float32)
    stack = np.zeros((2 * COUNT, 8, 8), np.uint8)  # the part's rows are not the stack's
    stack[::2][(scores["label"] == "bad").to_numpy(), 2:4, 2:5] = 1
    named = scores[["image", "label"]].assign(row=np.arange(0, 2 * COUNT, 2))
    return maps, ImagePart(stack, named)


def test_maps_and_masks_of_other_images_than_the_scores_are_refused(scores: pd.DataFrame) -> None:
    maps, masks = maps_and_masks(scores)
    turned = ImagePart(masks.stack, masks.table.iloc[::-1].reset_index(drop=True))
    for wrong in ((maps[:-1], masks), (maps, turned)):
        with pytest.raises(ValueError, match="not of the same images"):
            measure(scores, table(scores), *wrong, coordinates=COORDINATES)


def test_all_metrics_of_the_full_test_set(scores: pd.DataFrame) -> None:
    maps, masks = maps_and_masks(scores)
    result = measure(scores, table(scores), maps, masks, coordinates=COORDINATES)
    assert result["metric"].tolist() == list(METRICS)
    assert set(result["status"]) == {"ok"} and set(result["detector"]) == {"x"}
    found = values(result)
    assert found["image_auroc"] == pytest.approx(roc_auc_score(scores["label"] == "bad", scores["pred_score"]))
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(masks.stack[::2].ravel(), maps.ravel()))


def test_a_part_of_the_test_set_is_measured_on_its_own_images_and_pixels(scores: pd.DataFrame) -> None:
    maps, masks = maps_and_masks(scores)
    found = values(measure(scores, table(scores, slice(5, 20)), maps, masks, coordinates=COORDINATES))
    part = scores[5:20]
    assert found["image_auroc"] == pytest.approx(roc_auc_score(part["label"] == "bad", part["pred_score"]))
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(masks.stack[10:40:2].ravel(), maps[5:20].ravel()))


@pytest.mark.parametrize("why", ["no pixel labels", "no anomaly maps"])
def test_pixel_metrics_that_cannot_be_are_not_available(scores: pd.DataFrame, why: str) -> None:
    maps, masks = maps_and_masks(scores)
    with_maps = (maps, masks) if why == "no pixel labels" else (None, None)
    result = measure(scores, table(scores, pixel_labels=False), *with_maps, coordinates=COORDINATES)
    pixel = result[result["metric"].isin(set(METRICS) - set(image_metric_names()))]
    assert pixel["value"].isna().all() and set(pixel["status"]) == {"not_available"}
    assert pixel["note"].str.contains(why).all()
    assert set(result.loc[result["metric"].isin(image_metric_names()), "status"]) == {"ok"}


def test_a_test_set_of_one_class_has_no_image_metrics(scores: pd.DataFrame) -> None:
    good = scores[scores["label"] == "good"]
    result = measure(good, table(good), coordinates=COORDINATES)
    image = result[result["metric"].isin(image_metric_names())]
    assert set(image["status"]) == {"not_available"} and image["note"].str.contains("bad").all()


def test_an_image_without_a_score_is_an_error(scores: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="1 of 30 test images have no score"):
        measure(scores[1:], table(scores), coordinates=COORDINATES)


# --- groups that are measured apart


def grouped(scores: pd.DataFrame) -> pd.DataFrame:
    """Two types of anomalies in turn, three domains in turn."""
    bad = (scores["label"] == "bad").to_numpy()
    types = np.where(bad, np.where(np.arange(COUNT) % 2 == 0, "logical", "structural"), "good")
    domains = np.array(["same", "view", "background"])[(np.arange(COUNT) // 3) % 3]
    return table(scores).assign(defect_type=types, domain=domains)


def test_types_of_anomalies_are_measured_each_with_all_good_images_and_averaged(scores: pd.DataFrame) -> None:
    maps, masks = maps_and_masks(scores)
    test = grouped(scores)
    apart = {name: {"defect_type": [name]} for name in ("logical", "structural")}
    result = measure(scores, test, maps, masks, coordinates=COORDINATES, apart=apart)
    assert result["group"].unique().tolist() == ["", "logical", "structural"]
    expected, pixels = [], []
    for name in apart:
        chosen = test["defect_type"].isin(["good", name]).to_numpy()
        expected.append(roc_auc_score(scores[chosen]["label"] == "bad", scores[chosen]["pred_score"]))
        pixels.append(roc_auc_score(masks.stack[::2][chosen].ravel(), maps[chosen].ravel()))
        found = values(result[result["group"] == name])
        assert found["image_auroc"] == pytest.approx(expected[-1])
        assert found["pixel_auroc"] == pytest.approx(pixels[-1])
    mean = values(result[result["group"] == ""])
    assert mean["image_auroc"] == pytest.approx(np.mean(expected))
    assert mean["pixel_auroc"] == pytest.approx(np.mean(pixels))


def test_domains_are_measured_on_their_own_good_and_bad_images(scores: pd.DataFrame) -> None:
    test = grouped(scores)
    apart = {name: {"domain": [name]} for name in ("view", "background")}
    result = measure(scores, test, coordinates=COORDINATES, apart=apart)
    expected = []
    for name in apart:
        part = scores[(test["domain"] == name).to_numpy()]
        expected.append(roc_auc_score(part["label"] == "bad", part["pred_score"]))
    assert values(result[result["group"] == ""])["image_auroc"] == pytest.approx(np.mean(expected))


def test_a_mean_over_groups_is_not_available_where_one_of_them_is_not(scores: pd.DataFrame) -> None:
    test = grouped(scores)
    test.loc[(test["domain"] == "view") & (test["label"] == "bad"), "domain"] = "elsewhere"
    apart = {name: {"domain": [name]} for name in ("view", "background")}
    result = measure(scores, test, coordinates=COORDINATES, apart=apart)
    line = result[(result["group"] == "") & (result["metric"] == "image_auroc")].iloc[0]
    assert np.isnan(line["value"]) and line["status"] == "not_available" and line["note"].startswith("view: ")
    pixel = result[(result["group"] == "") & (result["metric"] == "pixel_auroc")].iloc[0]
    assert pixel["note"] == "this detector gives no anomaly maps", "the same reason is said once"
