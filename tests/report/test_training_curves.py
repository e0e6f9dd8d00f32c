"""Which loss is drawn, of which detectors, and that the lines hold the logged values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from shopfloor.report.figures.style import is_empty
from shopfloor.report.figures.training import main_loss, training_figure
from shopfloor.report.tables.collecting import collect_training_log
from tests.report.charts import edges, marks, panels, shapes, texts, values

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


def test_a_detector_that_logs_no_loss_has_no_panel(without_loss):
    log = together(without_loss, log_of([2, 1], detector="glass"))
    assert titles_of(training_figure(log)) == [("glass", "train_loss")]


def titles_of(figure):
    """Title and loss of each panel."""
    return [(panel["title"], panel["encoding"]["y"]["title"]) for panel in panels(figure)]


def test_one_panel_per_detector_in_the_order_of_the_log():
    log = together(log_of([3, 2, 1], detector="glass"), log_of([9, 8], loss="loss", detector="draem"))
    figure = training_figure(log)
    assert titles_of(figure) == [("glass", "train_loss"), ("draem", "loss")]
    assert {panel["encoding"]["x"]["title"] for panel in panels(figure)} == {"epoch"}
    assert [[point["value"] for point in panel["data"]["values"]] for panel in panels(figure)] == [[3, 2, 1], [9, 8]]


def test_detectors_of_one_epoch_are_left_out():
    log = together(log_of([5.0], detector="padim"), log_of([5.0, 4.0], detector="draem"))
    assert titles_of(training_figure(log)) == [("draem", "train_loss")]
    figure = training_figure(log[log["detector"] == "padim"])
    assert is_empty(figure) and "No detector was trained for more than one epoch." in texts(figure)


def test_an_empty_log_has_an_empty_figure():
    assert is_empty(training_figure(collect_training_log(cells=[])))


def lines_of(figure):
    """The values of each training by its names."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for point in values(figure, "line"):
        lines.setdefault((point["part"], point["rest"]), []).append((point["epoch"], point["value"]))
    return lines


def test_every_training_is_a_line_with_its_values():
    log = together(log_of([0.5, 0.25, 0.125]), log_of([7.0, 6.0], seed=2), log_of([1.0, 2.0, 3.0], category="e"))
    figure = training_figure(log)
    assert lines_of(figure) == {
        ("d / c", "64 px, clean, seed 1"): [(1, 0.5), (2, 0.25), (3, 0.125)],
        ("d / c", "64 px, clean, seed 2"): [(1, 7.0), (2, 6.0)],
        ("d / e", "64 px, clean, seed 1"): [(1, 1.0), (2, 2.0), (3, 3.0)],
    }
    looks = [(line.get("stroke"), line.get("stroke-dasharray")) for line in shapes(figure, "line mark")]
    assert len(set(looks)) == len(looks) == 3


@pytest.mark.parametrize("differing", ["dataset", "category", "image_size", "condition", "seed"])
def test_trainings_that_differ_in_one_coordinate_are_two_lines(differing):
    other = {"image_size": 128, "seed": 2}.get(differing, "other")
    figure = training_figure(together(log_of([2, 1]), log_of([3, 1], **{differing: other})))
    assert list(lines_of(figure).values()) == [[(1, 2), (2, 1)], [(1, 3), (2, 1)]]
    assert all({*name} <= set(texts(figure)) for name in lines_of(figure))


def test_only_the_total_is_in_the_lines():
    log = together(log_of([1, 2], loss="part_loss"), log_of([30, 20], loss="train_loss"))
    assert list(lines_of(training_figure(log)).values()) == [[(1, 30), (2, 20)]]


def test_names_from_disk_are_text():
    figure = training_figure(log_of([2, 1], category="<b>x</b> & y", loss="<i>loss</i>"))
    assert {"d / <b>x</b> & y", "<i>loss</i>"} <= set(texts(figure))


def test_of_many_trainings_the_first_24_are_drawn():
    figure = training_figure(together(*[log_of([2, 1], seed=seed) for seed in range(30)]))
    assert [rest.split()[-1] for _, rest in lines_of(figure)] == [str(seed) for seed in range(24)]
    assert "Of 30 trainings of draem the first 24 are drawn." in " ".join(figure.to_dict()["title"]["text"])
    assert not any(edges(figure).values())


def test_values_have_few_digits_and_a_hole_is_a_gap():
    of_epochs = np.random.default_rng(0).random(200)
    of_epochs[50] = np.nan
    figure = training_figure(log_of(of_epochs))
    drawn = [point["value"] for point in values(figure, "line")]
    assert drawn[50] is None and np.allclose(drawn[:50], of_epochs[:50], rtol=1e-5)
    (line,) = shapes(figure, "line mark")
    assert str(line.get("d")).count("M") == 2 and len(marks(figure, "line")) == 1
