"""Parameters become cells, cells become names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shopfloor.experiments.grid import GridError, expand_experiments
from shopfloor.planning.cell import Cell
from shopfloor.planning.names import digest, slug
from tests.planning.keys import with_key

SEEDS = [3341, 1954]


def parameters() -> dict[str, Any]:
    return {
        "datasets": {
            "cells": {"reader": "elpv", "categories": ["mono", "poly"]},
            "parts": {"reader": "folder", "categories": ["ring"], "generator": {"seed": 1}},
        },
        "backbones": {"net": {"weights": "random"}},
        "detectors": {
            "patchcore": {
                "class_path": "some.Patchcore",
                "init_args": {"layers": ["a"]},
                "backbone": "net",
                "learning_type": "one_class",
                "batch_size": 8,
                "trainer": {"max_epochs": 1},
            },
            "flow": {
                "class_path": "some.Flow",
                "learning_type": "one_class",
                "batch_size": 8,
                "trainer": {"max_epochs": 3},
                "size_multiple": 128,
            },
        },
        "model_evaluation": {
            "datasets": ["cells", "parts"],
            "detectors": ["patchcore", "flow"],
            "image_sizes": [256],
            "seeds": SEEDS[:1],
        },
        "noisy_labels": {
            "datasets": ["cells/mono"],
            "detectors": ["patchcore"],
            "image_sizes": [256],
            "noise_percent": [4, 8, 16],
            "seeds": SEEDS,
        },
    }


def cells(changed: dict[str, Any] | None = None, experiment: str = "model_evaluation") -> tuple[Cell, ...]:
    return expand_experiments(changed or parameters())[experiment].cells


def changed(path: str, value: Any) -> dict[str, Any]:
    """The parameters with one key set, e.g. ``detectors.flow.batch_size``."""
    return with_key(parameters(), path, value)


def test_model_evaluation_is_the_product_of_its_lists() -> None:
    found = {(c.dataset, c.category, c.detector, c.image_size, c.condition.name, c.seed) for c in cells()}
    assert found == {
        (dataset, category, detector, 256, "clean", 3341)
        for dataset, category in (("cells", "mono"), ("cells", "poly"), ("parts", "ring"))
        for detector in ("patchcore", "flow")
    }


def test_noisy_labels_has_every_level_on_both_test_sets_and_one_clean_training() -> None:
    found = sorted((c.condition.name, c.seed, c.test_set) for c in cells(experiment="noisy_labels"))
    drawn = [
        (f"noise_{p}", seed, test_set) for p in (4, 8, 16) for seed in SEEDS for test_set in ("full", f"common_{seed}")
    ]
    clean = [("clean", 3341, test_set) for test_set in ("full", "common_3341", "common_1954")]
    assert found == sorted(drawn + clean)
    assert len({c.names.checkpoint for c in cells(experiment="noisy_labels")}) == 1 + 3 * len(SEEDS)


def test_the_common_test_set_is_that_of_the_largest_level_of_the_same_seed() -> None:
    for cell in cells(experiment="noisy_labels"):
        if cell.common_draw:
            assert cell.common_draw.name == "noise_16"
            largest = next(
                c for c in cells(experiment="noisy_labels")
                if c.condition.name == "noise_16" and c.seed == cell.common_seed
            )  # fmt: skip
            assert cell.names.common_test == largest.names.test


def test_equal_cells_of_two_experiments_are_one() -> None:
    evaluation = {c.names.metrics: c for c in cells()}
    shared = [c for c in cells(experiment="noisy_labels") if c.names.metrics in evaluation]
    assert [(c.category, c.detector, c.test_set) for c in shared] == [("mono", "patchcore", "full")]
    assert shared[0] == evaluation[shared[0].names.metrics]


def test_names_have_the_form_of_the_house() -> None:
    cell = cells()[0]
    assert re.fullmatch(
        r"training\.cells\.mono\.patchcore\.256\.clean\.3341\.[0-9a-f]{8}\.checkpoint", cell.names.checkpoint
    )
    assert re.fullmatch(r"data_prep\.cells\.mono\.256\.[0-9a-f]{8}\.images", cell.names.images)
    assert re.fullmatch(r"perturbation\.cells\.mono\.clean\.[0-9a-f]{8}\.train", cell.names.train)


@pytest.mark.parametrize(
    ("path", "value", "kept", "renamed"),
    [
        ("detectors.patchcore.init_args.layers", ["b"], ["index", "images", "train_images", "weights"], ["checkpoint"]),
        ("detectors.flow.batch_size", 4, ["index", "images", "checkpoint", "metrics"], []),
        ("backbones.net.weights", "hub", ["images"], ["weights", "checkpoint", "metrics"]),
        (
            "model_evaluation.image_sizes",
            [128],
            ["index", "train", "weights"],
            ["images", "train_images", "checkpoint"],
        ),
        ("model_evaluation.seeds", [7], ["train", "train_images", "weights"], ["checkpoint", "scores", "metrics"]),
        ("datasets.cells.options", {"split_seed": 2}, ["weights"], ["index", "images", "train", "checkpoint"]),
        ("datasets.cells.root", "/elsewhere", ["index", "images", "checkpoint", "metrics"], []),
        ("datasets.cells.licence", "free", ["index", "checkpoint", "metrics"], []),
    ],
)
def test_a_changed_setting_renames_what_it_touches_only(
    path: str, value: Any, kept: list[str], renamed: list[str]
) -> None:
    before, after = cells()[0], cells(changed(path, value))[0]
    assert (before.category, before.detector) == (after.category, after.detector) == ("mono", "patchcore")
    for what in kept:
        assert name_of(before, what) == name_of(after, what), what
    for what in renamed:
        assert name_of(before, what) != name_of(after, what), what


def name_of(cell: Cell, what: str) -> str:
    return cell.names.weights("net") if what == "weights" else getattr(cell.names, what)


def test_networks_of_the_class_are_part_of_a_fit() -> None:
    named = changed("detectors.flow.networks", ["net"])
    cell = next(cell for cell in cells(named) if cell.detector == "flow")
    assert cell.own_networks == list(cell.network_settings) == ["net"]
    assert cell.networks == {}
    named["backbones"]["net"] = {"weights": "hub"}
    other = next(cell for cell in cells(named) if cell.detector == "flow")
    plain = next(cell for cell in cells() if cell.detector == "flow")
    assert len({cell.names.checkpoint, other.names.checkpoint, plain.names.checkpoint}) == 3


@pytest.mark.parametrize(("networks", "message"), [("net", "expected a list"), (["nut"], "'nut' is unknown")])
def test_networks_of_the_class_are_checked(networks: Any, message: str) -> None:
    with pytest.raises(GridError, match=f"detectors.flow.networks: {message}"):
        cells(changed("detectors.flow.networks", networks))


def test_moving_a_weight_file_renames_nothing_but_another_file_does() -> None:
    name = {
        file: cells(changed("backbones.net.weights", {"file": file}))[0].names.checkpoint
        for file in ("/a/w.pth", "/b/w.pth", "/a/v.pth")
    }
    assert name["/a/w.pth"] == name["/b/w.pth"] != name["/a/v.pth"]


def test_a_raised_detector_version_renames_its_fits() -> None:
    raised = cells(changed("detectors.patchcore.version", 2))[0]
    assert raised.names.checkpoint != cells()[0].names.checkpoint


def test_own_data_joins_every_experiment(tmp_path) -> None:
    for category in ("b", "a"):
        (tmp_path / category / "train" / "good").mkdir(parents=True)
    own = changed("own_data", {"mine": {"root": str(tmp_path)}})
    for experiment in ("model_evaluation", "noisy_labels"):
        found = {(c.dataset, c.category) for c in cells(own, experiment)}
        assert {("mine", "a"), ("mine", "b")} < found


def test_only_names_a_category_of_the_users_own_data(tmp_path) -> None:
    for category in ("b", "a"):
        (tmp_path / category / "train" / "good").mkdir(parents=True)
    own = changed("own_data", {"mine": {"root": str(tmp_path)}})
    own["only"] = {"datasets": ["mine/b"]}
    assert {(c.dataset, c.category) for c in cells(own)} == {("mine", "b")}
    own["only"] = {"datasets": ["mine/c"]}
    with pytest.raises(GridError, match="mine has no category 'c'"):
        cells(own)


def test_only_narrows_datasets_categories_and_detectors() -> None:
    narrowed = changed("only", {"datasets": "cells/poly", "detectors": ["flow"]})
    assert {(c.dataset, c.category, c.detector) for c in cells(narrowed)} == {("cells", "poly", "flow")}


def test_a_text_of_only_names_several() -> None:
    """As ``--params=only.datasets=cells/poly+parts``, where Kedro has no lists."""
    narrowed = changed("only", {"datasets": "cells/poly+parts", "detectors": "flow+patchcore"})
    asked = changed("only", {"datasets": ["cells/poly", "parts"], "detectors": ["flow", "patchcore"]})
    assert cells(narrowed) == cells(asked) != cells()
    assert {c.dataset for c in cells(narrowed)} == {"cells", "parts"}


@pytest.mark.parametrize("only", [None, {}, {"datasets": []}, {"datasets": [], "detectors": []}])
def test_only_without_keys_or_with_empty_lists_narrows_nothing(only: Any) -> None:
    assert cells(changed("only", only)) == cells()


def test_one_number_is_a_list_of_one() -> None:
    """As ``--params=model_evaluation.seeds=7``."""
    assert cells(changed("model_evaluation.seeds", 7)) == cells(changed("model_evaluation.seeds", [7]))


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (
            "model_evaluation.detectors",
            ["patchcor"],
            "model_evaluation.detectors: 'patchcor' is unknown.*flow, patchcore",
        ),
        ("model_evaluation.datasets", ["cell"], "model_evaluation.datasets: 'cell' is unknown.*cells, parts"),
        ("model_evaluation.datasets", ["cells/mona"], "no category 'mona'.*mono, poly"),
        ("model_evaluation.image_sizes", [200], "200 does not fit detector flow.*multiple of 128"),
        ("model_evaluation.image_sizes", ["256"], "image_sizes: expected a whole number"),
        ("model_evaluation.seeds", [], "model_evaluation.seeds: expected a list"),
        ("datasets.cells.categories", [1, 2], "datasets.cells.categories: 1 is not a text. Put names in quotes"),
        ("datasets.cells.options", ["strict_counts"], "datasets.cells.options: expected keys and values"),
        ("datasets.cells.root", 5, "datasets.cells.root: expected the path of a folder"),
        ("noisy_labels.noise_percent", [4, 120], "noise_percent: 120 is not a percentage"),
        ("detectors.flow.class_path", None, None),
        ("detectors.flow.learning_type", "oneclass", "detectors.flow.learning_type: 'oneclass' is none of"),
        ("detectors.flow.trainer", {}, "detectors.flow.trainer: say max_epochs"),
        ("detectors.flow.classpath", "x", "detectors.flow: unknown key classpath"),
        (
            "detectors.patchcore.backbone",
            "nett",
            "detectors.patchcore.backbone: 'nett' is unknown. Known backbones: net",
        ),
        ("datasets.cells.folder", "x", "datasets.cells: unknown key folder"),
        ("only.datasets", ["cels"], "only.datasets: cels is unknown"),
        ("only.datasets", "cells+cels", "only.datasets: cels is unknown"),
        ("only.datasets", None, "only.datasets: no name is given"),
        ("only.detectors", " ", "only.detectors: no name is given"),
        ("model_evaluation.seeds", True, "model_evaluation.seeds: expected a whole number"),
        ("own_data.cells", {"root": "x"}, "own_data: cells is the name of a dataset of the project"),
        ("own_data", {"my.parts": {"root": "x"}}, "'my.parts' cannot be a name"),
        ("detectors.flow.trainer", {"max_epochs": None}, "detectors.flow.trainer: say max_epochs"),
        ("detectors.flow.trainer", 3, "detectors.flow.trainer: expected keys and values"),
        ("backbones.net", {"weight": "hub"}, "backbones.net: unknown key weight"),
        ("model_evaluation.sedes", [1], "model_evaluation: unknown key sedes"),
        ("only", {"dataset": "cells"}, "only: unknown key dataset"),
        (
            "datasets.parts.generator",
            {"counts": {"train_god": 3}},
            "datasets.parts.generator.counts: unknown key train_god",
        ),
        ("own_data", {7: {"root": "x"}}, "own_data: 7 cannot be a name"),
        ("own_data.mine", {"root": 3}, "own_data.mine.root: expected the path of a folder"),
        ("detectors", 5, "detectors: expected names with settings below them, found 5"),
        ("own_data", ["x"], "own_data: expected names with settings"),
        ("own_data.mine", "/path", "own_data.mine: expected keys and values"),
    ],
)
def test_an_impossible_grid_is_refused_with_the_entry_that_asks_for_it(path: str, value: Any, text: str | None) -> None:
    wrong = changed(path, value)
    if text is None:
        del wrong["detectors"]["flow"]["class_path"]
        text = "detectors.flow.class_path: expected the full name of the detector's class, e.g. .*Padim, found nothing"
    with pytest.raises(GridError, match=re.compile(text, re.DOTALL)):
        expand_experiments(wrong)


def test_slugs_stay_inside_their_folder() -> None:
    for name in ("../../etc", "a/b", 'x"<script>', "11 ring cable lug", "x" * 300, "ä", "."):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", slug(name)), name


def test_names_that_share_a_slug_are_told_apart() -> None:
    both = cells(changed("datasets.cells.categories", ["mono", "a b", "a_b"]))
    names = {cell.names.index for cell in both if cell.dataset == "cells"}
    assert len(names) == 3


def test_digest_ignores_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
