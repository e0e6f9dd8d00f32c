"""Image metrics against slow direct definitions, scikit-learn, anomalib and worked examples."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_auc_score

from shopfloor.metrics import (
    UndefinedMetric,
    image_auroc,
    image_f1max,
    image_metrics,
    image_pb2,
    image_pb2_strict,
    image_pg2,
    image_pg2_strict,
)

NAMES = ["image_auroc", "image_f1max", "image_pg2", "image_pb2", "image_pg2_strict", "image_pb2_strict"]


def auroc_by_pairs(good, bad):
    wins = sum(Fraction(int(b > g)) + Fraction(int(b == g), 2) for b in bad for g in good)
    return float(wins / (len(good) * len(bad)))


def f1max_by_all_thresholds(good, bad):
    best = 0.0
    for threshold in [*good, *bad]:
        true_positives = sum(b >= threshold for b in bad)
        false_positives = sum(g >= threshold for g in good)
        false_negatives = len(bad) - true_positives
        best = max(best, 2 * true_positives / (2 * true_positives + false_positives + false_negatives))
    return best


def quantile_in_rationals(scores, share):
    """The value at position share * (n - 1) of the sorted scores, neighbours joined by a straight line."""
    ordered = sorted(Fraction(float(s)) for s in scores)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] * (1 - (position - below)) + ordered[above] * (position - below)


def pg_by_definition(good, bad, share=Fraction(2, 100)):
    threshold = quantile_in_rationals(bad, share)
    return sum(Fraction(float(g)) < threshold for g in good) / len(good)


def pb_by_definition(good, bad, share=Fraction(2, 100)):
    threshold = quantile_in_rationals(good, 1 - share)
    return sum(Fraction(float(b)) > threshold for b in bad) / len(bad)


def pg_strict_by_search(good, bad, share=Fraction(2, 100)):
    """The best true negative rate of any threshold among the bad scores that misses at most the share."""
    allowed = [t for t in bad if Fraction(sum(b < t for b in bad), len(bad)) <= share]
    return max(sum(g < t for g in good) for t in allowed) / len(good)


def pb_strict_by_search(good, bad, share=Fraction(2, 100)):
    allowed = [t for t in good if Fraction(sum(g > t for g in good), len(good)) <= share]
    return max(sum(b > t for b in bad) for t in allowed) / len(bad)


def by_definition(good, bad):
    return {
        "image_auroc": auroc_by_pairs(good, bad),
        "image_f1max": f1max_by_all_thresholds(good, bad),
        "image_pg2": pg_by_definition(good, bad),
        "image_pb2": pb_by_definition(good, bad),
        "image_pg2_strict": pg_strict_by_search(good, bad),
        "image_pb2_strict": pb_strict_by_search(good, bad),
    }


def labelled(good, bad):
    scores = np.concatenate([np.asarray(good, dtype=float), np.asarray(bad, dtype=float)])
    return scores, np.arange(len(scores)) >= len(good)


def draw(seed, levels):
    """Shuffled scores of a weak detector; few levels mean many ties, None means none."""
    rng = np.random.default_rng(seed)
    is_bad = rng.random(rng.integers(4, 160)) < rng.uniform(0.2, 0.8)
    is_bad[:2] = [False, True]
    scores = 7 * rng.standard_normal(is_bad.size) + 5 * is_bad - 40
    if levels:
        scores = np.round(scores / 30 * levels)
    order = rng.permutation(is_bad.size)
    return scores[order], is_bad[order]


@pytest.mark.parametrize("levels", [2, 5, 40, None])
@pytest.mark.parametrize("seed", range(10))
def test_equal_to_the_definitions(seed, levels):
    scores, is_bad = draw(seed, levels)
    expected = by_definition(scores[~is_bad], scores[is_bad])
    assert image_metrics(scores, is_bad) == pytest.approx(expected, abs=1e-12)


@given(
    good=st.lists(st.integers(-60, 60), min_size=1, max_size=70),
    bad=st.lists(st.integers(-60, 60), min_size=1, max_size=70),
)
def test_equal_to_the_definitions_on_whole_numbers(good, bad):
    """Interpolated thresholds often fall exactly on another score here: ties must stay ties."""
    assert image_metrics(*labelled(good, bad)) == pytest.approx(by_definition(good, bad), abs=1e-12)


@pytest.mark.parametrize("levels", [3, 20, None])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(seed, levels):
    scores, is_bad = draw(100 + seed, levels)
    precision, recall, _ = precision_recall_curve(is_bad, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    assert image_auroc(scores, is_bad) == pytest.approx(roc_auc_score(is_bad, scores), abs=1e-12)
    assert image_f1max(scores, is_bad) == pytest.approx(f1.max(), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_quantile_thresholds_equal_to_numpy_where_nothing_ties(seed):
    scores, is_bad = draw(200 + seed, None)
    good, bad = scores[~is_bad], scores[is_bad]
    for share in (0.02, 0.1, 0.5):
        assert image_pg2(scores, is_bad, share=share) == np.mean(good < np.quantile(bad, share))
        assert image_pb2(scores, is_bad, share=share) == np.mean(bad > np.quantile(good, 1 - share))


def test_equal_to_anomalib_inside_the_unit_interval():
    """Only there is its AUROC right; its quantile metrics take 32-bit scores."""
    metrics = pytest.importorskip("anomalib.metrics")
    torch = pytest.importorskip("torch")
    from anomalib.data import ImageBatch

    scores, is_bad = draw(7, None)
    scores = ((scores - scores.min()) / np.ptp(scores)).astype(np.float32)
    batch = ImageBatch(
        image=torch.zeros(len(scores), 3, 1, 1),
        pred_score=torch.from_numpy(scores),
        gt_label=torch.from_numpy(is_bad),
    )
    ours = image_metrics(scores, is_bad)
    fields = ["pred_score", "gt_label"]
    theirs = {
        "image_auroc": metrics.AUROC(fields=fields),
        "image_f1max": metrics.F1Max(fields=fields),
        "image_pg2": metrics.PGn(fields=fields, fnr=0.02),
        "image_pb2": metrics.PBn(fields=fields, fpr=0.02),
    }
    for name, metric in theirs.items():
        metric.update(batch)
        assert ours[name] == pytest.approx(float(metric.compute()), abs=1e-5), name


def test_raw_scores_far_outside_the_unit_interval():
    """Perfectly separated; a sigmoid in 32 bits would make all six equal and the AUROC 0.5."""
    values = image_metrics(*labelled([20, 21, 22], [30, 31, 40]))
    assert values == dict.fromkeys(NAMES, 1.0)


def test_double_precision_separates_what_32_bits_do_not():
    assert image_auroc(*labelled([20.0], [20.0 + 1e-12])) == 1.0


def test_f1max_of_four_images():
    assert image_f1max(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.8


def test_f1max_floor():
    """Scores that say nothing, or the opposite of the truth, still get what calling everything bad gets."""
    assert image_f1max(*labelled(np.zeros(1000), np.zeros(1000))) == pytest.approx(2 / 3, abs=1e-15)
    assert image_f1max(*labelled([5.0, 6.0, 7.0], [1.0])) == pytest.approx(0.4, abs=1e-15)


def test_interpolated_and_strict_pg2_with_twenty_bad_images():
    scores, is_bad = labelled(np.linspace(0, 1, 50), [0.10, 0.90, *np.linspace(1.11, 2, 18)])
    assert image_pg2(scores, is_bad) == pytest.approx(0.40, abs=1e-15)
    assert image_pg2_strict(scores, is_bad) == pytest.approx(0.10, abs=1e-15)


@pytest.mark.parametrize(
    ("count", "allowed", "interpolated"),
    [
        (20, 0, 1),
        (49, 0, 1),
        (50, 1, 1),
        (60, 1, 2),
        (100, 2, 2),
        (153, 3, 4),
        (200, 4, 4),
        (282, 5, 6),
        (345, 6, 7),
        (1000, 20, 20),
    ],
)
def test_number_of_images_beyond_the_threshold(count, allowed, interpolated):
    """With equal good and bad scores, the recognised images of one class are as many as the other loses."""
    same = np.arange(count)
    values = image_metrics(*labelled(same, same))
    assert values["image_pg2"] == values["image_pb2"] == interpolated / count
    assert values["image_pg2_strict"] == values["image_pb2_strict"] == allowed / count


def test_saturated_scores_give_exact_zeros():
    """4 of 100 images of one class at the end of the scale leave nothing to recognise in the other."""
    spread = np.linspace(0.1, 0.9, 96)
    lowest_bad = labelled(np.linspace(0, 0.05, 50), [0, 0, 0, 0, *spread])
    highest_good = labelled([1, 1, 1, 1, *spread], np.linspace(0.95, 1, 50))
    assert image_pg2(*lowest_bad) == image_pg2_strict(*lowest_bad) == 0
    assert image_pb2(*highest_good) == image_pb2_strict(*highest_good) == 0


def test_a_tie_with_an_interpolated_threshold_is_not_recognised():
    bad = [0, 25, *range(50, 79)]  # 31 scores, position 0.02 * 30 = 0.6 from the bottom: 15
    assert image_pg2(*labelled([14, 15], bad)) == 0.5
    good = [-17, -42, *range(-80, -67)]  # 15 scores, position 0.02 * 14 = 0.28 from the top: -24
    assert np.quantile(good, 0.98) < -24  # rounding on the way would break the tie
    assert image_pb2(*labelled(good, [-24, -23])) == 0.5


def test_a_tie_with_the_strict_threshold_is_not_recognised():
    values = image_metrics(*labelled([1, 2], [2, 3]))
    assert values["image_pg2_strict"] == values["image_pb2_strict"] == 0.5


def test_share_is_read_as_a_decimal_number():
    """29 % of 100 images are 29, though 0.29 * 100 is 28.999999999999996 in double precision."""
    scores, is_bad = labelled(np.arange(100), np.arange(100))
    assert image_pg2_strict(scores, is_bad, share=0.29) == 0.29
    assert image_pb2_strict(scores, is_bad, share=0.29) == 0.29


@pytest.mark.parametrize("share", [-0.01, 1.0])
def test_share_outside_its_range(share):
    with pytest.raises(ValueError, match="share must lie"):
        image_pg2(*labelled([1], [2]), share=share)


@pytest.mark.parametrize(
    ("scores", "is_bad", "reason"),
    [
        ([1, 2], [True, True], "no good image"),
        ([1, 2], [False, False], "no bad image"),
        ([], [], "no bad image"),
        ([1, np.nan, 3], [False, False, True], "NaN or infinite, the first is that of image 1"),
        ([1, 2, np.inf], [False, False, True], "NaN or infinite"),
        ([-np.inf, 2, 3], [False, False, True], "NaN or infinite"),
        ([1, 2, 3], [False, True], "do not belong together"),
        ([[1, 2]], [[False, True]], "do not belong together"),
        ([1, 2], [-1, 1], "neither 0"),
    ],
)
@pytest.mark.parametrize(
    "metric",
    [image_metrics, image_auroc, image_f1max, image_pg2, image_pb2, image_pg2_strict, image_pb2_strict],
)
def test_undefined(metric, scores, is_bad, reason):
    with pytest.raises(UndefinedMetric, match=reason):
        metric(np.array(scores, dtype=float), np.array(is_bad))


def test_undefined_metric_is_a_value_error():
    assert issubclass(UndefinedMetric, ValueError)


def test_names_and_types():
    values = image_metrics(np.array([1, 2, 3], dtype=np.float32), np.array([False, True, True]))
    assert list(values) == NAMES
    assert all(type(value) is float for value in values.values())
