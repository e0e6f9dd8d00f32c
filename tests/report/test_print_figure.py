"""What is printed is read back from matplotlib and compared with the plotly figure, point by point."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.patches import Polygon, Rectangle
from plotly.subplots import make_subplots

from shopfloor.report.figures.overview import (
    cost_figure,
    drift_figure,
    noise_figure,
    overview_figures,
    score_histogram,
    size_figure,
)
from shopfloor.report.figures.print_figure import draw, print_below_one_another, print_figure
from shopfloor.report.figures.print_text import plain_text
from shopfloor.report.figures.training import training_figures
from tests.report.conftest import cell_scores, value_rows, with_kinds


def axes_of(drawing):
    return {axes.get_label(): axes for axes in drawing.axes if axes.get_label() != "paper"}


def panel_of(drawing, trace):
    return axes_of(drawing)[f"{trace.xaxis or 'x'}/{trace.yaxis or 'y'}"]


def as_floats(values):
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def texts_of(drawing):
    """Everything that is written anywhere, ticks and legends included."""
    drawing.canvas.draw()
    return [text.get_text() for text in drawing.findobj(lambda artist: hasattr(artist, "get_parse_math"))]


def all_figures(noisy_run, evaluation_run):
    """Every figure of the report."""
    for run in (noisy_run, evaluation_run):
        yield from overview_figures(run.metrics, run.costs).items()
        for label, scores in run.scores.items():
            yield label, score_histogram(scores)
    yield "nothing", score_histogram(pd.DataFrame({"label": [], "pred_score": []}))
    full = evaluation_run.metrics
    drifted = pd.concat([full.assign(test_set=f"drift_{seed}", value=full["value"] - 0.01 * seed) for seed in (1, 2)])
    drifted = with_kinds(drifted)
    yield "drift", drift_figure(pd.concat([full, drifted], ignore_index=True), "image_auroc")
    sizes = [full.assign(image_size=size, value=full["value"] - 10 / size) for size in (128, 256, 512)]
    yield "sizes", size_figure(pd.concat(sizes, ignore_index=True), "image_auroc")
    yield from training_figures(training_log()).items()


def training_log():
    names = {"dataset": "a", "category": "x", "detector": "p_$x", "image_size": 256, "condition": "clean"}
    lines = [
        {**names, "seed": seed, "epoch": epoch, "loss": "train_loss", "value": seed / epoch}
        for seed in (1, 2)
        for epoch in range(1, 30)
    ]
    return pd.DataFrame(lines)


def test_every_figure_of_the_report_is_printed_without_a_warning(noisy_run, evaluation_run):
    kinds = set()
    for title, figure in all_figures(noisy_run, evaluation_run):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawing = draw(figure)
            written = texts_of(drawing)
        assert not [text for text in written if "<" in text or "&" in text], title
        kinds |= {(trace.type, trace.mode if trace.type == "scatter" else None) for trace in figure.data}
        scatters = [trace for trace in figure.data if trace.type == "scatter" and trace.mode != "none"]
        lines = [line for axes in drawing.axes for line in axes.get_lines() if line.get_gid() is None]
        places = [np.stack([line.get_xdata(), line.get_ydata()]) for line in lines]
        for trace in scatters:
            wanted = np.stack([as_floats(trace.x), as_floats(trace.y)])
            found = [place.shape == wanted.shape and np.allclose(place, wanted, equal_nan=True) for place in places]
            assert any(found), (title, trace.name)
    assert len(kinds) >= 5  # bars, lines, lines with markers, markers with and without texts, bands


def test_points_lines_and_bands_of_each_panel(noisy_run):
    figure = noise_figure(noisy_run.metrics, "image_auroc")
    drawing = draw(figure)
    assert len(axes_of(drawing)) == 3
    for label, axes in axes_of(drawing).items():
        traces = [trace for trace in figure.data if f"{trace.xaxis}/{trace.yaxis}" == label]
        lines = [trace for trace in traces if trace.mode == "lines+markers"]
        curves = [line for line in axes.get_lines() if line.get_linestyle() != "None"]  # not the ends of error bars
        for trace, line in zip(lines, curves, strict=True):
            assert np.array_equal(line.get_xdata(), trace.x)
            assert np.array_equal(line.get_ydata(), as_floats(trace.y), equal_nan=True)
            assert to_hex(line.get_color()) == trace.line.color.lower()
        bands = [trace for trace in traces if trace.fill == "toself"]
        polygons = [patch for patch in axes.patches if isinstance(patch, Polygon)]
        assert bands
        for trace, polygon in zip(bands, polygons, strict=True):
            corners = np.asarray(polygon.get_path().vertices)[:-1]
            assert np.array_equal(corners, np.column_stack([trace.x, trace.y]))
            assert to_rgba(polygon.get_facecolor())[-1] == pytest.approx(0.15)
        y_axis = figure.layout[f"yaxis{label.split('/y')[1]}"]
        assert axes.get_ylim() == pytest.approx(y_axis.range)
    *upper, lowest = list(axes_of(drawing).values())
    assert lowest.get_xlabel() == "mislabelled training images, %"
    assert [text.get_text() for text in lowest.get_xticklabels()] == ["0", "4", "8", "16"]
    assert not any(label.get_visible() for axes in upper for label in axes.get_xticklabels())
    tops = [axes.get_position().y0 for axes in axes_of(drawing).values()]
    assert tops == sorted(tops, reverse=True)
    assert {"solar_cells", "machined_parts", "mean over datasets", "patchcore"} <= set(texts_of(drawing))


def test_costs_are_logarithmic_and_the_front_has_steps(evaluation_run):
    figure = cost_figure(evaluation_run.metrics, evaluation_run.costs, "fit_seconds")
    drawing = draw(figure)
    (axes,) = axes_of(drawing).values()
    assert axes.get_xscale() == "log"
    assert np.log10(axes.get_xlim()) == pytest.approx(figure.layout.xaxis.range)
    assert [line.get_drawstyle() for line in axes.get_lines()][0] == "steps-post"
    note = next(text for text in axes_and_paper_texts(drawing) if "student_teacher" in text.get_text())
    title = axes.xaxis.label.get_window_extent()
    assert note.get_window_extent().y1 <= title.y0  # below the title of the axis, inside the paper
    assert note.get_window_extent().y0 >= 0


def axes_and_paper_texts(drawing):
    return [text for axes in drawing.axes for text in axes.texts]


def test_bars_and_thresholds_of_a_histogram():
    figure = score_histogram(cell_scores(3))
    (axes,) = axes_of(draw(figure)).values()
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    good, bad = figure.data[:2]
    assert [bar.get_height() for bar in bars] == pytest.approx([*good.y, *bad.y])
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    assert centres == pytest.approx([*good.x, *bad.x])
    assert {bar.get_hatch() for bar in bars[: len(good.x)]} == {None}
    assert {bar.get_hatch() for bar in bars[len(good.x) :]} == {"/////"}  # told apart without colour
    assert [line.get_xdata()[0] for line in axes.get_lines()] == pytest.approx(
        [trace.x[0] for trace in figure.data[2:]]
    )
    styles = [line.get_linestyle() for line in axes.get_lines()]
    assert len(styles) == 2 and axes.get_lines()[0]._dash_pattern != axes.get_lines()[1]._dash_pattern
    texts = [text.get_text() for text in axes.texts]
    assert texts[0].startswith("PG2 at ") and texts[0].endswith(" % of good below") and "\n" in texts[0]


def test_error_bars_categories_and_a_reversed_axis(evaluation_run):
    figure = go.Figure(
        go.Scatter(
            x=[1, 2],
            y=["b_$y", "a"],
            mode="markers",
            error_x={"type": "data", "array": [0.5, None], "arrayminus": [0.25, None], "symmetric": False},
        )
    )
    figure.update_yaxes(autorange="reversed")
    (axes,) = axes_of(draw(figure)).values()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b_$y", "a"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    (segments,) = [bars.get_segments() for bars in axes.collections]
    assert segments[0].tolist() == [[0.75, 0], [1.5, 0]]
    by_category = next(iter(overview_figures(evaluation_run.metrics, evaluation_run.costs).values()))
    (axes,) = axes_of(draw(by_category)).values()
    assert axes.get_ylim() == tuple(by_category.layout.yaxis.range)
    assert axes.get_yticklabels()[0].get_text() == "mono\nsolar_cells"
    boundaries = [artist for artist in axes.lines if artist.get_zorder() == 0.5]
    assert [line.get_ydata().tolist() for line in boundaries] == [[0.5, 0.5], [1.5, 1.5], [2.5, 2.5]]


def rank_like():
    """A diagram of names, bars and arrows, with the kinds of parts that the report's other figures lack."""
    figure = go.Figure()
    figure.add_scatter(x=[1, 2], y=[1, 1], mode="lines", line={"color": "rgb(0,0,0)", "width": 5}, showlegend=False)
    figure.add_scatter(
        x=[1.5, 3], y=[0, 0], mode="markers+text", text=["p &lt;b&gt;", "q"], textposition="middle right",
        marker={"symbol": "circle-open", "size": 10, "color": "#D55E00", "line": {"width": 2}}, name="_ranks",
        showlegend=True,
    )  # fmt: skip
    figure.add_annotation(x=2, y=1, text="CD = <b>0.9</b>", ax=0, ay=-20, arrowhead=0)
    figure.add_shape(type="rect", x0=1, x1=2, y0=0, y1=1, xref="x", yref="paper", fillcolor="#eee", layer="below")
    figure.update_xaxes(autorange="reversed", side="top", title="average rank", dtick=1)
    return figure.update_yaxes(visible=False, range=[-1, 2])


@pytest.mark.parametrize("through_json", [False, True])
def test_names_arrows_and_rectangles(through_json):
    figure = rank_like()
    figure.add_scatter(x=np.array([1.0, 2.0]), y=np.array([0.5, 0.25]), mode="lines", name="arrays")
    if through_json:  # plotly writes arrays in base 64
        figure = plotly.io.from_json(figure.to_json())
    drawing = draw(figure)
    (axes,) = axes_of(drawing).values()
    assert {"p <b>", "q", "CD = 0.9", "_ranks", "average rank"} <= set(texts_of(drawing))
    assert [line.get_xdata().tolist() for line in axes.get_lines()] == [[1, 2], [1.5, 3], [1, 2]]
    ranks = axes.get_lines()[1]
    assert ranks.get_markerfacecolor() == "none" and ranks.get_markeredgecolor() == to_rgba("#D55E00")
    assert axes.get_xlim()[0] > axes.get_xlim()[1] and not axes.yaxis.get_visible()
    assert axes.xaxis.get_label_position() == "top"
    arrow = next(text for text in axes.texts if text.get_text() == "CD = 0.9")
    assert arrow.xy == (2, 1) and arrow.arrow_patch is not None
    (box,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert np.array_equal(box.get_bbox().extents, [1, 0, 2, 1]) and box.get_zorder() < ranks.get_zorder()


def test_annotations_on_a_logarithmic_axis_are_exponents():
    figure = go.Figure(go.Scatter(x=[1, 100], y=[0, 1], mode="lines")).update_xaxes(type="log")
    figure.add_annotation(x=1, y=0.5, text="ten", showarrow=False)
    figure.add_shape(type="line", x0=10, x1=10, y0=0, y1=1)
    (axes,) = axes_of(draw(figure)).values()
    assert axes.texts[0].xy == (10, 0.5)
    assert axes.lines[-1].get_xdata().tolist() == [10, 10]


def test_an_area_ends_at_a_gap():
    x, y = [0, 1, 1, None, 5, 6, 6], [0, 0, 1, None, 0, 0, 1]
    (axes,) = axes_of(draw(go.Figure(go.Scatter(x=x, y=y, fill="toself", mode="none")))).values()
    outlines = [np.asarray(patch.get_path().vertices)[:-1].tolist() for patch in axes.patches]
    assert outlines == [[[0, 0], [1, 0], [1, 1]], [[5, 0], [6, 0], [6, 1]]]


def test_matching_axes_share_their_limits():
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True)
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", row=1, col=1)
    figure.add_scatter(x=[5, 9], y=[0, 1], mode="lines", row=2, col=1)
    first, second = axes_of(draw(figure)).values()
    assert first.get_xlim() == second.get_xlim()
    assert first.get_xlim()[0] < 0 and first.get_xlim()[1] > 9


@pytest.mark.parametrize(
    ("figure", "named"),
    [
        (go.Figure(go.Pie(values=[1, 2])), "'pie'"),
        (go.Figure(go.Heatmap(z=[[1]])), "'heatmap'"),
        (go.Figure(go.Scatter(x=[1], y=[1], stackgroup="s")), "stackgroup"),
        (go.Figure(go.Scatter(x=[1], y=[1], fill="tozeroy")), "'tozeroy'"),
        (go.Figure(go.Scatter(x=[1], y=[1], mode="lines", line={"dash": "5px,2px"})), "'5px,2px'"),
        (go.Figure(go.Scatter(x=[1], y=[1], mode="lines", line={"shape": "spline"})), "'spline'"),
        (go.Figure(go.Scatter(x=[1], y=[1], mode="markers", marker={"symbol": "y-up"})), "'y-up'"),
        (go.Figure(go.Scatter(x=[1, 2], y=[1, 2], mode="markers", marker={"size": [1, 2]})), "differ in size"),
        (go.Figure(go.Bar(x=[1], y=[1], orientation="h")), "orientation"),
        (go.Figure([go.Bar(x=[1], y=[1]), go.Bar(x=[1], y=[1])]), "'group'"),
        (go.Figure(layout={"xaxis": {"type": "date"}}), "'date'"),
        (go.Figure(layout={"yaxis": {"overlaying": "y2"}}), "overlaying"),
        (go.Figure(layout={"shapes": [{"type": "circle", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]}), "'circle'"),
        (go.Figure(layout={"images": [{"source": "x"}]}), "images"),
        (go.Figure(layout={"annotations": [{"text": "a", "x": 0, "y": 0, "xref": "x7", "showarrow": False}]}), "'x7'"),
    ],
)
def test_what_cannot_be_printed_is_refused_by_name(figure, named):
    with pytest.raises(ValueError, match=named):
        draw(figure)


def test_picture_is_as_wide_as_a_column_and_holds_everything(noisy_run):
    figure = noise_figure(noisy_run.metrics, "image_auroc")
    picture = print_figure(figure)
    assert picture.mode == "RGB" and picture.width == 1800
    pixels = np.asarray(picture.convert("L"))
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge == 255).all() for edge in edges)  # nothing is cut
    blue = np.abs(np.asarray(picture).astype(int) - (0x00, 0x72, 0xB2)).max(axis=-1) < 10
    assert blue.sum() > 3_000


def test_nothing_is_cut_however_long_the_names(noisy_run):
    long = {name: f"{name} {'long ' * 20}" for name in noisy_run.metrics["detector"].unique()}
    metrics = noisy_run.metrics.assign(
        detector=noisy_run.metrics["detector"].map(long), category=noisy_run.metrics["category"] + " name" * 20
    )
    costs = noisy_run.costs.assign(
        detector=noisy_run.costs["detector"].map(long), category=noisy_run.costs["category"] + " name" * 20
    )
    for title, figure in overview_figures(metrics, costs).items():
        pixels = np.asarray(print_figure(figure).convert("L"))
        edges = {"above": pixels[0], "below": pixels[-1], "left": pixels[:, 0], "right": pixels[:, -1]}
        assert [name for name, edge in edges.items() if (edge < 255).any()] == [], title


def test_lines_are_told_apart_in_grey():
    rows = [
        value_rows([("a", "x", f"d{number}", 1, "image_auroc", 0.9 - number / 50)], image_size=size)
        for number in range(8)
        for size in (128, 256)
    ]
    (axes,) = axes_of(draw(size_figure(pd.concat(rows, ignore_index=True), "image_auroc"))).values()
    looks = {(str(line.get_marker()), str(line._dash_pattern)) for line in axes.get_lines()}
    assert len(looks) == 8
    assert len({str(line.get_marker()) for line in axes.get_lines()}) == 8


def test_plain_text():
    written = "a<br>b <i>c</i> <b class='x'>d</b><br/>e &amp;&lt;b&gt; 5 < 6 > 4"
    assert plain_text(written) == "a\nb c d\ne &<b> 5 < 6 > 4"


def test_figures_below_one_another_have_all_their_pixels_and_names():
    tables = {name: score_histogram(cell_scores(seed)) for seed, name in enumerate(("patchcore", "<b>padim"))}
    one = print_figure(score_histogram(cell_scores(0))).reduce(2)
    sheet = print_below_one_another(tables)
    assert sheet.height > 1.8 * one.height and abs(sheet.width - one.width) < 20
    assert [figure.layout.xaxis.title.text.partition(":")[0] for figure in tables.values()] == [
        "patchcore",
        "&lt;b&gt;padim",
    ]
