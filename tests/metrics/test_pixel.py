"""Pixel metrics against slow direct definitions, scikit-learn, anomalib and worked examples."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import precision_recall_curve, roc_auc_score

from shopfloor.metrics import UndefinedMetric, pixel_metrics

NAMES = ["pixel_auroc", "pixel_aupro", "pixel_f1max"]


def aupro_by_all_thresholds(anomaly_maps, gt_masks, limit=0.3):
    """The PRO curve with every distinct map value as threshold, one region at a time."""
    maps, masks = np.asarray(anomaly_maps), np.asarray(gt_masks) > 0
    regions = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [anomaly_map[labels == i] for i in range(1, count + 1)]
    normal = maps[~masks]
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        fpr.append(np.mean(normal >= threshold))
        pro.append(np.mean([np.mean(region >= threshold) for region in regions]))
    cut = next(i for i, rate in enumerate(fpr) if rate >= limit)
    while cut + 1 < len(fpr) and fpr[cut + 1] == limit:
        cut += 1  # the curve may rise upright at the limit, which adds no area
    slope = (pro[cut] - pro[cut - 1]) / (fpr[cut] - fpr[cut - 1]) if fpr[cut] > fpr[cut - 1] else 0.0
    at_limit = pro[cut - 1] + slope * (limit - fpr[cut - 1])
    return np.trapezoid([*pro[:cut], at_limit], [*fpr[:cut], limit]) / limit


def f1max_by_all_thresholds(scores, is_defective):
    best = 0.0
    for threshold in np.unique(scores):
        called = scores >= threshold
        best = max(best, 2 * np.sum(called & is_defective) / (np.sum(called) + np.sum(is_defective)))
    return best


def auroc_by_pairs(scores, is_defective):
    pairs = scores[is_defective][:, None], scores[~is_defective][None]
    return np.mean(pairs[0] > pairs[1]) + np.mean(pairs[0] == pairs[1]) / 2


def by_definition(anomaly_maps, gt_masks, limit=0.3):
    scores, is_defective = np.ravel(anomaly_maps), np.ravel(gt_masks) > 0
    return {
        "pixel_auroc": auroc_by_pairs(scores, is_defective),
        "pixel_aupro": aupro_by_all_thresholds(anomaly_maps, gt_masks, limit),
        "pixel_f1max": f1max_by_all_thresholds(scores, is_defective),
    }


def draw(seed, levels=None, shape=(5, 17, 13), dtype=np.float64):
    """Smooth raw maps and blob masks, the first image good; few levels mean many ties, None means none."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 1.5, 1.5))
    masks = np.where(noise > np.quantile(noise, 0.85), 255, 0).astype(np.uint8)
    masks[0] = 0
    other = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 1, 1))
    maps = 20 + 10 * other + 4 * (masks > 0)
    if levels:
        maps = np.round((maps - maps.min()) / np.ptp(maps) * levels)
    return maps.astype(dtype), masks


def test_the_drawn_masks_have_regions_of_different_size():
    _, masks = draw(0)
    sizes = [np.bincount(ndimage.label(mask, np.ones((3, 3)))[0].ravel())[1:] for mask in masks]
    assert sizes[0].size == 0
    assert np.ptp(np.concatenate(sizes)) > 5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [1, 4, 25, None])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_the_definitions(seed, levels, dtype):
    maps, masks = draw(seed, levels, dtype=dtype)
    assert pixel_metrics(maps, masks) == pytest.approx(by_definition(maps, masks), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equal_to_the_definitions_on_small_ties(data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    size = int(np.prod(shape))
    masks = np.reshape(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), shape)
    maps = np.reshape(data.draw(st.lists(st.integers(-2, 3), min_size=size, max_size=size)), shape).astype(float)
    limit = data.draw(st.sampled_from([0.05, 0.25, 0.3, 0.5, 1.0]))
    if masks.any() and not masks.all():
        values = pixel_metrics(maps, masks, aupro_fpr_limit=limit, chunk=3)
        assert values == pytest.approx(by_definition(maps, masks, limit), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_maps_of_different_precision(seed):
    """Whole numbers plus tiny fractions: ties among 32-bit maps, none with the 64-bit ones."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(2**24 - 6, 2**24, (4, 8, 8)).astype(float)
    maps = [whole[0].astype(np.float32), whole[1] + rng.random((8, 8)), whole[2].astype(np.float32), whole[3] + 1e-8]
    masks = rng.random((4, 8, 8)) < 0.2
    assert pixel_metrics(maps, masks) == pytest.approx(by_definition(np.stack(maps), masks), abs=1e-12)


LARGEST, SMALLEST = np.finfo(np.float64).max, np.nextafter(0.0, 1.0)


@pytest.mark.parametrize(
    "values",
    [
        [0.0, -0.0, SMALLEST, 2 * SMALLEST, -SMALLEST],
        [LARGEST, LARGEST / 2, 1.0, 0.0, -LARGEST],
        [1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0), 1 + 1e-12],
        [1e300, np.nextafter(1e300, np.inf), 0.0, -1e300],
        [1e-300, 1e-299, 1.0, 1e300],
        [20.0, 20 + 1e-14, 20 - 1e-14, 1e9, -1e9],
    ],
)
@pytest.mark.filterwarnings("error")
def test_equal_to_the_definitions_at_the_ends_of_double_precision(values):
    rng = np.random.default_rng(0)
    for _ in range(40):
        maps, masks = rng.choice(values, (2, 3, 4)), rng.random((2, 3, 4)) < 0.3
        masks[0, 0, :2] = [True, False]
        assert pixel_metrics(maps, masks, chunk=3) == pytest.approx(by_definition(maps, masks), abs=1e-12)


@pytest.mark.parametrize("levels", [10, None])
def test_equal_to_scikit_learn(levels):
    maps, masks = draw(11, levels, shape=(3, 300, 250), dtype=np.float32)
    scores, is_defective = maps.ravel(), masks.ravel() > 0
    precision, recall, _ = precision_recall_curve(is_defective, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    values = pixel_metrics(maps, masks)
    assert values["pixel_auroc"] == pytest.approx(roc_auc_score(is_defective, scores), abs=1e-11)
    assert values["pixel_f1max"] == pytest.approx(f1.max(), abs=1e-12)


@pytest.mark.parametrize("levels", [10, None])
def test_equal_to_anomalib_inside_the_unit_interval(levels):
    metrics = pytest.importorskip("anomalib.metrics")
    torch = pytest.importorskip("torch")
    from anomalib.data import ImageBatch

    maps, masks = draw(12, levels, shape=(8, 48, 64))
    maps = ((maps - maps.min()) / np.ptp(maps)).astype(np.float32)
    batch = ImageBatch(
        image=torch.zeros(len(maps), 3, 1, 1),
        anomaly_map=torch.from_numpy(maps),
        gt_mask=torch.from_numpy(masks > 0),
    )
    ours = pixel_metrics(maps, masks)
    theirs = {"pixel_auroc": metrics.AUROC, "pixel_aupro": metrics.AUPRO, "pixel_f1max": metrics.F1Max}
    for name, metric in theirs.items():
        computed = metric(fields=["anomaly_map", "gt_mask"])
        computed.update(batch)
        assert ours[name] == pytest.approx(float(computed.compute()), abs=1e-5), name


def test_constant_map():
    maps, masks = np.full((2, 8, 8), 3.0), np.zeros((2, 8, 8), bool)
    masks[0, :2, :4] = True
    values = pixel_metrics(maps, masks)
    assert values["pixel_auroc"] == 0.5
    assert values["pixel_aupro"] == pytest.approx(0.15, abs=1e-15)
    assert values["pixel_f1max"] == pytest.approx(2 * 8 / (8 + 128), abs=1e-15)


def test_perfect_map_gives_exactly_one():
    _, masks = draw(3)
    assert pixel_metrics(np.where(masks > 0, 40.0, 20.0), masks) == dict.fromkeys(NAMES, 1.0)


@pytest.mark.filterwarnings("error")
def test_normal_pixels_beyond_all_proportion():
    """Two defective scores next to each other, the normal ones further away than their distance can divide."""
    anomaly_map = np.array([[1e-300, 2e-300, 1e300, -1e300, -1e300, -1e300]])
    mask = np.array([[1, 1, 0, 0, 0, 0]])
    values = pixel_metrics([anomaly_map], [mask])
    assert values == pytest.approx({"pixel_auroc": 0.75, "pixel_aupro": 0.05 / 0.3, "pixel_f1max": 0.8})


def test_regions_weigh_the_same_whatever_their_size():
    """The large region is found at once, the single pixel lies below every normal pixel."""
    mask = np.zeros((1, 10, 10), np.uint8)
    mask[0, :5, :5] = 1
    mask[0, 9, 9] = 1
    anomaly_map = np.where(mask > 0, 9.0, 5.0)
    anomaly_map[0, 9, 9] = 1.0
    assert pixel_metrics(anomaly_map, mask)["pixel_aupro"] == pytest.approx(0.5, abs=1e-15)


def test_diagonal_neighbours_are_one_region():
    """A diagonal of three pixels next to one lone pixel: two regions, of which one is missed."""
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[0, [0, 1, 2], [0, 1, 2]] = 1
    mask[0, 7, 0] = 1
    anomaly_map = np.where(mask > 0, 9.0, 5.0)
    anomaly_map[0, 7, 0] = 1.0
    # Four separate regions would give 3/4.
    assert pixel_metrics(anomaly_map, mask)["pixel_aupro"] == pytest.approx(1 / 2, abs=1e-15)


def test_regions_do_not_continue_into_the_next_image():
    """Touching corners of two images: one found region and one missed one, not one region of two pixels."""
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[0, 3, 2:] = 1
    masks[1, 0, 3] = 1
    maps = np.where(masks > 0, 9.0, 5.0)
    maps[1, 0, 3] = 1.0
    assert pixel_metrics(maps, masks)["pixel_aupro"] == pytest.approx(1 / 2, abs=1e-15)


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000, 10**9])
@pytest.mark.parametrize("levels", [6, None])
def test_chunk_changes_nothing(levels, chunk):
    maps, masks = draw(5, levels, shape=(12, 20, 20))
    masks[:, 3:] = 0  # few defective pixels: they set the smallest chunk
    assert pixel_metrics(maps, masks, chunk=chunk) == pixel_metrics(maps, masks)


def test_images_of_different_size():
    maps, masks = draw(6, 8, shape=(4, 16, 16))
    parts = [(maps[0, :5], masks[0, :5]), (maps[1], masks[1]), (maps[2, :, :9], masks[2, :, :9])]
    values = pixel_metrics([m for m, _ in parts], [g for _, g in parts], chunk=10)
    scores = np.concatenate([m.ravel() for m, _ in parts])
    is_defective = np.concatenate([g.ravel() for _, g in parts]) > 0
    assert values["pixel_auroc"] == pytest.approx(roc_auc_score(is_defective, scores), abs=1e-12)
    assert values["pixel_f1max"] == pytest.approx(f1max_by_all_thresholds(scores, is_defective), abs=1e-12)


def test_memory_maps_and_their_content(tmp_path):
    maps, masks = draw(8, 12, dtype=np.float32)
    np.save(tmp_path / "maps.npy", maps)
    np.save(tmp_path / "masks.npy", masks)
    mapped = [np.load(tmp_path / name, mmap_mode="r+") for name in ("maps.npy", "masks.npy")]
    assert pixel_metrics(*mapped) == pixel_metrics(maps, masks)
    for array in mapped:
        array.flush()
    assert np.array_equal(np.load(tmp_path / "maps.npy"), maps)
    assert np.array_equal(np.load(tmp_path / "masks.npy"), masks)


def test_any_memory_layout():
    maps, masks = draw(9, shape=(4, 16, 16))
    transposed = maps.transpose(0, 2, 1), masks.transpose(0, 2, 1)
    copied = tuple(np.ascontiguousarray(array) for array in transposed)
    assert pixel_metrics(*transposed) == pixel_metrics(*copied)


class LoadedOnAccess(Sequence):
    """A sequence of maps that exist only while they are looked at."""

    def __init__(self, length, make):
        self.length, self.make = length, make

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        if i >= self.length:
            raise IndexError(i)
        return self.make(i)


def test_memory_stays_bounded_by_the_chunk():
    """64 maps of 256 x 256 pixels in 64 bits are 32 MiB; one map is 0.5 MiB."""

    def mask(i):
        drawn = np.zeros((256, 256), np.uint8)
        drawn[10:20, 10:20] = i % 2
        return drawn

    maps = LoadedOnAccess(64, lambda i: np.random.default_rng(i).random((256, 256)))
    tracemalloc.start()
    try:
        pixel_metrics(maps, LoadedOnAccess(64, mask), chunk=1 << 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2**20


@pytest.mark.parametrize("first", [np.float32, np.float64])
def test_64_bit_ties_are_kept_apart(first):
    """Scores that 32 bits cannot tell apart, even where another map has only 32 bits."""
    maps = [np.zeros((4, 4), first), np.full((4, 4), 20.0)]
    masks = np.zeros((2, 4, 4), np.uint8)
    masks[1, 0, 0] = 1
    maps[1][0, 0] += 1e-12
    assert np.float32(maps[1][0, 0]) == np.float32(20.0)
    assert pixel_metrics(maps, masks) == dict.fromkeys(NAMES, 1.0)


def test_empty_mask_contributes_only_normal_pixels():
    """A bad image whose defect vanished with resizing: false positives, but no missed region."""
    masks = np.zeros((2, 5, 5), np.uint8)
    masks[0, 0, :2] = 1
    maps = np.where(masks > 0, 9.0, 5.0)
    maps[1, 0] = 20.0  # 5 of 48 normal pixels above the region
    values = pixel_metrics(maps, masks)
    assert values["pixel_auroc"] == pytest.approx(43 / 48, abs=1e-15)
    assert values["pixel_aupro"] == pytest.approx((0.3 - 5 / 48) / 0.3, abs=1e-15)
    assert values["pixel_f1max"] == pytest.approx(4 / 9, abs=1e-15)


def test_aupro_limit():
    """One region between the second and the third of ten normal pixels: found from FPR 0.2 on."""
    anomaly_map = np.array([[9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0, 7.5]])
    mask = np.zeros_like(anomaly_map)
    mask[0, 10] = 1
    for limit, expected in [(0.1, 0.0), (0.2, 0.0), (0.3, 1 / 3), (0.4, 1 / 2), (1.0, 0.8)]:
        values = pixel_metrics([anomaly_map], [mask], aupro_fpr_limit=limit)
        assert values["pixel_aupro"] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, np.nan])
def test_aupro_limit_outside_its_range(limit):
    with pytest.raises(ValueError, match="aupro_fpr_limit"):
        pixel_metrics(*draw(0), aupro_fpr_limit=limit)


def test_masks_of_any_type_and_value():
    maps, masks = draw(10, 9)
    expected = pixel_metrics(maps, masks)
    assert pixel_metrics(maps, masks > 0) == expected
    assert pixel_metrics(list(maps), list((masks > 0).astype(np.uint8))) == expected


def broken(value, where):
    maps, masks = draw(0)
    i, j, k = np.argwhere((masks > 0) == (where == "defective"))[-1]
    maps[i, j, k] = value
    return maps, masks


@pytest.mark.parametrize("where", ["defective", "normal"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_undefined_with_a_broken_score(value, where):
    with pytest.raises(UndefinedMetric, match=r"Anomaly map \d holds NaN or infinite"):
        pixel_metrics(*broken(value, where))


@pytest.mark.parametrize(
    ("maps", "masks", "reason"),
    [
        (np.ones((2, 4, 4)), np.zeros((2, 4, 4)), "no defective pixel in the 2 masks"),
        (np.ones((0, 4, 4)), np.zeros((0, 4, 4)), "no defective pixel"),
        (np.ones((2, 4, 4)), np.ones((2, 4, 4)), "no normal pixel"),
        (np.ones((2, 4, 4)), np.ones((1, 4, 4)), "2 anomaly maps but 1 masks"),
        (np.ones((2, 4, 4)), np.eye(5)[None].repeat(2, 0), r"map 0 .* \(4, 4\), its mask \(5, 5\)"),
        (np.ones((2, 4, 4)), [np.eye(4), np.zeros((4, 1))], "map 1 has the shape"),
        (np.ones((2, 1, 4, 4)), np.eye(4)[None, None].repeat(2, 0), r"must be \(H, W\)"),
    ],
)
def test_undefined(maps, masks, reason):
    with pytest.raises(UndefinedMetric, match=reason):
        pixel_metrics(maps, masks)


def test_names_and_types():
    values = pixel_metrics(*draw(0, dtype=np.float32))
    assert list(values) == NAMES
    assert all(type(value) is float for value in values.values())
