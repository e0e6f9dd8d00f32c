"""The bootstrap against really resampled arrays, the analytic error of AUROC and its own promise of coverage."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import ArrayLike

from shopfloor.metrics import UndefinedMetric, image_metrics
from shopfloor.metrics.bootstrap import bootstrap_image_metrics, draw_counts
from shopfloor.metrics.entries import METRICS, Metric
from shopfloor.metrics.image import interpolated_quantile


def draws(is_bad, resamples, seed=1):
    n_bad = int(np.sum(is_bad))
    return (
        draw_counts(np.ones(len(is_bad) - n_bad, dtype=bool), resamples, [seed, 0]),
        draw_counts(np.ones(n_bad, dtype=bool), resamples, [seed, 1]),
    )


def made_up(seed, n_good, n_bad, levels=None):
    """Gaussian scores, unsorted; with ``levels`` rounded so that many tie, on numbers that binary cannot hold."""
    generator = np.random.default_rng(seed)
    is_bad = generator.permutation(np.repeat([False, True], [n_good, n_bad]))
    scores = generator.normal(is_bad * 1.2, 1.0)
    return (scores if levels is None else np.round(scores * levels) / levels * 0.1), is_bad


def really_resampled(scores, is_bad, counts_good, counts_bad):
    good, bad = np.repeat(scores[~is_bad], counts_good), np.repeat(scores[is_bad], counts_bad)
    return image_metrics(np.concatenate([bad, good]), np.repeat([True, False], [len(bad), len(good)]))


@pytest.mark.parametrize("levels", [None, 20, 3, 1])
@pytest.mark.parametrize(("n_good", "n_bad"), [(50, 40), (101, 51), (1, 1), (15, 7), (49, 153)])
def test_equal_to_really_resampled_images(n_good, n_bad, levels):
    scores, is_bad = made_up(n_good + n_bad, n_good, n_bad, levels)
    counts = draws(is_bad, 12)
    values = bootstrap_image_metrics(scores, is_bad, *counts)
    for place, one in enumerate(zip(*counts, strict=True)):
        expected = really_resampled(scores, is_bad, *one)
        assert {name: value[place] for name, value in values.items()} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 20, 1])
def test_every_image_once_is_the_metric_itself(levels):
    scores, is_bad = made_up(3, 130, 77, levels)
    once = (np.ones((1, 130), dtype=np.int32), np.ones((1, 77), dtype=np.int32))
    values = bootstrap_image_metrics(scores, is_bad, *once)
    assert {name: value[0] for name, value in values.items()} == image_metrics(scores, is_bad)


def test_a_threshold_that_rounds_onto_a_score_is_a_tie():
    """As in the tests of the metrics: position 0.28 from the top of 15 good scores is -24 exactly."""
    good, bad = [-17, -42, *range(-80, -67)], [-24, -23]
    once = (np.ones((1, 15), dtype=np.int32), np.ones((1, 2), dtype=np.int32))
    values = bootstrap_image_metrics([*good, *bad], [False] * 15 + [True] * 2, *once)
    assert values["image_pb2"][0] == 0.5


@pytest.mark.parametrize("seed", range(20))
def test_thresholds_are_rounded_once(seed):
    """Good scores at the very quantile of the bad ones and at its two neighbours among the numbers."""
    generator = np.random.default_rng(seed)
    bad = generator.normal(0, 1, 23)
    threshold = interpolated_quantile(bad, 0.02)
    good = [np.nextafter(threshold, -9), threshold, np.nextafter(threshold, 9)]
    once = (np.ones((1, 3), dtype=np.int32), np.ones((1, 23), dtype=np.int32))
    values = bootstrap_image_metrics([*good, *bad], [False] * 3 + [True] * 23, *once)
    assert values["image_pg2"][0] == pytest.approx(1 / 3)


def test_chunks_change_nothing(monkeypatch):
    scores, is_bad = made_up(8, 60, 40, 5)
    counts = draws(is_bad, 23)
    whole = bootstrap_image_metrics(scores, is_bad, *counts)
    monkeypatch.setattr("shopfloor.metrics.bootstrap._CELLS_AT_A_TIME", 350)
    for name, value in bootstrap_image_metrics(scores, is_bad, *counts).items():
        np.testing.assert_array_equal(value, whole[name])


@pytest.mark.parametrize(("n", "shift"), [(200, 1.0), (80, 1.5)])
def test_width_fits_the_analytic_standard_error(n, shift):
    """DeLong et al. (1988) from the placement values of the same scores; Hanley and McNeil (1982) is near it."""
    generator = np.random.default_rng(11)
    good, bad = generator.normal(0, 1, n), generator.normal(shift, 1, n)
    wins = bad[:, None] > good
    delong = np.sqrt(wins.mean(axis=1).var(ddof=1) / n + wins.mean(axis=0).var(ddof=1) / n)
    auroc = wins.mean()
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    hanley = np.sqrt((auroc * (1 - auroc) + (n - 1) * (q1 + q2 - 2 * auroc**2)) / n**2)
    is_bad = np.repeat([False, True], n)
    values = bootstrap_image_metrics(np.concatenate([good, bad]), is_bad, *draws(is_bad, 4000))["image_auroc"]
    assert values.std() == pytest.approx(delong, rel=0.06)
    assert values.std() == pytest.approx(hanley, rel=0.15)
    low, high = np.quantile(values, [0.025, 0.975])
    assert high - low == pytest.approx(2 * 1.96 * delong, rel=0.08)
    assert values.mean() == pytest.approx(auroc, abs=0.1 * delong)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Gaussians one standard deviation apart: AUROC is Phi(1 / sqrt 2)."""
    truth, n, covered, repetitions = 0.7602499389, 60, 0, 300
    is_bad = np.repeat([False, True], n)
    counts = draws(is_bad, 400)
    generator = np.random.default_rng(2)
    for _ in range(repetitions):
        values = bootstrap_image_metrics(generator.normal(is_bad, 1.0), is_bad, *counts)["image_auroc"]
        low, high = np.quantile(values, [0.025, 0.975])
        covered += low <= truth <= high
    assert 0.91 <= covered / repetitions <= 0.985


def test_counts_are_a_bootstrap():
    counts = draw_counts(np.ones(40, dtype=bool), 3000, 5)
    assert (counts.sum(axis=1) == 40).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(40), abs=0.1)
    assert counts.var() == pytest.approx(1 - 1 / 40, rel=0.03)  # binomial
    assert not np.array_equal(counts, draw_counts(np.ones(40, dtype=bool), 3000, 6))
    np.testing.assert_array_equal(counts, draw_counts(np.ones(40, dtype=bool), 3000, 5))


def test_counts_of_a_part_are_a_bootstrap_too_and_agree_with_those_of_the_whole():
    is_there = np.arange(40) % 8 != 0
    part, whole = draw_counts(is_there, 3000, 5), draw_counts(np.ones(40, dtype=bool), 3000, 5)
    assert part.shape == (3000, 35)
    assert (part.sum(axis=1) == 35).all()
    assert part.mean(axis=0) == pytest.approx(np.ones(35), abs=0.1)
    assert part.var() == pytest.approx(1 - 1 / 35, rel=0.03)
    assert np.corrcoef(part.ravel(), whole[:, is_there].ravel())[0, 1] > 0.9
    assert draw_counts(np.zeros(3, dtype=bool), 4, 1).shape == (4, 0)


def test_few_of_many_images_are_drawn_to_their_number():
    counts = draw_counts(np.arange(50) < 2, 500, 1)
    assert (counts.sum(axis=1) == 2).all()
    assert np.mean(counts[:, 0] == 1) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(("n", "seconds", "megabytes"), [(200, 0.5, 60), (2000, 8.0, 120)])
def test_time_and_memory(n, seconds, megabytes):
    """The limits are several times what is needed: other programs may run."""
    import tracemalloc

    scores, is_bad = made_up(4, n, n)
    counts = draws(is_bad, 1000)
    start = time.process_time()
    bootstrap_image_metrics(scores, is_bad, *counts)
    assert time.process_time() - start < seconds
    tracemalloc.start()
    bootstrap_image_metrics(scores, is_bad, *counts)
    assert tracemalloc.get_traced_memory()[1] / 2**20 < megabytes
    tracemalloc.stop()


def test_undefined_and_wrong_counts():
    scores, is_bad = made_up(4, 5, 4)
    good, bad = draws(is_bad, 3)
    with pytest.raises(UndefinedMetric, match="NaN or infinite"):
        bootstrap_image_metrics(np.full(9, np.nan), is_bad, good, bad)
    with pytest.raises(UndefinedMetric, match="no bad image"):
        bootstrap_image_metrics(scores[~is_bad], np.zeros(5, dtype=bool), good, bad)
    with pytest.raises(ValueError, match="3 resamples of the good images and 2"):
        bootstrap_image_metrics(scores, is_bad, good, bad[:2])
    with pytest.raises(ValueError, match="for 5 good images"):
        bootstrap_image_metrics(scores, is_bad, bad, bad)
    with pytest.raises(ValueError, match="as many bad images as there are, 4"):
        bootstrap_image_metrics(scores, is_bad, good, bad + 1)


@pytest.mark.parametrize("resamples", [0, 5])
def test_a_metric_without_a_faster_way_is_computed_on_every_resample(
    monkeypatch: pytest.MonkeyPatch, resamples: int
) -> None:
    def spread(scores: ArrayLike, is_bad: ArrayLike) -> float:
        return float(np.mean(np.asarray(scores)[np.asarray(is_bad)]) - np.mean(np.asarray(scores)))

    monkeypatch.setitem(METRICS, "image_spread", Metric("Spread", "Mean of the bad scores over that of all.", spread))
    generator = np.random.default_rng(3)
    scores, is_bad = generator.normal(size=9), generator.permutation(np.repeat([False, True], [5, 4]))
    good, bad = (generator.multinomial(n, np.full(n, 1 / n), resamples).astype(np.int32) for n in (5, 4))
    found = bootstrap_image_metrics(scores, is_bad, good, bad)
    assert list(found)[-1] == "image_spread" and found["image_spread"].shape == (resamples,)
    for resample, value in enumerate(found["image_spread"]):
        held = np.concatenate([np.repeat(scores[~is_bad], good[resample]), np.repeat(scores[is_bad], bad[resample])])
        assert value == pytest.approx(spread(held, np.arange(9) >= 5))
