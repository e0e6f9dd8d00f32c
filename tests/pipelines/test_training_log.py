"""The node that puts the logs of all trainings into one table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from shopfloor.report.tables.collecting import collect_training_log
from shopfloor.runners.missing import MissingResult

COLUMNS = ["dataset", "category", "detector", "image_size", "condition", "seed", "epoch", "seconds", "learning_rate",
           "loss", "value"]  # fmt: skip


def cell(detector, seed=1):
    return {
        "dataset": "d", "category": "c", "detector": detector, "image_size": 64, "condition": "clean", "seed": seed,
        "test_set": "full",
    }  # fmt: skip


def log_of(epochs=2, **losses):
    numbers = range(1, epochs + 1)
    return pd.DataFrame(
        {"epoch": numbers, "seconds": [0.5 * n for n in numbers], "learning_rate": [0.1 / n for n in numbers], **losses}
    )


def collect(logs, cells):
    return collect_training_log(*logs, cells=cells)


def test_a_line_per_training_epoch_and_loss():
    logs = [log_of(train_loss=[4.0, 3.0]), log_of(3, train_loss=[9.0, 8.0, 7.0])]
    table = collect(logs, [cell("draem"), cell("glass", seed=2)])
    assert list(table.columns) == COLUMNS
    assert table[["detector", "seed", "epoch", "value"]].values.tolist() == [
        ["draem", 1, 1, 4.0], ["draem", 1, 2, 3.0], ["glass", 2, 1, 9.0], ["glass", 2, 2, 8.0], ["glass", 2, 3, 7.0],
    ]  # fmt: skip
    assert set(table["loss"]) == {"train_loss"}
    assert list(table.index) == list(range(5))


def test_several_losses_keep_epoch_seconds_and_learning_rate():
    table = collect([log_of(train_loss=[4.0, 3.0], part_loss=[1.0, 0.5], auroc=[0.6, 0.7])], [cell("draem")])
    lines = {(line.loss, line.epoch): (line.value, line.seconds, line.learning_rate) for line in table.itertuples()}
    assert lines == {
        ("train_loss", 1): (4.0, 0.5, 0.1),
        ("train_loss", 2): (3.0, 1.0, 0.05),
        ("part_loss", 1): (1.0, 0.5, 0.1),
        ("part_loss", 2): (0.5, 1.0, 0.05),
    }


def test_a_loss_of_some_epochs_only_has_no_line_for_the_others():
    table = collect([log_of(3, train_loss=[4.0, 3.0, 2.0], late_loss=[np.nan, np.nan, 1.0])], [cell("draem")])
    late = table[table["loss"] == "late_loss"]
    assert late[["epoch", "value"]].values.tolist() == [[3, 1.0]]
    assert len(table) == 4


def test_further_learning_rates_are_left_out():
    table = collect([log_of(train_loss=[4.0, 3.0]).assign(learning_rate_2=0.7)], [cell("csflow")])
    assert list(table.columns) == COLUMNS and len(table) == 2


def test_a_detector_without_loss_keeps_its_epochs():
    table = collect([log_of(), log_of(train_loss=[4.0, 3.0])], [cell("padim"), cell("draem")])
    padim = table[table["detector"] == "padim"]
    assert padim["epoch"].tolist() == [1, 2] and padim["seconds"].tolist() == [0.5, 1.0]
    assert set(padim["loss"]) == {""} and padim["value"].isna().all()
    assert table["value"].notna().sum() == 2


def test_a_log_without_learning_rate_has_a_hole_there():
    table = collect([pd.DataFrame({"epoch": [1], "seconds": [0.5]})], [cell("padim")])
    assert list(table.columns) == COLUMNS
    assert len(table) == 1 and table["learning_rate"].isna().all()


def test_a_training_that_failed_has_no_lines_and_the_others_keep_their_names():
    hole = MissingResult("failed", "out of memory")
    logs = [log_of(train_loss=[4.0, 3.0]), hole, log_of(train_loss=[2.0, 1.0])]
    table = collect(logs, [cell("draem"), cell("glass"), cell("csflow")])
    assert table.groupby("detector")["value"].apply(list).to_dict() == {"draem": [4.0, 3.0], "csflow": [2.0, 1.0]}


def test_nothing_trained_is_a_table_without_lines():
    table = collect([MissingResult("missing", "not run")], [cell("draem")])
    assert table.empty and list(table.columns) == COLUMNS
    assert list(collect([], []).columns) == COLUMNS
