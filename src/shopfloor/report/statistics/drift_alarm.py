"""Whether the scores of good parts warn of drift (the paper proposes to watch them; protocol 4.3).

A camera that moves or a lamp that ages changes the scores of good parts before anyone knows a label. Here the scores of
good test images without drift are told from those of the same images with synthetic drift: image by image, and in
batches, as an alarm in a factory would do it.

The alarm: good images are split at random into two halves, the same image never on both sides. The half without drift
is the reference, what the factory has seen after the set-up. A batch of the other half is compared with it by
``|mean of the reference's distribution function over the batch - 0.5|``: this is a Mann-Whitney statistic, two-sided
because drift may raise or lower scores, and the same for scores of any unit. Ties count one half, so that clipped
scores raise no alarm by themselves. Many splits give the statistic of many batches with and without drift.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shopfloor.metrics import image_auroc
from shopfloor.planning.cell import FULL_TEST_SET
from shopfloor.planning.report_settings import DriftAlarmSettings
from shopfloor.report.tables.value_tables import CELL

#: What tells the lines of `alarm_summary` apart.
SUMMARY_KEYS = ["detector", "image_size", "condition"]
_PARTS = ["dataset", "category", "seed", "test_set"]


def drift_alarm(scores: pd.DataFrame, settings: DriftAlarmSettings) -> pd.DataFrame:
    """How well the scores of good images tell drifted from clean ones, per cell and drift test set.

    Args:
        scores: Raw scores of every test image: the columns of `shopfloor.planning.cell.Cell.scored`, ``image, label,
            pred_score``. The test sets of the kind ``drift`` are compared with that of the kind ``full``; datasets that
            have none (those with natural drift) are left out. The order of the lines does not matter.
        settings: Of the batches and the splits into halves.

    Returns:
        One line per cell, drift test set and batch size, sorted by name: the names of the cell, ``test_set``,
        ``good_images``; ``auroc``, probability that a drifted good image scores higher than a clean one, below 0.5
        where drift lowers scores, the same for all batch sizes; ``batch_size``; ``batch_auroc``, probability that a
        batch with drift has a larger statistic than one without; ``batch_found``, share of batches with drift that
        raise the alarm; ``note``: why something is NaN. Cells that others of the dataset show to be missing have lines
        too.

    Raises:
        ValueError: Two scores of the same image of a cell.
    """
    names = [*CELL, "test_set_kind", "test_set"]
    twice = scores[scores.duplicated([*names, "image"])]
    if not twice.empty:
        line = twice.iloc[0][[*names, "image"]].to_dict()
        raise ValueError(f"Two scores of the same image of a cell: {line}.")
    drifting = scores.loc[scores["test_set_kind"] == "drift", "dataset"].unique()
    chosen = scores[scores["dataset"].isin(drifting) & scores["test_set_kind"].isin(["full", "drift"])]
    good = chosen[chosen["label"] == "good"].sort_values("image", kind="stable")
    known = {key: part.set_index("image")["pred_score"].astype(float) for key, part in good.groupby(names)}
    nothing = pd.Series(dtype=float)
    lines = []
    for cell, test_set in _planned(chosen):
        clean = known.get((*cell.values(), "full", FULL_TEST_SET), nothing)
        drifted = known.get((*cell.values(), "drift", test_set), nothing)
        same = {**cell, "test_set": test_set, "good_images": len(clean)}
        lines += [{**same, **line} for line in _alarms(clean, drifted, settings, _code(cell))]
    values = ["auroc", "batch_size", "batch_auroc", "batch_found"]
    return pd.DataFrame(lines, columns=[*CELL, "test_set", "good_images", *values, "note"])


def alarm_summary(alarms: pd.DataFrame) -> pd.DataFrame:
    """Mean per detector over categories, then datasets, then seeds (protocol 3).

    Args:
        alarms: As `drift_alarm` makes them.

    Returns:
        One line per detector, image size and training condition (`SUMMARY_KEYS`): ``auroc``, and for each batch size n
        ``batch_<n>_auroc`` and ``batch_<n>_found``, NaN where a part of the mean is missing; ``missing`` names those
        parts with their reason.
    """
    sizes = list(alarms["batch_size"].unique())
    values = ["auroc", *(f"batch_{size}_{kind}" for size in sizes for kind in ("auroc", "found"))]
    lines = []
    for key, part in alarms.groupby(SUMMARY_KEYS):
        line: dict[str, Any] = dict(zip(SUMMARY_KEYS, key, strict=True))
        for size, of_size in part.groupby("batch_size"):
            line["auroc"] = _mean(of_size, "auroc")
            line |= {f"batch_{size}_{kind}": _mean(of_size, f"batch_{kind}") for kind in ("auroc", "found")}
        holes = part[part[["auroc", "batch_auroc", "batch_found"]].isna().any(axis="columns")]
        missing = [
            f"{dataset}/{category}, seed {seed}, {test_set}: {'; '.join(dict.fromkeys(notes))}"
            for (dataset, category, seed, test_set), notes in holes.groupby(_PARTS)["note"]
        ]
        lines.append({**line, "missing": "; ".join(missing)})
    return pd.DataFrame(lines, columns=[*SUMMARY_KEYS, *values, "missing"])


def _mean(alarms: pd.DataFrame, name: str) -> float:
    """Mean over categories, then datasets, then seeds; NaN where a part is."""
    steps: Any = alarms.set_index(_PARTS)[name]
    for level in (["dataset", "seed", "test_set"], ["seed", "test_set"]):
        steps = steps.groupby(level=level).agg(lambda of: of.mean(skipna=False))
    return float(steps.mean(skipna=False))


def batch_statistics(
    clean: NDArray[np.float64], drifted: NDArray[np.float64], size: int, repetitions: int, seed: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The statistic of one clean and one drifted batch for each of many splits into halves.

    Args:
        clean: Scores of good images (N,).
        drifted: Scores of the same images with drift (N,).
        size: Images per batch, at most N // 2; they are drawn from the watched half without replacement, for the two
            batches apart.
        repetitions: Number of splits R.
        seed: Seed of the draws.

    Returns:
        Statistics of the clean and of the drifted batches, each (R,), between 0 and 0.5.
    """
    splits, batches = np.random.default_rng(seed).spawn(2)
    order = splits.permuted(np.tile(np.arange(clean.size), (repetitions, 1)), axis=1)
    watched, reference = np.split(order, [clean.size // 2], axis=1)
    is_reference = np.zeros((repetitions, clean.size), dtype=np.int32)
    np.put_along_axis(is_reference, reference, 1, axis=1)
    by_score = np.argsort(clean, kind="stable")
    # How many images of the reference are among the 0, 1, ..., N lowest clean scores.
    upto = np.pad(is_reference[:, by_score].cumsum(axis=1), ((0, 0), (1, 0)))
    statistics = []
    for scores in (clean, drifted):
        batch = batches.permuted(watched, axis=1)[:, :size]
        below, at_most = (np.searchsorted(clean[by_score], scores, side)[batch] for side in ("left", "right"))
        halves = np.take_along_axis(upto, below, axis=1) + np.take_along_axis(upto, at_most, axis=1)
        statistics.append(np.abs(halves.mean(axis=1) / (2 * reference.shape[1]) - 0.5))
    return statistics[0], statistics[1]


def _planned(scores: pd.DataFrame) -> list[tuple[dict[str, Any], str]]:
    """Every training of every category that occurs, with each drift test set of the dataset."""
    categories = scores[["dataset", "category"]].drop_duplicates()
    trainings = scores[["detector", "image_size", "condition", "seed"]].drop_duplicates()
    drifts = scores.loc[scores["test_set_kind"] == "drift", ["dataset", "test_set"]].drop_duplicates()
    planned = categories.merge(trainings, how="cross").merge(drifts, on="dataset").sort_values([*CELL, "test_set"])
    return [({name: line[name] for name in CELL}, str(line["test_set"])) for line in planned.to_dict("records")]


def _code(cell: Mapping[str, Any]) -> bytes:
    """The same draws for all detectors of a category."""
    return hashlib.sha256(f"{cell['dataset']}/{cell['category']}".encode()).digest()


def _alarms(clean: pd.Series, drifted: pd.Series, settings: DriftAlarmSettings, code: bytes) -> list[dict[str, Any]]:
    """The values of one cell for each batch size; NaN with a note where there are none."""
    hole, before, after = _hole(clean, drifted), clean.to_numpy(), drifted.to_numpy()
    auroc = np.nan if hole else _auroc(before, after)
    lines = []
    for size in settings.batch_sizes:
        line: dict[str, Any] = {
            "auroc": auroc,
            "batch_size": size,
            "batch_auroc": np.nan,
            "batch_found": np.nan,
            "note": hole,
        }
        lines.append(line)
        if hole:
            continue
        if size > len(clean) // 2:
            line["note"] = f"batches of {size} need {2 * size} good images, there are {len(clean)}"
            continue
        of_clean, of_drifted = batch_statistics(before, after, size, settings.repetitions, [settings.seed, size, *code])
        # A threshold that at most this share of the clean batches lies beyond.
        threshold = np.quantile(of_clean, 1 - settings.false_alarms, method="higher")
        line["batch_auroc"] = _auroc(of_clean, of_drifted)
        line["batch_found"] = float(np.mean(of_drifted > threshold))
    return lines


def _hole(clean: pd.Series, drifted: pd.Series) -> str:
    """Why nothing can be computed, or nothing."""
    if clean.empty or drifted.empty:
        return f"no scores of good images {'without' if clean.empty else 'with'} this drift"
    if not clean.index.equals(drifted.index):
        return "the good images with drift are not those without"
    broken = int((~np.isfinite(clean)).sum() + (~np.isfinite(drifted)).sum())
    return f"{broken} scores are NaN or infinite" if broken else ""


def _auroc(clean: NDArray[np.float64], drifted: NDArray[np.float64]) -> float:
    """Probability that a drifted value is higher than a clean one, ties count one half."""
    return image_auroc(np.concatenate([clean, drifted]), np.repeat([False, True], [clean.size, drifted.size]))
