"""Draw trainings: the loss of each epoch, one panel per detector because losses have no common scale."""

from __future__ import annotations

from typing import Any

import pandas as pd

from shopfloor.report.figures.style import WIDTH, Chart, empty_figure, finished, inline, one_line, tooltip

_MOST_LINES = 24
_PANEL_PIXELS = 220
_DASHES = ([1, 0], [6, 4], [2, 3], [8, 3, 2, 3], [12, 4])


def main_loss(log: pd.DataFrame) -> str | None:
    """Choose the loss to draw of one detector: the total, where it logs several; None where it logs none.

    Args:
        log: Lines of one detector's trainings, with a column ``loss`` (its name).
    """
    names = [name for name in log["loss"].unique() if name]
    preferred = [name for name in ("train_loss", "loss", "train_loss_total") if name in names]
    return (preferred or names or [None])[0]


def training_figure(log: pd.DataFrame) -> Chart:
    """Draw loss against epoch, a panel for each detector that was trained for more than one epoch.

    Colours are categories, dashes what else a training differs in.

    Args:
        log: One line per training, epoch and loss: ``dataset, category, detector, image_size, condition, seed, epoch,
            loss, value``. Of many trainings of a detector the first 24 are drawn.
    """
    import altair as alt

    drawn, notes = {}, []
    for detector, lines in log.groupby("detector", sort=False):
        name = main_loss(lines)
        if name is None or lines["epoch"].max() < 2:
            continue
        of_loss = _named(lines[lines["loss"] == name])
        trainings = list(of_loss["training"].unique())
        if len(trainings) > _MOST_LINES:
            notes.append(f"Of {len(trainings)} trainings of {detector} the first {_MOST_LINES} are drawn.")
        drawn[str(detector)] = of_loss[of_loss["training"].isin(trainings[:_MOST_LINES])]
    if not drawn:
        return empty_figure("No detector was trained for more than one epoch.")
    everything = pd.concat(drawn.values())
    parts, rests = list(everything["part"].unique()), list(everything["rest"].unique())
    looks = {
        "color": alt.Color(
            field="part", type="nominal", sort=None, legend=alt.Legend(title=None), scale=alt.Scale(domain=parts)
        ),
        "strokeDash": alt.StrokeDash(
            field="rest",
            type="nominal",
            sort=None,
            legend=alt.Legend(title=None),
            scale=alt.Scale(domain=rests, range=[_DASHES[place % len(_DASHES)] for place in range(len(rests))]),
        ),
    }
    panels = [_panel(lines, looks).properties(title=one_line(detector)) for detector, lines in drawn.items()]
    return finished(alt.vconcat(*panels), legend=[*parts, *rests], notes=notes)


def _named(lines: pd.DataFrame) -> pd.DataFrame:
    """Name each training by its category and by the rest of what tells it apart."""
    part = lines["dataset"].map(one_line) + " / " + lines["category"].map(one_line)
    rest = [
        f"{size} px, {one_line(condition)}, seed {seed}"
        for size, condition, seed in zip(lines["image_size"], lines["condition"], lines["seed"], strict=True)
    ]
    return lines.assign(part=part, rest=rest, training=part + ", " + rest)


def _panel(lines: pd.DataFrame, looks: dict[str, Any]) -> Any:
    """Draw the trainings of one detector."""
    import altair as alt

    loss = one_line(lines["loss"].iloc[0])
    whole = alt.Axis(tickMinStep=1, format="d")
    return (
        alt.Chart(inline(lines[["part", "rest", "epoch", "value"]]))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=alt.X(
                field="epoch", type="quantitative", title="epoch", scale=alt.Scale(zero=False, nice=False), axis=whole
            ),
            y=alt.Y(field="value", type="quantitative", title=loss, scale=alt.Scale(zero=False)),
            **looks,
            tooltip=tooltip(
                ("part", "category"), ("rest", "training"), ("epoch", "epoch", "d"), ("value", loss, ".4~g")
            ),
        )
        .properties(width=WIDTH, height=_PANEL_PIXELS)
    )
