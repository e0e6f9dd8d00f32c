"""Figures of trainings: the loss of each epoch, one figure per detector because losses have no common scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from shopfloor.report.figures.overview import OKABE_ITO, empty_figure, numbers, safe

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MOST_LINES = 24


def main_loss(log: pd.DataFrame) -> str | None:
    """The loss to draw of one detector: the total, where it logs several; None where it logs none.

    Args:
        log: Lines of one detector's trainings, with a column ``loss`` (its name).
    """
    names = [name for name in log["loss"].unique() if name]
    preferred = [name for name in ("train_loss", "loss", "train_loss_total") if name in names]
    return (preferred or names or [None])[0]


def training_figures(log: pd.DataFrame) -> dict[str, Figure]:
    """Loss against epoch, by title, for each detector that was trained for more than one epoch.

    Args:
        log: One line per training, epoch and loss: ``dataset, category, detector, image_size, condition, seed, epoch,
            loss, value``. Of many trainings the first 24 are drawn.
    """
    figures = {}
    for detector, lines in log.groupby("detector", sort=False):
        name = main_loss(lines)
        if name is None or lines["epoch"].max() < 2:
            continue
        figures[f"Training of {detector}: {name} per epoch"] = _figure(lines[lines["loss"] == name])
    return figures


def _figure(lines: pd.DataFrame) -> Figure:
    figure = empty_figure(height=320, x_title="epoch", y_title=safe(str(lines["loss"].iloc[0])))
    trainings = lines.groupby(["dataset", "category", "image_size", "condition", "seed"], sort=False)
    for number, ((dataset, category, size, condition, seed), line) in enumerate(trainings):
        if number == _MOST_LINES:
            break
        # Only the names may be cut, not what tells the lines of one detector apart.
        name = f"{safe(f'{dataset} / {category}')}, {size} px, {safe(str(condition))}, seed {seed}"
        figure.add_scatter(
            x=line["epoch"].tolist(),
            y=numbers(line["value"]),
            mode="lines",
            line={"color": OKABE_ITO[number % len(OKABE_ITO)], "width": 1.5},
            name=name,
            hovertemplate=f"{name}<br>epoch %{{x}}: %{{y:.4g}}<extra></extra>",
        )
    return figure.update_layout(legend={"y": -0.25, "yanchor": "top"})
