"""Say above and below a table what its cells hold, how they were averaged, and why some are empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from shopfloor.metrics.entries import label_of
from shopfloor.planning.report_settings import TableSettings
from shopfloor.report.paper.formats import TEXT_OF_KIND
from shopfloor.report.paper.values import EPOCHS, TRAINING, RunValues, TableColumn
from shopfloor.report.tables.value_tables import HOLES

_LABELS = {"epochs": "Epochs", "best_epoch": "Best epoch"}


def caption_of(
    entry: TableSettings,
    columns: Sequence[TableColumn],
    frame: pd.DataFrame,
    run: RunValues,
    size: int,
) -> str:
    """Say what a cell holds, the rule of averaging, the datasets of each mean."""
    content = "; below: ".join(" / ".join(_label(metric) for metric in line) for line in entry.lines)
    sentences = [f"{content}, percent{' and numbers of epochs' if set(run.wanted) & set(EPOCHS) else ''}."]
    sentences.append(entry.caption.strip())
    has_pixel = any(metric.startswith("pixel_") for metric in run.wanted)
    means = {column.members: column for column in columns if column.is_mean}
    for members, first in means.items():
        name = next(block.mean for block in entry.columns if block.mean is not None)
        text = f"{name}: plain mean over {', '.join(map(run.printed, members))}, each dataset counted once"
        unmasked = [each for each in members if has_pixel and _has_no_masks(each, first, run)]
        if unmasked:
            text += f"; pixel metrics without {', '.join(map(run.printed, unmasked))}"
        sentences.append(f"{text}.")
    if all(block.vary != "image_size" for block in entry.columns):
        sentences.append(f"{size} x {size} pixels.")
    if frame["sd"].notna().any():
        sentences.append("Mean over seeds ± standard deviation where there are several.")
    if frame["best"].any():
        sentences.append("Bold: best of its column and metric.")
    return " ".join(sentences)


def _has_no_masks(dataset: str, column: TableColumn, run: RunValues) -> bool:
    if dataset in run.settings.without_masks:
        return True
    lines = [line for (name, *_), line in run.datasets.items() if name == dataset]
    pixel = [metric for metric in run.wanted if metric.startswith("pixel_")]
    return bool(lines) and all(metric in line["not_available"].split() for line in lines for metric in pixel)


def notes_of(
    frame: pd.DataFrame, columns: Sequence[TableColumn], detectors: Sequence[str], run: RunValues, size: int
) -> list[str]:
    """List what is to be said below a table."""
    notes = []
    if size != run.settings.image_size:
        notes.append(f"The paper's size is {run.settings.image_size} pixels; this run has none of that size.")
    notes += _hole_notes(frame)
    if set(frame["kind"]) & {"missing"}:
        notes += _failure_notes(columns, detectors, run)
    if run.follows_paper:
        known = run.known
        for what, shown in (
            ("dataset", {name for column in columns for name in column.members}),
            ("detector", detectors),
        ):
            more = [name for name in known[what].unique() if name not in shown]
            if more:
                notes.append(f"Also in this run, not in the paper's table ({what}): {', '.join(more)}.")
    bad = _bad_images(columns, run)
    if bad:
        notes.append(f"Labelled bad training images of a category: {bad}.")
    return notes


def _hole_notes(frame: pd.DataFrame) -> list[str]:
    """One note per reason: where it holds, as shortly as can be said."""
    rows, metrics = list(frame["row"].unique()), list(frame["metric"].unique())
    holes = frame[frame["kind"] != ""]
    notes = []
    for (kind, reason), same in holes.groupby([holes["kind"].map(TEXT_OF_KIND), "hole"], sort=False):
        places: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
        for column, of_column in same.groupby("column", sort=False):
            of_rows: dict[tuple[str, ...], list[str]] = {}
            for row, of_row in of_column.groupby("row", sort=False):
                of_rows.setdefault(tuple(of_row["metric"]), []).append(str(row))
            for lacking, methods in of_rows.items():
                places.setdefault((tuple(methods), lacking), []).append(str(column))
        texts = []
        for (names, lacking), labels in places.items():
            text = f"{'all methods' if list(names) == rows else ', '.join(names)} in {', '.join(labels)}"
            texts.append(text if list(lacking) == metrics else f"{text} ({', '.join(map(_label, lacking))})")
        notes.append(f"{kind} {'; '.join(texts)}: {reason}.")
    return notes


def _failure_notes(columns: Sequence[TableColumn], detectors: Sequence[str], run: RunValues) -> list[str]:
    """Why trainings of the table are not there."""
    shown = {name for column in columns for name in column.members}
    lines = run.metrics[run.metrics["dataset"].isin(shown) & run.metrics["detector"].isin(detectors)]
    holes = lines[lines["status"].isin(HOLES) & (lines["note"].fillna("") != "")]
    cells = holes.drop_duplicates(["dataset", "category", "detector", *TRAINING, "seed", "note"])
    kinds = cells["status"].where(cells["status"] == "outdated", "failed or missing")
    counts = Counter(zip(kinds, cells["note"], strict=True))
    return [f"Why ({count} {kind}): {note}" for (kind, note), count in counts.most_common()]


def _bad_images(columns: Sequence[TableColumn], run: RunValues) -> str:
    """How many labelled bad images the supervised trainings had, by dataset."""
    if "n_train_bad" not in run.costs:
        return ""
    lines = run.costs[run.costs["condition_kind"] == "supervised"].dropna(subset=["n_train_bad"])
    texts = []
    for dataset in dict.fromkeys(name for column in columns for name in column.members):
        numbers = sorted({int(number) for number in lines.loc[lines["dataset"] == dataset, "n_train_bad"]})
        if numbers:
            texts.append(f"{run.printed(dataset)} {' or '.join(map(str, numbers))}")
    return ", ".join(texts)


def _label(metric: str) -> str:
    return _LABELS.get(metric) or label_of(metric)
