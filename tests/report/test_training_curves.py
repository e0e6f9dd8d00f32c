"""Which loss is drawn, of which detectors, and that the lines hold the logged values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopfloor.report.figures.training import main_loss, training_figures
from shopfloor.report.tables.collecting import collect_training_log

CELL: dict[str, Any] = {
    "dataset": "d",
    "category": "c",
    "detector": "draem",
    "image_size": 64,
    "condition": "clean",
    "seed": 1,
}


def log_of(values, loss="train_loss", **cell):
    """Lines of one training: a value per epoch."""
    lines = {"epoch": range(1, len(values) + 1), "seconds": 1.0, "learning_rate": 0.1, "loss": loss, "value": values}
    return pd.DataFrame(lines).assign(**(CELL | cell))


def together(*logs):
    return pd.concat(logs, ignore_index=True)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["train_loss"], "train_loss"),
        (["part_loss", "train_loss", "other_loss"], "train_loss"),
        (["train_loss_a", "loss", "train_loss_b"], "loss"),
        (["train_loss_a", "train_loss_total", "train_loss_b"], "train_loss_total"),
        (["generator_loss", "discriminator_loss"], "generator_loss"),  # no total: the first
        ([], None),
    ],
)
def test_the_total_is_drawn_where_several_losses_are_logged(names, wanted):
    log = together(*[log_of([2.0, 1.0], loss=name) for name in names]) if names else log_of([])
    assert main_loss(log) == wanted


@pytest.fixture
def without_loss():
    """Two epochs of a detector that logs no loss, as the node that collects the logs writes them."""
    epochs = pd.DataFrame({"epoch": [1, 2], "seconds": [1.0, 1.0], "learning_rate": [0.1, 0.1]})
    return collect_training_log(epochs, cells=[CELL])


def test_a_detector_that_logs_no_loss_has_none_to_draw(without_loss):
    assert main_loss(without_loss) is None


def test_a_detector_that_logs_no_loss_has_no_figure(without_loss):
    log = together(without_loss, log_of([2, 1], detector="glass"))
    assert list(training_figures(log)) == ["Training of glass: train_loss per epoch"]


def test_one_figure_per_detector_in_the_order_of_the_log():
    log = together(log_of([3, 2, 1], detector="glass"), log_of([9, 8], loss="loss", detector="draem"))
    figures = training_figures(log)
    assert list(figures) == ["Training of glass: train_loss per epoch", "Training of draem: loss per epoch"]
    assert [figure.layout.yaxis.title.text for figure in figures.values()] == ["train_loss", "loss"]
    assert {figure.layout.xaxis.title.text for figure in figures.values()} == {"epoch"}


def test_detectors_of_one_epoch_are_left_out():
    log = together(log_of([5.0], detector="padim"), log_of([5.0, 4.0], detector="draem"))
    assert list(training_figures(log)) == ["Training of draem: train_loss per epoch"]
    assert training_figures(log[log["detector"] == "padim"]) == {}


def test_empty_log_has_no_figures():
    assert training_figures(collect_training_log(cells=[])) == {}


def test_every_training_is_a_line_with_its_values():
    log = together(log_of([0.5, 0.25, 0.125]), log_of([7.0, 6.0], seed=2), log_of([1.0, 2.0, 3.0], category="e"))
    (figure,) = training_figures(log).values()
    drawn = {line.name: (list(line.x), list(line.y)) for line in figure.data}
    assert drawn == {
        "d / c, 64 px, clean, seed 1": ([1, 2, 3], [0.5, 0.25, 0.125]),
        "d / c, 64 px, clean, seed 2": ([1, 2], [7.0, 6.0]),
        "d / e, 64 px, clean, seed 1": ([1, 2, 3], [1.0, 2.0, 3.0]),
    }
    assert all(line.mode == "lines" for line in figure.data)


@pytest.mark.parametrize("differing", ["dataset", "category", "image_size", "condition", "seed"])
def test_trainings_that_differ_in_one_coordinate_are_two_lines(differing):
    other = {"image_size": 128, "seed": 2}.get(differing, "other")
    (figure,) = training_figures(together(log_of([2, 1]), log_of([3, 1], **{differing: other}))).values()
    assert len(figure.data) == 2
    assert figure.data[0].name != figure.data[1].name


def test_only_the_total_is_in_the_lines():
    log = together(log_of([1, 2], loss="part_loss"), log_of([30, 20], loss="train_loss"))
    (figure,) = training_figures(log).values()
    assert [list(line.y) for line in figure.data] == [[30, 20]]


def test_lines_of_the_same_detector_can_be_told_apart():
    logs = [log_of([2, 1], dataset="metal_surfaces", category="rolled", image_size=256, condition="noise_16", seed=seed)
            for seed in (3341, 1954)]  # fmt: skip
    (figure,) = training_figures(together(*logs)).values()
    names = [line.name for line in figure.data]
    assert len(set(names)) == 2, names


def test_names_from_disk_are_no_markup():
    (figure,) = training_figures(log_of([2, 1], category="<b>x</b> & y", loss="<i>loss</i>")).values()
    line = figure.data[0]
    assert line.name == "d / &lt;b&gt;x&lt;/b&gt; &amp; y, 64 px, clean, seed 1"
    assert line.hovertemplate.startswith("d / &lt;b&gt;x&lt;/b&gt; &amp; y") and "<b>" not in line.hovertemplate
    assert figure.layout.yaxis.title.text == "&lt;i&gt;loss&lt;/i&gt;"


def test_of_many_trainings_the_first_24_are_drawn():
    (figure,) = training_figures(together(*[log_of([2, 1], seed=seed) for seed in range(30)])).values()
    assert [line.name.split()[-1] for line in figure.data] == [str(seed) for seed in range(24)]


def test_figure_is_small():
    """Plain numbers of few digits: a report holds many of these."""
    values = np.random.default_rng(0).random(200)
    (figure,) = training_figures(log_of(values)).values()
    assert np.allclose(figure.data[0].y, values, rtol=1e-5)
    assert len(figure.to_json()) < 6_000
