"""Collect the results of all cells of an experiment into one table of each kind.

Every function takes one result per cell, in the order of the cells it is given. A result may be a
:class:`MissingResult`: what is not there becomes a hole with its reason, never a number.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from shopfloor.catalog.result_table import typed
from shopfloor.metrics.entries import METRICS
from shopfloor.report.tables.value_tables import CELL
from shopfloor.runners.missing import MissingResult

Coordinates = dict[str, Any]

_TRAINING = ["dataset", "category", "detector", "image_size", "condition", "condition_kind", "condition_amount", "seed"]
_TEST_SET = ["test_set", "test_set_kind"]
_SCORED = [*_TRAINING, *_TEST_SET, "test_set_seed"]
_COSTS = [
    "fit_seconds", "predict_ms_per_image", "peak_memory_mb", "peak_gpu_memory_mb", "parameters", "epochs",
    "stopped_epoch", "best_epoch",
]  # fmt: skip
_COST_FACTS = ["device", "n_train", "n_train_bad", "n_validation", "n_test"]
_LOG = ["epoch", "seconds", "learning_rate", "loss", "value"]
_MEASURED = ["metric", "value", "status", "note"]
_LOGGER = logging.getLogger(__name__)


def collect_metrics(
    *metrics: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All metrics of the experiment as tidy tables.

    Args:
        metrics: Metrics of each cell.
        cells: Coordinates of each cell.

    Returns:
        ``metrics``: one line per cell and metric: coordinates, ``metric``, ``value`` (fraction, NaN for a hole),
        ``status`` (``ok``, ``not_available``, ``failed``, ``outdated``, ``missing``), ``note``. ``group_metrics``: such
        lines with a column ``group``, for domains and types of anomalies that were measured apart.
    """
    tables = [
        _holes(cell, table) if isinstance(table, MissingResult) else table
        for cell, table in _whole("metrics", [*_SCORED, "group", *_MEASURED], cells, metrics)
    ]
    together = pd.concat(tables, ignore_index=True)
    is_value = together["group"] == ""
    return together[is_value].drop(columns="group").reset_index(drop=True), together[~is_value].reset_index(drop=True)


def collect_costs(*records: dict[str, Any] | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """What every training and prediction took.

    Args:
        records: Fit record of each cell, then prediction record of each cell.
        cells: Coordinates of each cell.

    Returns:
        One line per training: coordinates, seconds, milliseconds per image, memory, parameters, device, ``libraries``
        (those it was trained with), ``status``, ``note``.
    """
    lines = []
    fits = _whole("record of the training", ["fit_seconds"], cells, records[: len(cells)])
    predictions = _whole("record of the prediction", ["predict_ms_per_image"], cells, records[len(cells) :])
    for (cell, fit), (_, predict) in zip(fits, predictions, strict=True):
        facts = {**_facts(predict), **_facts(fit)}
        hole = next((record for record in (fit, predict) if isinstance(record, MissingResult)), None)
        lines.append(
            {
                **{key: cell[key] for key in _TRAINING},
                **{key: facts.get(key) for key in (*_COSTS, *_COST_FACTS)},
                "libraries": _libraries(facts.get("versions")),
                "status": hole.status if hole else "ok",
                "note": hole.reason if hole else "",
            }
        )
    return typed(pd.DataFrame(lines))


def _libraries(versions: Any) -> str:
    known = versions if isinstance(versions, Mapping) else {}
    return ", ".join(f"{name} {number}" for name, number in known.items())


def collect_scores(*scores: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """Raw scores of every test image of every cell that has them.

    Args:
        scores: Scores of each cell.
        cells: Coordinates of each cell.

    Returns:
        Coordinates, ``image``, ``label``, ``defect_type``, ``pred_score``.
    """
    of_image = ["image", "label", "defect_type", "pred_score"]
    columns = [*_SCORED, *of_image]
    tables = [
        table.assign(**{key: cell[key] for key in _SCORED})[columns]
        for cell, table in _whole("scores", of_image, cells, scores)
        if not isinstance(table, MissingResult)
    ]
    return pd.concat(tables, ignore_index=True) if tables else typed(pd.DataFrame(columns=columns))


def collect_categories(*reports: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """Counts, licences and lost defects of every category.

    Args:
        reports: Summary of the resize of each category and image size.
        cells: Coordinates of a cell of each.

    Returns:
        One line per category and image size; a category that could not be read has its names only.
    """
    names = ["dataset", "category", "image_size"]
    categories = [{key: cell[key] for key in names} for cell in cells]
    tables = [
        pd.DataFrame([category]) if isinstance(report, MissingResult) else report
        for category, report in _whole("summary of the images", names, categories, reports)
    ]
    return typed(pd.concat(tables, ignore_index=True))


def collect_training_log(*logs: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """Every epoch of every training.

    Args:
        logs: Log of each training.
        cells: Coordinates of each.

    Returns:
        One line per training, epoch and loss: coordinates, ``epoch``, ``seconds``, ``learning_rate``, ``loss`` (its
        name), ``value``. A detector that logs no loss has lines without ``loss`` and ``value``.
    """
    tables = [
        _long(log).assign(**{key: cell[key] for key in CELL})[[*CELL, *_LOG]]
        for cell, log in _whole("log of the training", ["epoch", "seconds"], cells, logs)
        if not isinstance(log, MissingResult)
    ]
    return typed(pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*CELL, *_LOG]))


def _long(log: pd.DataFrame) -> pd.DataFrame:
    """One line per epoch and loss."""
    log = log.reindex(columns=list(dict.fromkeys([*log.columns, "epoch", "seconds", "learning_rate"])))
    losses = [name for name in log.columns if "loss" in name]
    if not losses:
        return log.assign(loss="", value=float("nan"))
    return log.melt(["epoch", "seconds", "learning_rate"], losses, var_name="loss").dropna(subset=["value"])


def collect_drift_counts(*reports: pd.DataFrame | MissingResult, cells: Sequence[Coordinates]) -> pd.DataFrame:
    """How often each transform was drawn, per category and drift seed; of what could not be made there is nothing."""
    names, counts = ["dataset", "category", "test_set"], ["transform", "images", "emptied"]
    test_sets = [{key: cell[key] for key in names} for cell in cells]
    tables = [
        report.assign(**test_set)
        for test_set, report in _whole("summary of the drift", counts, test_sets, reports)
        if not isinstance(report, MissingResult)
    ]
    columns = [*names, *counts]
    return typed(pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns))


def _holes(cell: Coordinates, hole: MissingResult) -> pd.DataFrame:
    line = {**cell, "group": "", "value": float("nan"), "status": hole.status, "note": hole.reason}
    return pd.DataFrame([{**line, "metric": name} for name in METRICS])


def _whole(
    what: str, needed: Sequence[str], cells: Sequence[Coordinates], results: Sequence[Any]
) -> list[tuple[Coordinates, Any]]:
    """Each cell with its result; one whose content is damaged is a hole, so that it costs its own cell only."""
    pairs: list[tuple[Coordinates, Any]] = []
    for cell, result in zip(cells, results, strict=True):
        damage = _damage(result, needed)
        if not damage:
            pairs.append((cell, result))
            continue
        where = ", ".join(f"{key} {cell[key]}" for key in (*CELL, "test_set") if key in cell)
        reason = f"The {what} of {where}: {damage}. Delete the file and run with --only-missing-outputs."
        _LOGGER.warning(reason)
        pairs.append((cell, MissingResult("failed", reason)))
    return pairs


def _damage(result: Any, needed: Sequence[str]) -> str:
    """What is wrong with a record or a table; nothing where it has all that is needed."""
    if isinstance(result, MissingResult):
        return ""
    if not isinstance(result, Mapping | pd.DataFrame):
        return f"expected names and values, found {str(result)[:40]}"
    lacking = [name for name in needed if name not in result]
    return f"no {', '.join(lacking)} in it" if lacking else ""


def _facts(record: dict[str, Any] | MissingResult) -> dict[str, Any]:
    return {} if isinstance(record, MissingResult) else record
