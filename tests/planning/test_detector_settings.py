"""What only some detectors are told: planned, named and wired, or refused with the entry that is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
from kedro.pipeline import Node, Pipeline

from shopfloor.experiments.grid import GridError, expand_experiments
from shopfloor.pipeline_registry import experiment_pipeline
from shopfloor.planning.binding import bound
from shopfloor.planning.cell import Cell
from shopfloor.planning.leaks import LeakError, refuse_leaks
from shopfloor.planning.settings import FOREGROUND_METHODS
from tests.planning.keys import with_key


def parameters() -> dict[str, Any]:
    """Two categories; a detector with everything there is, and one with nothing of it."""
    plain = {"class_path": "some.Plain", "learning_type": "one_class", "batch_size": 8, "trainer": {"max_epochs": 3}}
    return {
        "datasets": {
            "cells": {"reader": "elpv", "categories": ["mono"], "foreground_folder": "/a/outlines"},
            "parts": {"reader": "folder", "categories": ["ring"], "generator": {"seed": 1}},
        },
        "backbones": {"net": {"weights": "random"}, "vit": {"weights": "random"}, "vit2": {"weights": "random"}},
        "textures": {
            "dtd": {"folder": "/a/dtd"},
            "made": {"generator": {"seed": 0, "count": 8}},
        },
        "foreground": {"mobile_sam": None},
        "detectors": {
            "rich": {
                **plain,
                "class_path": "some.Rich",
                "backbone": "net",
                "encoder": "vit",
                "textures": "dtd",
                "foreground": "automatic",
                "learning_type": "unsupervised",
                "balance": {"good": 6, "bad": 2, "batches": 5},
            },
            "plain": plain,
        },
        "model_evaluation": {
            "datasets": ["cells", "parts"],
            "detectors": ["rich", "plain"],
            "image_sizes": [64],
            "seeds": [7],
        },
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    """The parameters with one key set, e.g. ``detectors.rich.textures``."""
    return with_key(parameters(), path, value)


def cell_of(settings: dict[str, Any], detector: str = "rich", dataset: str = "cells") -> Cell:
    found = expand_experiments(settings)["model_evaluation"].cells
    (cell,) = (cell for cell in found if (cell.detector, cell.dataset) == (detector, dataset))
    return cell


# What cannot be planned


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (
            "detectors.rich.encoder",
            "vitt",
            "detectors.rich.encoder: 'vitt' is unknown. Known backbones: net, vit, vit2",
        ),
        ("detectors.rich.encoder", ["vit"], "detectors.rich.encoder"),
        ("backbones.vit", {"weight": "hub"}, "backbones.vit: unknown key weight"),
        ("detectors.rich.textures", "dtt", "detectors.rich.textures: 'dtt' is unknown. Known textures: dtd, made"),
        ("detectors.rich.textures", ["dtd"], "detectors.rich.textures"),
        ("textures.dtd", {"folders": "/a"}, "textures.dtd: unknown key folders"),
        ("textures.dtd", "/a/dtd", "textures.dtd: expected keys and values"),
        ("textures.dtd.folder", 5, "textures.dtd.folder"),
        ("textures.dtd.generator", 5, "textures.dtd.generator"),
        ("textures.dtd.generator", {"seed": 0}, "textures.dtd.generator.count: expected a whole number of at least 1"),
        ("textures.dtd.generator", {"seed": 0, "count": 0}, "textures.dtd.generator.count: expected a whole number"),
        ("textures.dtd.generator", {"seed": -1, "count": 2}, "textures.dtd.generator.seed: .*at least 0, found -1"),
        ("textures.dtd.generator", {"seed": 0, "count": 2, "size": 9}, "textures.dtd.generator: unknown key size"),
        ("textures", {"a.b": {}}, "textures: 'a.b' cannot be a name"),
        ("textures", ["dtd"], "textures: expected names with settings"),
        (
            "detectors.rich.foreground",
            "sam",
            "detectors.rich.foreground: 'sam' is none of automatic, folder, mobile_sam",
        ),
        ("detectors.rich.foreground", False, "detectors.rich.foreground: False is none of"),  # YAML's reading of "no"
        ("detectors.rich.foreground", ["automatic"], "detectors.rich.foreground: .* is none of"),
        ("detectors.rich.foreground_of", {"cells": "sam"}, "detectors.rich.*cells: 'sam' is none of"),
        ("detectors.rich.foreground_of", {"cells": None}, "detectors.rich.*cells: None is none of"),
        (
            "detectors.rich.foreground_of",
            {"cell": "none"},
            "foreground_of: cell is unknown. Known datasets: cells, parts",
        ),
        ("detectors.rich.foreground_of", ["cells"], "detectors.rich.foreground_of: expected datasets with a method"),
        ("detectors.rich.foregrounds", "none", "detectors.rich: unknown key foregrounds"),
        ("datasets.cells.foreground_folder", 5, "datasets.cells.foreground_folder"),
        ("detectors.rich.crop_textures", "yes", "detectors.rich.crop_textures: expected true or false"),
        ("detectors.rich.balance", 8, "detectors.rich.balance: expected good, bad and batches, found 8"),
        ("detectors.rich.balance", {}, "detectors.rich.balance.ba.*: expected a whole number"),
        ("detectors.rich.balance", {"good": 6, "bad": 2}, "detectors.rich.balance.batches: expected a whole number"),
        ("detectors.rich.balance.batches", 0, "detectors.rich.balance.batches: .*at least 1, found 0"),
        ("detectors.rich.balance.good", "6", "detectors.rich.balance.good: expected a whole number"),
        ("detectors.rich.balance.bad", True, "detectors.rich.balance.bad: expected a whole number"),
        ("detectors.rich.balance.god", 6, "detectors.rich.balance: unknown key god"),
        ("detectors.rich.balance.good", 7, "detectors.rich.balance: good and bad do not add up to batch_size, 8"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_entry(path: str, value: Any, text: str) -> None:
    settings = changed(path, value)
    if path == "datasets.cells.foreground_folder":
        settings["detectors"]["rich"]["foreground"] = "folder"
    with pytest.raises(GridError, match=text):
        expand_experiments(settings)


@pytest.mark.parametrize("method", FOREGROUND_METHODS)
def test_every_way_to_the_foreground_can_be_planned_in_general_and_for_a_dataset(method: str) -> None:
    assert cell_of(changed("detectors.rich.foreground", method)).foreground_method == method
    one = changed("detectors.rich.foreground_of", {"cells": method})
    assert cell_of(one).foreground_method == method
    assert cell_of(one, dataset="parts").foreground_method == "automatic"


def test_the_users_own_data_may_have_its_own_way_to_the_foreground(tmp_path) -> None:
    (tmp_path / "bolt" / "train" / "good").mkdir(parents=True)
    settings = changed("own_data", {"mine": {"root": str(tmp_path), "foreground_folder": "/a/masks"}})
    settings["detectors"]["rich"]["foreground_of"] = {"mine": "folder"}
    assert cell_of(settings, dataset="mine").foreground_method == "folder"


def test_without_these_settings_a_detector_is_told_nothing_more() -> None:
    cell = cell_of(parameters(), "plain")
    assert (cell.networks, cell.textures_entry, cell.foreground_method) == ({}, None, "none")
    assert cell_of(parameters()).networks == {"backbone": "net", "encoder": "vit"}


# Names


MADE = ("checkpoint", "fit_record", "fit_log", "maps", "scores", "metrics", "examples")
DATA = ("index", "images", "masks", "train", "test", "train_images", "test_images")
FOREGROUND = ("foreground", "foreground_preview")


@pytest.mark.parametrize(
    ("path", "value", "renamed"),
    [
        ("detectors.rich.textures", "made", ("textures", *MADE)),
        ("detectors.rich.crop_textures", True, ("textures", *MADE)),
        ("textures.dtd.folder", "/a/stones", ("textures", *MADE)),
        ("textures.dtd.folder", "/b/dtd", ()),
        ("textures.dtd.folder", "/a/dtd/", ()),
        ("textures.dtd.licence", "free", ()),
        ("textures.dtd.generator", {"seed": 0, "count": 8}, ("textures", *MADE)),
        ("textures.made.generator.seed", 1, ()),  # is another one's
        ("detectors.rich.foreground", "none", (*FOREGROUND, *MADE)),
        ("detectors.rich.foreground", "folder", (*FOREGROUND, *MADE)),
        ("detectors.rich.foreground", "mobile_sam", (*FOREGROUND, *MADE)),
        ("detectors.rich.foreground_of", {"cells": "folder"}, (*FOREGROUND, *MADE)),
        ("detectors.rich.foreground_of", {"parts": "folder"}, ()),
        ("detectors.rich.foreground_of", {"cells": "automatic"}, ()),  # as in general
        ("datasets.cells.foreground_folder", "/a/other", ()),  # as long as they are not used
        ("detectors.rich.encoder", "vit2", MADE),
        ("backbones.vit.weights", "hub", MADE),
        ("backbones.vit2.weights", "hub", ()),
        ("backbones.vit.mean", [0.5, 0.5, 0.5], MADE),
        ("detectors.rich.balance", {"good": 4, "bad": 4, "batches": 5}, MADE),
        ("detectors.plain.textures", "made", ()),  # is another one's
    ],
)
def test_a_changed_setting_renames_what_depends_on_it_only(path: str, value: Any, renamed: tuple[str, ...]) -> None:
    before, after = cell_of(parameters()), cell_of(changed(path, value))
    everything = (*DATA, "textures", *FOREGROUND, *MADE)
    assert [what for what in everything if getattr(before.names, what) != getattr(after.names, what)] == [
        what for what in everything if what in renamed
    ]
    if not path.startswith("detectors.plain"):
        assert (
            cell_of(parameters(), "plain").names.measure_key == cell_of(changed(path, value), "plain").names.measure_key
        )


def test_the_users_masks_count_by_the_name_of_their_folder() -> None:
    def with_folder(folder: str) -> Cell:
        settings = changed("datasets.cells.foreground_folder", folder)
        settings["detectors"]["rich"]["foreground"] = "folder"
        return cell_of(settings)

    one, moved, other = map(with_folder, ("/a/outlines", "/b/outlines", "/a/drawn"))
    assert one.names.foreground == moved.names.foreground != other.names.foreground
    assert one.names.checkpoint == moved.names.checkpoint != other.names.checkpoint


def test_textures_are_shared_by_all_categories_and_made_for_each_size() -> None:
    settings = changed("model_evaluation.image_sizes", [64, 128])
    rich = [cell for cell in expand_experiments(settings)["model_evaluation"].cells if cell.detector == "rich"]
    assert len(rich) == 4
    assert len({cell.names.textures for cell in rich}) == 2
    assert len({cell.names.foreground for cell in rich}) == 4


@pytest.mark.parametrize(("textures", "n_stacks"), [("dtd", 2), ("made", 1)])
def test_detectors_that_crop_and_squeeze_share_generated_textures_only(textures: str, n_stacks: int) -> None:
    settings = changed("detectors.plain.textures", textures)
    settings["detectors"]["rich"] |= {"textures": textures, "crop_textures": True}
    assert len({cell_of(settings, name).names.textures for name in ("rich", "plain")}) == n_stacks
    wired = experiment_pipeline(expand_experiments(settings)["model_evaluation"])
    makers = [node for node in wired.nodes if node.name.endswith("prepare_textures")]
    assert sorted(bound(node.func)["crop"] for node in makers) == [False, True][:n_stacks]


def test_detectors_that_segment_alike_share_their_foreground() -> None:
    settings = changed("detectors.plain.foreground", "automatic")
    assert cell_of(settings, "plain").names.foreground == cell_of(settings, "rich").names.foreground


def test_names_have_the_form_of_the_house() -> None:
    cell = cell_of(parameters())
    assert re.fullmatch(r"data_prep\.textures\.dtd\.64\.[0-9a-f]{8}\.images", cell.names.textures)
    assert re.fullmatch(
        r"perturbation\.cells\.mono\.64\.clean\.automatic\.[0-9a-f]{8}\.foreground", cell.names.foreground
    )
    assert re.fullmatch(r"training\.vit\.[0-9a-f]{8}\.weights", cell.names.weights("vit"))


# Wires


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return experiment_pipeline(expand_experiments(parameters())["model_evaluation"])


def planned_cells() -> tuple[Cell, ...]:
    """The cells of that pipeline."""
    return expand_experiments(parameters())["model_evaluation"].cells


def maker_of(pipeline: Pipeline, output: str) -> Node:
    (node,) = (node for node in pipeline.nodes if output in node.outputs)
    return node


def test_a_training_takes_what_its_detector_is_told_and_no_more(pipeline: Pipeline) -> None:
    rich, plain = cell_of(parameters()), cell_of(parameters(), "plain")
    told = {
        "params:backbones.net",
        rich.names.weights("net"),
        rich.names.weights("vit"),
        rich.names.textures,
        rich.names.foreground,
    }
    assert set(maker_of(pipeline, rich.names.checkpoint).inputs) == {
        rich.names.train_images,
        rich.names.detector_params,
        *told,
    }
    assert set(maker_of(pipeline, plain.names.checkpoint).inputs) == {
        plain.names.train_images,
        plain.names.detector_params,
    }
    assert rich.names.fit_log in maker_of(pipeline, rich.names.checkpoint).outputs


def test_a_training_takes_each_thing_under_the_name_of_its_argument(pipeline: Pipeline) -> None:
    cell = cell_of(parameters())
    node = maker_of(pipeline, cell.names.checkpoint)
    arguments = node._inputs  # the only place where Kedro keeps the names of arguments
    assert isinstance(arguments, dict)
    assert arguments["encoder_weights"] == cell.names.weights("vit")
    assert arguments["backbone_weights"] == cell.names.weights("net")
    assert arguments["textures"] == cell.names.textures
    assert arguments["foreground"] == cell.names.foreground


def test_each_network_is_read_once(pipeline: Pipeline) -> None:
    nodes = [node for node in pipeline.nodes if node.name.endswith(".load_weights")]
    assert sorted(node.inputs[0] for node in nodes) == ["params:backbones.net", "params:backbones.vit"]


def test_textures_are_made_of_their_entry_alone(pipeline: Pipeline) -> None:
    assert maker_of(pipeline, cell_of(parameters()).names.textures).inputs == ["params:textures.dtd"]
    assert sum(node.name.endswith("prepare_textures") for node in pipeline.nodes) == 1


def test_the_foreground_is_made_of_training_images(pipeline: Pipeline) -> None:
    for dataset in ("cells", "parts"):
        cell = cell_of(parameters(), dataset=dataset)
        found = maker_of(pipeline, cell.names.foreground)
        assert set(found.inputs) == {cell.names.train_images, cell.dataset_params, "params:foreground"}
        assert set(maker_of(pipeline, cell.names.foreground_preview).inputs) == {
            cell.names.train_images,
            cell.names.foreground,
        }
    assert sum(node.name.endswith("find_foreground") for node in pipeline.nodes) == 2


def test_a_dataset_without_foreground_has_none_made() -> None:
    settings = changed("detectors.rich.foreground_of", {"cells": "none"})
    pipeline = experiment_pipeline(expand_experiments(settings)["model_evaluation"])
    made = {output for node in pipeline.nodes for output in node.outputs if output.endswith(".foreground")}
    assert made == {cell_of(settings, dataset="parts").names.foreground}
    cell = cell_of(settings)
    assert cell.names.foreground not in maker_of(pipeline, cell.names.checkpoint).inputs


def test_the_report_shows_the_log_of_every_training_and_every_foreground(pipeline: Pipeline) -> None:
    cells = planned_cells()
    logs = maker_of(pipeline, "reporting.model_evaluation.training_log").inputs
    assert {cell.names.fit_log for cell in cells} == set(logs)
    shown = set(maker_of(pipeline, "reporting.model_evaluation.report").inputs)
    previews = {cell.names.foreground_preview for cell in cells if cell.detector == "rich"}
    assert previews < shown
    assert {name for name in shown if name.endswith("foreground_preview")} == previews
    assert "reporting.model_evaluation.training_figure" in shown
    drawn_of = maker_of(pipeline, "reporting.model_evaluation.training_figure").inputs
    assert drawn_of == ["reporting.model_evaluation.training_log"]


# Leaks


def test_no_test_data_on_the_way(pipeline: Pipeline) -> None:
    refuse_leaks(pipeline, planned_cells())


@pytest.mark.parametrize("what", ["test_images", "test_masks", "test", "maps of another detector"])
def test_a_foreground_made_of_test_data_is_refused(pipeline: Pipeline, what: str) -> None:
    cell, other = cell_of(parameters()), cell_of(parameters(), "plain")
    source = other.names.maps if what.startswith("maps") else getattr(cell.names, what)
    others = [node for node in pipeline.nodes if cell.names.foreground not in node.outputs]
    planted = Node(lambda *_: None, [cell.names.train_images, source], cell.names.foreground, name="peek")
    with pytest.raises(LeakError, match=f"would be trained on {re.escape(source)}, which peek takes"):
        refuse_leaks(Pipeline([*others, planted]), planned_cells())


def test_textures_made_of_test_images_are_refused(pipeline: Pipeline) -> None:
    cell = cell_of(parameters())
    others = [node for node in pipeline.nodes if cell.names.textures not in node.outputs]
    planted = Node(lambda images: images, cell.names.test_images, cell.names.textures, name="cut_out")
    with pytest.raises(
        LeakError, match=f"would be trained on {re.escape(cell.names.test_images)}, which cut_out takes"
    ):
        refuse_leaks(Pipeline([*others, planted]), planned_cells())
