"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Results:
    """The results of an experiment as the catalog holds them, ``reporting.<experiment>.<attribute>``.

    Attributes:
        metrics: All metrics, as for `shopfloor.report.tables.value_tables.category_table`.
        costs: One line per training: the names of the cell, ``fit_seconds, predict_ms_per_image, peak_memory_mb,
            parameters, epochs, device, n_train, n_test, status, note``.
        scores: Raw score of every test image of every cell.
        categories: One line per category and image size: ``dataset, category, image_size, title, licence, source,
            train_good, test_good, test_bad, vanished, lost_regions, has_pixel_labels, generated``. Of a category
            that could not be read all but the names may be absent.
        training_log: Every epoch of every training.
        intervals: Image metrics of every cell with their bootstrap intervals.
        mean_intervals: Image metrics of every detector, means over the datasets, with their bootstrap intervals.
        differences: Differences of those means between detectors, with their bootstrap intervals.
        rank_table: Average ranks of the detectors over the categories.
        rank_figure: The critical-difference diagram.
        paper_tables: The paper's tables as HTML, by their names such as ``table_4``.
        against_paper: Published numbers beside the measured ones.
        drift_counts: How often each drift transform was drawn, per category and drift seed, and how many defects left
            the picture; None without drift.
        drift_alarm_table: How well the scores of good images tell drifted from clean ones, means per detector; None
            without drift.
    """

    metrics: pd.DataFrame
    costs: pd.DataFrame
    scores: pd.DataFrame
    categories: pd.DataFrame
    training_log: pd.DataFrame
    intervals: pd.DataFrame
    mean_intervals: pd.DataFrame
    differences: pd.DataFrame
    rank_table: pd.DataFrame
    rank_figure: Figure
    paper_tables: Mapping[str, str]
    against_paper: pd.DataFrame
    drift_counts: pd.DataFrame | None = None
    drift_alarm_table: pd.DataFrame | None = None
