"""A run's results in the shape of the paper's Tables 4 to 9 and 11 to 15 (protocol 3 and 4).

Which tables an experiment answers, their rows, columns and metrics are settings (``paper_tables``); the means are those
of :mod:`shopfloor.report.tables.value_tables`. A value that is not there is a hole with a reason, named
below the table: never zero and never left out of a mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shopfloor.report.paper.formats import EPOCHS, TEXT_OF_KIND, PaperTable, render_all
from shopfloor.report.tables.baseline import rows_of, training_kind
from shopfloor.report.tables.value_tables import HOLES, dataset_table, mean_table

__all__ = ["PaperTable", "paper_tables", "render_all"]

_LABELS = {"epochs": "Epochs", "best_epoch": "Best epoch"}
_TRAINING = ["image_size", "condition", "condition_kind"]
_SELECTED = [*_TRAINING, "test_set", "test_set_kind"]
_KEYS = ["dataset", "detector", *_SELECTED]
_ABSENT = "not in this run"


def paper_tables(
    experiment: str, metrics: pd.DataFrame, costs: pd.DataFrame, settings: Mapping[str, Any]
) -> list[PaperTable]:
    """The paper's tables that an experiment answers.

    Args:
        experiment: Name of the experiment.
        metrics: All its metrics, fractions, as for `shopfloor.report.tables.value_tables.category_table`.
        costs: One line per training; ``stopped_epoch`` and ``best_epoch`` make the epochs of Table 9, ``n_train_bad``
            the number of labelled bad images of Table 8.
        settings: The block ``paper_tables`` of the parameter files.

    Returns:
        The tables in the order of the settings. Where rows and columns are those of the run, a table for which the run
        has none is left out.

    Raises:
        ValueError: ``rows_and_columns`` is neither ``run`` nor ``paper``.
    """
    if settings["rows_and_columns"] not in ("run", "paper"):
        raise ValueError(
            f"paper_tables.rows_and_columns: expected run or paper, found {settings['rows_and_columns']!r}."
        )
    found = []
    for name, entry in settings["tables"].items():
        if entry["experiment"] == experiment:
            run = _Run(metrics, costs, settings, tuple(metric for line in entry["lines"] for metric in line))
            table = _table(int(name.removeprefix("table_")), entry, run)
            if len(table.frame):
                found.append(table)
    return found


# --- values -----------------------------------------------------------------------------------------------------------


_Key = tuple[Any, ...]
_Line = Mapping[Hashable, Any]


class _Cell(NamedTuple):
    """One value, or the reason why there is none."""

    value: float = np.nan
    sd: float = np.nan
    kind: str = ""
    hole: str = ""


class _Column(NamedTuple):
    """One column: a dataset, or several for their mean, in one case."""

    label: str
    members: tuple[str, ...]
    is_mean: bool
    selection: _Key  # values of `_SELECTED`; empty where the run has no such case
    condition: str  # as the published numbers name the case


@dataclass(frozen=True)
class _Run:
    """What a run has for a table."""

    all_metrics: pd.DataFrame
    costs: pd.DataFrame
    settings: Mapping[str, Any]
    wanted: tuple[str, ...]

    @property
    def follows_paper(self) -> bool:
        return self.settings["rows_and_columns"] == "paper"

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The metrics of the table, without pixel values of datasets that have no masks in the paper."""
        table = self.all_metrics[self.all_metrics["metric"].isin(self.wanted)]
        hidden = table["dataset"].isin(self.settings["without_masks"]) & table["metric"].str.startswith("pixel_")
        return table.assign(
            value=table["value"].mask(hidden),
            status=table["status"].mask(hidden, "not_available"),
            note=table["note"].mask(hidden, "this dataset has no pixel labels"),
        )

    @cached_property
    def datasets(self) -> dict[_Key, _Line]:
        """Lines of the dataset table by `_KEYS`."""
        return _by_key(dataset_table(self.metrics), _KEYS) if len(self.metrics) else {}

    @cached_property
    def categories(self) -> dict[Hashable, int]:
        return self.metrics.groupby("dataset")["category"].nunique().to_dict()

    @cached_property
    def epochs(self) -> dict[_Key, _Line]:
        return _epochs(self.costs)

    @cached_property
    def known(self) -> pd.DataFrame:
        """Which combinations the run has, in its order, and the share of wrong labels where there is one."""
        noisy = self.metrics[self.metrics["condition_kind"] == "noise"]
        percent = dict(zip(noisy["condition"], noisy["condition_amount"].astype(float), strict=True))
        table = pd.DataFrame(list(self.datasets), columns=_KEYS)
        return table.assign(condition_amount=table["condition"].map(percent).where(table["condition_kind"] == "noise"))

    @cached_property
    def mean_of(self) -> Callable[[tuple[str, ...]], dict[_Key, _Line]]:
        """Lines of the mean over some datasets by detector and `_SELECTED`."""

        @cache
        def of(members: tuple[str, ...]) -> dict[_Key, _Line]:
            part = self.metrics[self.metrics["dataset"].isin(members)]
            return _by_key(mean_table(part), ["detector", *_SELECTED]) if len(part) else {}

        return of

    def why_not_available(self, dataset: str, detector: str, metric: str) -> str:
        lines = self.metrics
        chosen = (lines["dataset"] == dataset) & (lines["detector"] == detector) & (lines["metric"] == metric)
        notes = lines.loc[chosen & (lines["status"] == "not_available"), "note"].dropna().unique()
        return "; ".join(str(note) for note in notes if str(note)) or "not available"

    def printed(self, dataset: str) -> str:
        return str(self.settings["datasets"].get(dataset, dataset))

    def method(self, detector: str) -> str:
        return str(self.settings["methods"].get(detector, detector))


def _by_key(table: pd.DataFrame, keys: list[str]) -> dict[_Key, _Line]:
    return {tuple(line[key] for key in keys): line for line in table.to_dict("records")}


def _epochs(costs: pd.DataFrame) -> dict[_Key, _Line]:
    """Epochs as lines of the dataset table have metrics: mean over categories, then seeds; a part without is a hole."""
    keys = ["dataset", "detector", *_TRAINING]
    table = costs.reindex(columns=[*keys, "category", "seed", "status", *EPOCHS.values()])
    table = table.assign(condition_kind=training_kind(table))
    lines: dict[_Key, _Line] = {}
    for key, group in table.groupby(keys, sort=False):
        line: dict[Hashable, Any] = {}
        for metric, column in EPOCHS.items():
            per_seed = group.assign(**{column: group[column].astype(float)}).groupby("seed")[column]
            over_seeds = per_seed.mean(skipna=False)
            line[metric] = over_seeds.mean(skipna=False)
            line[f"{metric}_sd"] = over_seeds.std(skipna=False)
        parts = group[group[list(EPOCHS.values())].isna().any(axis="columns")]
        line["missing"] = "; ".join(
            f"{part.dataset}/{part.category}, seed {part.seed}: "
            + ("no epochs recorded" if part.status == "ok" else str(part.status))
            for part in parts.itertuples()
        )
        lines[tuple(key)] = line
    return lines


def _dataset_cell(run: _Run, dataset: str, detector: str, selection: _Key, metric: str) -> _Cell:
    if metric.startswith("pixel_") and dataset in run.settings["without_masks"]:
        return _Cell(kind="not_available", hole="this dataset has no pixel labels")
    line = run.datasets.get((dataset, detector, *selection))
    if line is None:
        return _Cell(kind="absent", hole=_ABSENT)
    have, want = run.categories[dataset], run.settings["categories"].get(dataset)
    if run.follows_paper and want is not None and have != want:
        return _Cell(kind="absent", hole=f"{have} of {want} categories in this run")
    if metric in EPOCHS:
        line, percent = run.epochs.get((dataset, detector, *selection[: len(_TRAINING)]), {}), 1
    else:
        percent = 100
    return _cell(line, metric, percent, lambda: run.why_not_available(dataset, detector, metric))


def _cell(line: _Line, metric: str, scale: int, why_not_available: Callable[[], str]) -> _Cell:
    value = line.get(metric, np.nan)
    if pd.notna(value):
        return _Cell(scale * float(value), scale * float(line.get(f"{metric}_sd", np.nan)))
    if metric in str(line.get("not_available", "")).split():
        return _Cell(kind="not_available", hole=why_not_available())
    return _Cell(kind="missing", hole=line.get("missing") or "not measured")


def _mean_cell(run: _Run, column: _Column, detector: str, metric: str) -> _Cell:
    """Mean over the column's datasets; a hole in one of them is a hole here."""
    parts = {each: _dataset_cell(run, each, detector, column.selection, metric) for each in column.members}
    lacking: dict[str, list[str]] = {}
    for dataset, part in parts.items():
        if part.kind in ("missing", "absent"):
            lacking.setdefault(part.hole, []).append(run.printed(dataset))
    if lacking:
        kind = "absent" if "absent" in {part.kind for part in parts.values()} else "missing"
        return _Cell(kind=kind, hole="; ".join(f"{', '.join(names)}: {why}" for why, names in lacking.items()))
    whys = dict.fromkeys(part.hole for part in parts.values() if part.kind == "not_available")
    if all(part.kind == "not_available" for part in parts.values()):
        return _Cell(kind="not_available", hole="; ".join(whys))
    # A dataset without masks need not have said so itself.
    members = tuple(
        each
        for each, part in parts.items()
        if part.kind != "not_available" or each not in run.settings["without_masks"]
    )
    line = run.mean_of(members).get((detector, *column.selection), {})
    return _cell(line, metric, 100, lambda: "; ".join(whys) or "not available")


# --- rows and columns -------------------------------------------------------------------------------------------------


def _table(number: int, entry: Mapping[str, Any], run: _Run) -> PaperTable:
    size = _image_size(run)
    columns = [column for block in entry["columns"] for column in _columns(block, run, size)]
    detectors = _detectors(entry["methods"], columns, run)
    rows = _unique({detector: run.method(detector) for detector in detectors})
    labels = _unique(dict(enumerate(column.label for column in columns)))
    lines: list[dict[str, Any]] = []
    for detector in detectors:
        for place, column in enumerate(columns):
            names = [run.printed(dataset) for dataset in column.members]
            known = {
                "row": rows[detector],
                "column": labels[place],
                "detector": detector,
                "dataset": "mean:" + "+".join(names) if column.is_mean else names[0],
                "condition": column.condition,
            }
            for metric in run.wanted:
                cell = (
                    _mean_cell(run, column, detector, metric)
                    if column.is_mean
                    else _dataset_cell(run, column.members[0], detector, column.selection, metric)
                )
                lines.append({**known, "metric": metric, **cell._asdict()})
    names_of_columns = ["row", "column", "detector", "dataset", "condition", "metric", "value", "sd", "kind", "hole"]
    frame = _with_best(pd.DataFrame(lines, columns=names_of_columns))
    cell_lines = tuple(tuple(line) for line in entry["lines"])
    return PaperTable(
        number,
        str(entry["title"]),
        _caption(entry, cell_lines, columns, frame, run, size),
        cell_lines,
        frame,
        tuple(_notes(frame, columns, detectors, run, size)),
    )


def _image_size(run: _Run) -> int:
    """The paper's size; where rows and columns are the run's and it has none of that size, its largest."""
    size = int(run.settings["image_size"])
    sizes = run.known["image_size"].unique()
    return size if run.follows_paper or size in sizes or not len(sizes) else int(max(sizes))


def _columns(block: Mapping[str, Any], run: _Run, size: int) -> list[_Column]:
    """The columns of one block of a table's settings."""
    vary, cases = block["vary"], list(block["cases"])
    fixed = {key: value for key, value in {"image_size": size, **block["fixed"]}.items() if key != vary}
    datasets = list(block["datasets"])
    if not run.follows_paper:
        fits = rows_of(run.known, fixed)
        cases = _cases_of_run(block, fits)
        there = fits.loc[fits[vary].isin([case["value"] for case in cases]), "dataset"]
        datasets = _paper_first(datasets, there)

    def column(members: Sequence[str], name: str, case: Mapping[str, Any], is_mean: bool) -> _Column:
        published = case["published"]
        condition = published if isinstance(published, str) else published.get(members[0], str(case["value"]))
        lines = rows_of(run.known, {**fixed, vary: case["value"]})[_SELECTED]
        selection = next(lines.itertuples(index=False, name=None), ())
        return _Column(case["label"].format(name=name), tuple(members), is_mean, selection, condition)

    if "mean" in block:
        return [column(datasets, block["mean"], case, True) for case in cases] if datasets else []
    return [column([dataset], run.printed(dataset), case, False) for dataset in datasets for case in cases]


def _cases_of_run(block: Mapping[str, Any], known: pd.DataFrame) -> list[Mapping[str, Any]]:
    """The paper's cases that the run has, and its own where they may join; numbers ascend."""
    there = dict(zip(known[block["vary"]], known["condition"], strict=True))
    cases = [case for case in block["cases"] if case["value"] in there]
    if not block.get("open"):
        return cases
    shut_out = [*(case["value"] for case in cases), *block.get("leave_out", [])]
    is_percent = block["vary"] == "condition_amount"
    for value, condition in there.items():
        if value not in shut_out:
            text = f"{value:g} %" if is_percent else str(value).replace("_", " ")
            braced = text.replace("{", "{{").replace("}", "}}")
            published = str(condition if is_percent else value)
            cases.append({"value": value, "label": "{name} " + braced, "published": published})
    is_number = is_percent or block["vary"] == "image_size"
    return sorted(cases, key=lambda case: case["value"]) if is_number else cases


def _detectors(methods: Sequence[str], columns: Sequence[_Column], run: _Run) -> list[str]:
    if run.follows_paper:
        return list(methods)
    shown = {(dataset, *column.selection) for column in columns for dataset in column.members}
    there = [key[1] for key in run.datasets if (key[0], *key[2:]) in shown]
    return _paper_first(methods, there)


def _paper_first(paper: Sequence[str], there: Iterable[str]) -> list[str]:
    """Names of the run: the paper's in the paper's order, then the others in their own."""
    names = list(dict.fromkeys(there))
    return [name for name in paper if name in names] + [name for name in names if name not in paper]


def _unique(labels: Mapping[Any, str]) -> dict[Any, str]:
    """Labels that tell apart: one that stands for several things is given the name of each."""
    texts = list(labels.values())
    return {key: f"{text} ({key})" if texts.count(text) > 1 else text for key, text in labels.items()}


def _with_best(frame: pd.DataFrame) -> pd.DataFrame:
    """Mark the best of each column and metric; values that print the same are all best, a lone value is not marked."""
    is_compared = frame["value"].notna() & ~frame["metric"].isin(EPOCHS)
    printed = pd.Series([float(f"{value:.1f}") for value in frame["value"]], index=frame.index).where(is_compared)
    groups = printed.groupby([frame["column"], frame["metric"]], sort=False)
    best = is_compared & (groups.transform("count") > 1) & (printed == groups.transform("max"))
    frame.insert(list(frame).index("kind"), "best", best.astype(bool))
    return frame


# --- what is said around a table --------------------------------------------------------------------------------------


def _caption(
    entry: Mapping[str, Any],
    lines: Sequence[Sequence[str]],
    columns: Sequence[_Column],
    frame: pd.DataFrame,
    run: _Run,
    size: int,
) -> str:
    """What a cell holds, the rule of averaging, the datasets of each mean."""
    content = "; below: ".join(" / ".join(_label(metric) for metric in line) for line in lines)
    sentences = [f"{content}, percent{' and numbers of epochs' if set(run.wanted) & set(EPOCHS) else ''}."]
    sentences.append(str(entry["caption"]).strip())
    has_pixel = any(metric.startswith("pixel_") for metric in run.wanted)
    means = {column.members: column for column in columns if column.is_mean}
    for members, first in means.items():
        name = next(block["mean"] for block in entry["columns"] if "mean" in block)
        text = f"{name}: plain mean over {', '.join(map(run.printed, members))}, each dataset counted once"
        unmasked = [each for each in members if has_pixel and _has_no_masks(each, first, run)]
        if unmasked:
            text += f"; pixel metrics without {', '.join(map(run.printed, unmasked))}"
        sentences.append(f"{text}.")
    if all(block["vary"] != "image_size" for block in entry["columns"]):
        sentences.append(f"{size} x {size} pixels.")
    if frame["sd"].notna().any():
        sentences.append("Mean over seeds ± standard deviation where there are several.")
    if frame["best"].any():
        sentences.append("Bold: best of its column and metric.")
    return " ".join(sentences)


def _has_no_masks(dataset: str, column: _Column, run: _Run) -> bool:
    if dataset in run.settings["without_masks"]:
        return True
    lines = [line for (name, *_), line in run.datasets.items() if name == dataset]
    pixel = [metric for metric in run.wanted if metric.startswith("pixel_")]
    return bool(lines) and all(metric in line["not_available"].split() for line in lines for metric in pixel)


def _notes(
    frame: pd.DataFrame, columns: Sequence[_Column], detectors: Sequence[str], run: _Run, size: int
) -> list[str]:
    notes = []
    if size != run.settings["image_size"]:
        notes.append(f"The paper's size is {run.settings['image_size']} pixels; this run has none of that size.")
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


def _failure_notes(columns: Sequence[_Column], detectors: Sequence[str], run: _Run) -> list[str]:
    """Why trainings of the table are not there."""
    shown = {name for column in columns for name in column.members}
    lines = run.metrics[run.metrics["dataset"].isin(shown) & run.metrics["detector"].isin(detectors)]
    holes = lines[lines["status"].isin(HOLES) & (lines["note"].fillna("") != "")]
    cells = holes.drop_duplicates(["dataset", "category", "detector", *_TRAINING, "seed", "note"])
    kinds = cells["status"].where(cells["status"] == "outdated", "failed or missing")
    counts = Counter(zip(kinds, cells["note"], strict=True))
    return [f"Why ({count} {kind}): {note}" for (kind, note), count in counts.most_common()]


def _bad_images(columns: Sequence[_Column], run: _Run) -> str:
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
    return _LABELS.get(metric, metric)
