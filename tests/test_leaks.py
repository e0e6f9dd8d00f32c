"""No test data on any way to a training: proven of every pipeline, and a planted leak is refused."""

from __future__ import annotations

import pandas as pd
import pytest
from kedro.pipeline import Node, Pipeline

from shopfloor.leaks import LeakError, refuse_leaks
from shopfloor.perturbations.splits import SplitError, clean_split, holdout_split, supervised_split
from tests.perturbations.test_splits import make_index

TEST_DATA = {"test", "test_images", "test_masks", "scores", "maps", "metrics", "draw", "examples", "drift_report"}


def test_no_training_has_an_ancestor_that_carries_test_data(registered: dict[str, Pipeline]) -> None:
    """Walks every registered pipeline from every training back to the raw data."""
    fits = 0
    for pipeline in registered.values():
        maker = {output: node for node in pipeline.nodes for output in node.outputs}
        for fit in (node for node in pipeline.nodes if node.namespace == "training"):
            fits += 1
            waiting, seen = list(fit.inputs), set()
            while waiting:
                name = waiting.pop()
                if name in seen:
                    continue
                seen.add(name)
                assert name.rpartition(".")[2] not in TEST_DATA, f"{name} lies upstream of {fit.name}"
                waiting += maker[name].inputs if name in maker else []
    assert fits > 20


def _fit(*inputs: str) -> Node:
    return Node(lambda *_: None, list(inputs), "training.cell.checkpoint", name="cell", namespace="training")


@pytest.mark.parametrize(
    "nodes",
    [
        [_fit("perturbation.cell.train_images", "perturbation.cell.test_images")],
        [_fit("perturbation.cell.train_images", "evaluation.other.scores")],
        [
            # a stopping rule that is fed with scores of the test
            Node(lambda scores: scores, "evaluation.cell.metrics", "training.cell.patience", name="rule"),
            _fit("perturbation.cell.train_images", "training.cell.patience"),
        ],
        [
            # normalisation computed from the whole test part
            Node(lambda images: images, "perturbation.cell.test_images", "training.cell.mean", name="mean"),
            _fit("perturbation.cell.train_images", "training.cell.mean"),
        ],
    ],
)
def test_a_planted_leak_is_refused(nodes: list[Node]) -> None:
    with pytest.raises(LeakError, match="cell would be trained on test data"):
        refuse_leaks(Pipeline(nodes))


def test_what_is_cut_from_training_data_may_stop_a_training() -> None:
    refuse_leaks(Pipeline([_fit("perturbation.cell.train_images", "perturbation.cell.validation_images")]))


@pytest.mark.parametrize("split", [clean_split, lambda index: supervised_split(index, 3, 0, 5)])
def test_a_test_image_moved_to_train_is_refused_by_its_content(split) -> None:
    index = make_index()
    train, test = index.index[index["split"] == "train"][0], index.index[index["split"] == "test"][0]
    index.loc[train, "sha256"] = index.loc[test, "sha256"]
    with pytest.raises(SplitError, match="DUPLICATE_TRAIN_TEST"):
        split(index)


def contents(index: pd.DataFrame, table: pd.DataFrame) -> set[str]:
    return set(index.set_index("image").loc[table["image"], "sha256"])


def test_train_validation_and_test_are_disjoint_by_content() -> None:
    index = make_index(train_bad=20)
    train, validation, test, _ = holdout_split(index, 10, 7)
    parts = [contents(index, part) for part in (train, validation, test)]
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_a_validation_image_that_is_also_a_training_image_is_refused() -> None:
    index = make_index(train_bad=20)
    index.loc[index["split"] == "train", "sha256"] = "same"
    with pytest.raises(SplitError, match=r"DUPLICATE_TRAIN_VALIDATION.*training images are also validation"):
        holdout_split(index, 10, 7)
