"""A made-up run in the shape of the real tables: four categories (two without masks) and two detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.experiments import EXPERIMENTS
from shopfloor.metrics.entries import METRICS
from shopfloor.pipelines.reporting.nodes import DRAWN_METRICS, draw_categories, make_tables, summarise
from shopfloor.report.figures.scores import score_histogram
from shopfloor.report.page.change import Change
from shopfloor.report.page.headline import headline
from shopfloor.report.page.pictures import PagePictures
from shopfloor.report.page.report import render_page
from shopfloor.report.tables.value_tables import count_cells

CATEGORIES = {"solar_cells": ("mono", "poly"), "machined_parts": ("rings", "blisters")}
DETECTORS = ("patchcore", "student_teacher")
SEEDS = (3341, 1954, 1087)
LEVELS = {"clean": 0, "noise_4": 4, "noise_8": 8, "noise_16": 16}
DIFFICULTY = {"mono": 0.16, "poly": 0.28, "rings": 0.04, "blisters": 0.1}


@dataclass
class FakeRun:
    plan: dict[str, Any]
    categories: pd.DataFrame
    metrics: pd.DataFrame
    costs: pd.DataFrame
    scores: dict[str, pd.DataFrame]
    parts: dict[str, tuple[ImagePart, np.ndarray | None, ImagePart | None]]


NO_COSTS = pd.DataFrame(
    columns=[
        "dataset", "category", "detector", "image_size", "condition", "condition_kind", "seed", "fit_seconds",
        "predict_ms_per_image", "peak_memory_mb", "parameters", "epochs", "stopped_epoch", "best_epoch", "device",
        "libraries", "status", "note",
    ]
)  # fmt: skip


def tables_of(
    metrics: pd.DataFrame, costs: pd.DataFrame = NO_COSTS, experiment: str = "model_evaluation", **known: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """The tables of an experiment as its nodes make them; those of which nothing is known are empty."""
    cell = ["dataset", "category", "detector", "image_size", "condition", "seed", "condition_kind"]
    scored = [*cell, "condition_amount", "test_set", "test_set_kind", "test_set_seed"]
    columns = {
        "scores": [*scored, "image", "label", "defect_type", "pred_score"],
        "categories": ["dataset", "category", "image_size"],
        "mean_intervals": ["metric", "image_size", "detector", "value", "low", "high"],
        "differences": [
            "metric", "image_size", "detector_a", "detector_b", "difference", "low", "high", "inside_noise"
        ],
        "rank_table": ["detector", "rank"],
        "against_paper": ["table", "method", "dataset", "condition", "metric", "paper", "measured", "verdict"],
    }  # fmt: skip
    tables: dict[str, Any] = {name: pd.DataFrame(columns=names) for name, names in columns.items()}
    tables |= {"metrics": metrics, "costs": costs, **known}
    names = ("category_table", "dataset_table", "mean_table", "failures_table", "unavailable_table", "cost_table")
    tables |= dict(zip(names, make_tables(metrics, costs), strict=True))
    settings = {"params:drift_alarm": {"batch_sizes": [8], "repetitions": 5, "false_alarms": 0.05, "seed": 1}}
    for step in EXPERIMENTS[experiment].steps:
        if step.tables:
            made = step.function(*({**tables, **settings}[name] for name in step.inputs))
            tables |= zip(step.tables, made if isinstance(made, tuple) else (made,), strict=True)
    return tables


def summary_of(plan: dict[str, Any], tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """What an experiment says about itself."""
    return summarise(plan, experiment=plan["experiment"], **tables)


def change_of(experiment: str, metrics: pd.DataFrame) -> Change | None:
    """What an experiment changes."""
    find_change = EXPERIMENTS[experiment].find_change
    return find_change(tables_of(metrics, experiment=experiment)) if find_change else None


def headline_of(metrics: pd.DataFrame) -> str:
    """The answer of a run."""
    tables = tables_of(metrics)
    return headline(metrics, tables["mean_table"], count_cells(metrics, tables["failures_table"]))


def render(fake: FakeRun, picture: Image.Image | None = None, **changed: Any) -> str:
    """The page of a made-up run; `examples` are pictures by title, `said` changes what it says of itself."""
    plan = fake.plan | changed.get("plan", {})
    known = {name: changed.get(name, getattr(fake, name)) for name in ("metrics", "costs", "categories")}
    tables = tables_of(**known, experiment=fake.plan["experiment"])
    summary = summarise(plan, experiment=fake.plan["experiment"], **tables) | changed.get("said", {})
    figures = changed.get("figures")
    if figures is None:
        drawn = draw_categories(tables["category_table"])
        figures = {name: (name, figure) for name, figure in zip(DRAWN_METRICS, drawn, strict=True)}
    own_sections = EXPERIMENTS[fake.plan["experiment"]].sections
    histograms = {label: score_histogram(scores) for label, scores in fake.scores.items()}
    return render_page(
        plan,
        summary,
        tables,
        own_sections(tables) if own_sections else [],
        figures,
        changed.get("histograms", histograms),
        PagePictures(changed.get("examples", {} if picture is None else dict.fromkeys(fake.scores, picture))),
        [],
    )


def with_kinds(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns that say what its made-up names of conditions and test sets stand for."""
    noise = table["condition"].str.extract(r"^noise_(.+)$")[0].astype(float)
    kinds = table["condition"].where(table["condition"].isin(["clean", "supervised"]), "holdout")
    table = table.assign(condition_kind=kinds.mask(noise.notna(), "noise"), condition_amount=noise)
    if "test_set" not in table:
        return table
    drawn = table["test_set"].str.extract(r"^(?P<kind>common|drift)_(?P<seed>\d+)$")
    kinds = drawn["kind"].fillna(table["test_set"].where(table["test_set"] == "full", "domains"))
    return table.assign(test_set_kind=kinds, test_set_seed=drawn["seed"].astype(float))


def value_rows(values: list[tuple[Any, ...]], **same: Any) -> pd.DataFrame:
    """Metric rows from (dataset, category, detector, seed, metric, value); a text in place of a value is its status."""
    lines = []
    for dataset, category, detector, seed, metric, value in values:
        is_hole = isinstance(value, str)
        line = {
            "dataset": dataset,
            "category": category,
            "detector": detector,
            "image_size": 256,
            "condition": "clean",
            "seed": seed,
            "test_set": "full",
            "metric": metric,
            "value": np.nan if is_hole else value,
            "status": value if is_hole else "ok",
            "note": {"failed": "out of memory", "outdated": "other inputs"}.get(value, "") if is_hole else "",
        }
        lines.append(line | same)
    return with_kinds(pd.DataFrame(lines)).assign(**same)


def cell_scores(seed: int, n_good: int = 50, n_bad: int = 40, shift: float = 2.0, folder: str = "test") -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    good = pd.DataFrame({"label": "good", "defect_type": "", "pred_score": generator.normal(10, 1, n_good)})
    bad = pd.DataFrame({"label": "bad", "defect_type": "crack", "pred_score": generator.normal(10 + shift, 1.5, n_bad)})
    bad.loc[::3, "defect_type"] = "scratch"
    scores = pd.concat([good, bad], ignore_index=True)
    scores["image"] = [f"{folder}/{line.label}/{place:04d}.png" for place, line in enumerate(scores.itertuples())]
    return scores


def image_part(scores: pd.DataFrame, side: int = 96) -> tuple[ImagePart, np.ndarray, ImagePart]:
    """Images, maps and masks that fit the scores: a bright disc on a brushed ground, bad ones with a dark spot."""
    generator = np.random.default_rng(7)
    y, x = np.mgrid[:side, :side] / side
    disc = ((y - 0.5) ** 2 + (x - 0.5) ** 2 < 0.16)[..., None]
    images, masks, maps = [], [], []
    for line in scores.itertuples():
        brushed = 90 + 12 * generator.normal(size=(side, 1, 1)) + 5 * generator.normal(size=(side, side, 1))
        image = np.where(disc, brushed + 80, brushed) * np.array([1.0, 0.97, 0.9])
        centre, radius = generator.uniform(0.3, 0.7, 2), generator.uniform(0.03, 0.09)
        spot = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        mask = spot & (line.label == "bad")
        image[mask] *= 0.5
        distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
        maps.append(line.pred_score * np.exp(-distance / 0.02) + generator.normal(0, 0.4, (side, side)))
        images.append(np.clip(image, 0, 255).astype(np.uint8))
        masks.append(mask.astype(np.uint8) * 255)
    table = scores[["image", "label", "defect_type"]].assign(row=range(len(scores)), domain="")
    return (
        ImagePart(np.stack(images), table),
        np.stack(maps).astype(np.float32),
        ImagePart(np.stack(masks), table),
    )


def _value(metric: str, detector: str, category: str, level: int, generator: np.random.Generator) -> float:
    loss = DIFFICULTY[category] * (1.4 if detector == "student_teacher" else 1.0) + level * 0.006
    loss *= 2.2 if "pg2" in metric or "pb2" in metric else 1.0
    return float(np.clip(1 - loss + generator.normal(0, 0.008), 0, 1))


def _metric_rows(cell: dict[str, Any], test_set: str, failed: bool, generator: np.random.Generator) -> list[dict]:
    rows = []
    for metric in METRICS:
        row = cell | {"test_set": test_set, "metric": metric, "value": np.nan, "status": "ok", "note": ""}
        if failed:
            row |= {"status": "failed", "note": "OutOfMemoryError: 9.1 GB wanted, 7.2 GB free; use a smaller batch."}
        elif cell["dataset"] == "solar_cells" and metric.startswith("pixel"):
            row |= {"status": "not_available", "note": "the dataset has image labels only"}
        else:
            level = LEVELS[cell["condition"]]
            row["value"] = _value(metric, cell["detector"], cell["category"], level, generator)
        rows.append(row)
    return rows


def make_run(with_noise: bool, with_failure: bool = True, pictures: bool = False) -> FakeRun:
    generator = np.random.default_rng(5)
    conditions = LEVELS if with_noise else {"clean": 0}
    metrics: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    scores: dict[str, pd.DataFrame] = {}
    parts: dict[str, tuple[ImagePart, np.ndarray | None, ImagePart | None]] = {}
    for dataset, categories in CATEGORIES.items():
        for category in categories:
            for detector in DETECTORS:
                for condition in conditions:
                    for seed in SEEDS if condition != "clean" else SEEDS[:1]:
                        cell = {
                            "dataset": dataset,
                            "category": category,
                            "detector": detector,
                            "image_size": 256,
                            "condition": condition,
                            "seed": seed,
                        }
                        failed = with_failure and (category, detector, seed, condition) == (
                            "poly",
                            "student_teacher",
                            SEEDS[-1] if with_noise else SEEDS[0],
                            "noise_8" if with_noise else "clean",
                        )
                        test_sets = ["full"]
                        if with_noise:
                            test_sets += [f"common_{s}" for s in (SEEDS if condition == "clean" else [seed])]
                        for test_set in test_sets:
                            metrics += _metric_rows(cell, test_set, failed, generator)
                        slow = 9 if detector == "student_teacher" else 1
                        costs.append(
                            cell
                            | {
                                "fit_seconds": np.nan if failed else slow * generator.uniform(6, 12),
                                "predict_ms_per_image": np.nan if failed else generator.uniform(18, 40),
                                "peak_memory_mb": np.nan if failed else generator.uniform(700, 1600),
                                "parameters": 3_400_000 * slow,
                                "epochs": slow,
                                "device": "cpu",
                                "libraries": "torch 2.15.0",
                                "n_train": 120,
                                "n_train_bad": round(1.2 * LEVELS[condition]),
                                "status": "failed" if failed else "ok",
                                "note": "OutOfMemoryError" if failed else "",
                            }
                        )
                        if condition == "clean" and not failed:
                            label = f"{dataset} / {category} / {detector} / 256 px / {condition} / seed {seed}"
                            shift = 4 - 8 * DIFFICULTY[category]
                            scores[label] = cell_scores(len(scores), shift=shift, folder=f"{category}/test")
                            if pictures:
                                images, maps, masks = image_part(scores[label], side=256)
                                parts[label] = (images, maps, None if dataset == "solar_cells" else masks)
    plan = {
        "experiment": "noisy_labels" if with_noise else "model_evaluation",
        "title": "Noisy labels" if with_noise else "Model evaluation",
        "demo_note": "Short trainings on 120 images per category; the numbers show that the machinery works, no more.",
        "seeds": list(SEEDS) if with_noise else [SEEDS[0]],
        "grid": {
            "datasets": list(CATEGORIES),
            "detectors": list(DETECTORS),
            "image_sizes": [256],
            "conditions": list(conditions),
        },
        "settings": {
            "patchcore": {"class_path": "shopfloor.detectors.patchcore.Patchcore", "init_args": {"coreset_ratio": 0.1}},
            "student_teacher": {"class_path": "anomalib.models.Stfpm", "init_args": {}, "epochs": 9},
        },
        "experiment_settings": {"noise_percent": [10, 20]},
        "dataset_settings": {"solar_cells": {"options": {"train_good": 120}}},
    }
    tables = {"metrics": with_kinds(pd.DataFrame(metrics)), "costs": with_kinds(pd.DataFrame(costs))}
    return FakeRun(plan, make_categories(), **tables, scores=scores, parts=parts)


def make_categories() -> pd.DataFrame:
    lines = []
    for dataset, categories in CATEGORIES.items():
        rendered = dataset == "machined_parts"
        for category in categories:
            lines.append(
                {
                    "dataset": dataset,
                    "category": category,
                    "image_size": 256,
                    "title": "Machined parts (generated)" if rendered else "Solar cells in electroluminescence",
                    "licence": "Apache-2.0" if rendered else "CC BY-NC-SA 4.0",
                    "source": "rendered by this package" if rendered else "pip package elpv-dataset",
                    "train_good": 120,
                    "test_good": 50,
                    "test_bad": 40,
                    "vanished": 2 if rendered else 0,
                    "lost_regions": 3 if rendered else 0,
                    "has_pixel_labels": rendered,
                    "generated": rendered,
                }
            )
    return pd.DataFrame(lines)


@pytest.fixture(scope="session")
def noisy_run() -> FakeRun:
    return make_run(with_noise=True)


@pytest.fixture(scope="session")
def evaluation_run() -> FakeRun:
    return make_run(with_noise=False)


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
