"""Entries of the parameter files become frozen models, and what is wrong is said with its path and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shopfloor.config import ProjectConfigLoader
from shopfloor.detectors.stopping_rule import StoppingRule
from shopfloor.entries import AnyNumber, Keys, Names, OneOf, Percentage, Seed, Settings, Text, WholeNumber
from shopfloor.experiments.grid import expand_experiments
from shopfloor.perturbations.drift_settings import DriftSettings
from shopfloor.planning.errors import GridError
from shopfloor.planning.settings import (
    DetectorSettings,
    ExperimentSettings,
    ForegroundSettings,
    Only,
    ProjectSettings,
    read_settings,
)
from shopfloor.settings import CONFIG_LOADER_ARGS

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ("base", "test", "paper")


class Inner(Settings):
    """A part of an entry."""

    count: WholeNumber


class Entry(Settings):
    """An entry with a value of every kind."""

    size: WholeNumber = 1
    sizes: Annotated[tuple[WholeNumber, ...], AnyNumber] = ()
    seed: Seed = 0
    percent: Percentage = 50
    names: Names = ("a",)
    title: Text = ""
    options: Keys = {}
    colour: Annotated[str, OneOf("red", "blue")] | None = None
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    flag: bool = True


def refused(values: Any) -> str:
    with pytest.raises(GridError) as error:
        read_settings(Entry, "block.entry", values)
    return error.value.message


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (3, "block.entry: expected keys and values, found 3."),
        (["size"], "block.entry: expected keys and values, found ['size']."),
        (
            {"sizee": 3, "sead": 1},
            "block.entry: unknown key sead, sizee. Known keys: colour, flag, inner, inners, names, options, percent, "
            "seed, size, sizes, title.",
        ),
        ({7: 3}, "block.entry: unknown key 7. Known keys: "),
        ({"size": 0}, "block.entry.size: expected a whole number of at least 1, found 0."),
        ({"size": "8"}, "block.entry.size: expected a whole number of at least 1, found '8'."),
        ({"size": 8.0}, "block.entry.size: expected a whole number of at least 1, found 8.0."),
        ({"size": True}, "block.entry.size: expected a whole number of at least 1, found True."),
        ({"size": None}, "block.entry.size: expected a whole number of at least 1, found None."),
        ({"sizes": [8, 0, "x"]}, "block.entry.sizes: expected a whole number of at least 1, found 0."),
        ({"sizes": {"a": 1}}, "block.entry.sizes: expected a list, found {'a': 1}."),
        ({"seed": -1}, "block.entry.seed: expected a whole number of at least 0, found -1."),
        ({"percent": 100}, "block.entry.percent: 100 is not a percentage between 0 and 100."),
        ({"percent": False}, "block.entry.percent: False is not a percentage between 0 and 100."),
        ({"percent": float("nan")}, "block.entry.percent: nan is not a percentage between 0 and 100."),
        ({"names": []}, "block.entry.names: expected a list with at least one entry, found []."),
        ({"names": None}, "block.entry.names: expected a list with at least one entry, found None."),
        ({"title": 3}, "block.entry.title: expected a text, found 3."),
        ({"options": ["x"]}, "block.entry.options: expected keys and values, found ['x']."),
        ({"colour": "green"}, "block.entry.colour: 'green' is none of blue, red."),
        ({"flag": "no"}, "block.entry.flag: expected true or false, found 'no'."),
        ({"inner": {}}, "block.entry.inner.count: expected a whole number of at least 1, found nothing."),
        ({"inner": {"count": 0}}, "block.entry.inner.count: expected a whole number of at least 1, found 0."),
        ({"inner": {"coun": 1}}, "block.entry.inner: unknown key coun. Known keys: count."),
        ({"inner": 5}, "block.entry.inner: expected keys and values, found 5."),
        ({"inners": 5}, "block.entry.inners: expected a list, found 5."),
    ],
)
def test_what_is_wrong_is_said_with_the_path_of_its_key(values: Any, text: str) -> None:
    assert refused(values).startswith(text)


def test_everything_that_is_wrong_is_said_line_by_line() -> None:
    assert refused({"size": 0, "seed": "x", "inner": {"count": 0}}).splitlines() == [
        "block.entry.size: expected a whole number of at least 1, found 0.",
        "block.entry.seed: expected a whole number of at least 0, found 'x'.",
        "block.entry.inner.count: expected a whole number of at least 1, found 0.",
    ]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@given(values=st.dictionaries(st.sampled_from(sorted(Entry.model_fields)), PLAIN, max_size=4) | PLAIN)
def test_no_text_of_pydantic_reaches_a_user(values: Any) -> None:
    try:
        entry = read_settings(Entry, "block.entry", values)
    except GridError as error:
        for line in error.message.split("\nblock.entry"):
            assert line.startswith(("block.entry", ".", ":"))
            assert any(word in line for word in ("expected ", "unknown key", "is none of", "is not a percentage"))
        assert "pydantic" not in error.message and "Input should" not in error.message
    else:
        assert entry.given == (values or {})


def test_one_entry_counts_as_a_list_of_one() -> None:
    assert read_settings(Entry, "x", {"names": "a", "sizes": 3}).model_dump(include={"names", "sizes"}) == {
        "names": ("a",),
        "sizes": (3,),
    }
    assert read_settings(Entry, "x", {"names": [1, "b"]}).names == ("1", "b"), "YAML may read a name as a number"


def test_numbers_stay_what_they_are() -> None:
    """Names of results are made of them, and 25 is another text than 25.0."""
    assert [json.dumps(Entry(percent=value).percent) for value in (25, 25.0)] == ["25", "25.0"]


def test_settings_are_frozen() -> None:
    entry = Entry(size=2)
    with pytest.raises(ValidationError):
        entry.size = 3
    assert entry.size == 2


def test_an_entry_is_kept_as_it_was_given() -> None:
    values = {"options": None, "percent": 25.0, "names": "a"}
    assert read_settings(Entry, "x", values).given == values
    assert read_settings(Entry, "x", None).given == {}


def test_what_narrows_a_run_may_be_one_text() -> None:
    assert read_settings(Only, "only", {"datasets": "a/b + c"}).datasets == ("a/b", "c")
    assert read_settings(Only, "only", {"datasets": ["a", "b"]}).datasets == ("a", "b")


# The project's own files


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def parameters(request: pytest.FixtureRequest) -> dict[str, Any]:
    return ProjectConfigLoader(str(PROJECT / "conf"), env=request.param, **CONFIG_LOADER_ARGS)["parameters"]


EXPERIMENTS = ("model_evaluation", "input_size", "data_drift", "noisy_labels", "supervised", "validation")


def test_every_block_of_the_projects_files_is_accepted(parameters: dict[str, Any]) -> None:
    project = ProjectSettings(parameters)
    for entries in (project.datasets, project.own_data, project.detectors, project.backbones, project.textures):
        assert [entry.given for entry in entries.values()] == [parameters_of or {} for parameters_of in
                parameters[entries.block].values()]  # fmt: skip
    blocks = ("only", "foreground", "data_prep", "bootstrap", "drift_alarm", "paper_tables")
    assert all(getattr(project, block).given == parameters[block] for block in blocks)
    read_settings(DriftSettings, "data_drift.drift", parameters["data_drift"]["drift"])
    for name, rule in parameters["validation"]["stopping"].items():
        if rule:
            read_settings(StoppingRule, f"validation.stopping.{name}", rule)
    for name in EXPERIMENTS:
        shared = {key: value for key, value in parameters[name].items() if key in ExperimentSettings.model_fields}
        assert read_settings(ExperimentSettings, name, shared).datasets == tuple(parameters[name]["datasets"])
    known = {*blocks, *EXPERIMENTS, "datasets", "own_data", "detectors", "backbones", "textures"}
    assert set(parameters) - known == {"sensum_sodf_test_good"}, "a block without a model"


def test_an_entry_that_nothing_uses_may_be_wrong() -> None:
    project = ProjectSettings({"detectors": {"bad": {"class_pat": 1}}, "foreground": None})
    assert list(project.detectors) == ["bad"]
    assert project.foreground == ForegroundSettings()
    with pytest.raises(GridError, match="detectors.bad: unknown key class_pat"):
        project.detectors["bad"]


@pytest.mark.parametrize(
    ("block", "key", "value", "text"),
    [
        ("bootstrap", "level", 95, "bootstrap.level: expected a number between 0 and 1, found 95."),
        ("drift_alarm", "batch_size", [8], "drift_alarm: unknown key batch_size. Known keys: batch_sizes, "),
        ("paper_tables", "rows_and_columns", "all", "paper_tables.rows_and_columns: 'all' is none of paper, run."),
    ],
)
def test_a_wrong_setting_of_the_report_is_refused_before_anything_runs(
    parameters: dict[str, Any], block: str, key: str, value: Any, text: str
) -> None:
    with pytest.raises(GridError) as error:
        expand_experiments({**parameters, block: {**parameters[block], key: value}})
    assert error.value.message.startswith(text)


def test_the_length_of_a_training_is_asked_for_where_no_trainer_is_named() -> None:
    entry = {"class_path": "a.B", "learning_type": "one_class", "batch_size": 1}
    with pytest.raises(GridError, match=r"^detectors\.x\.trainer: say max_epochs or max_steps"):
        read_settings(DetectorSettings, "detectors.x", entry)


DETECTOR = {"class_path": "a.B", "learning_type": "one_class", "batch_size": 1, "trainer": {"max_epochs": 1}}


@pytest.mark.parametrize("ratio", [0, -0.1, 1.5, float("nan"), "0.1", True, None, [0.1]])
def test_a_coreset_of_no_share_of_the_patches_is_refused(ratio: Any) -> None:
    entry = {**DETECTOR, "init_args": {"layers": ["a"], "coreset_sampling_ratio": ratio}}
    with pytest.raises(GridError) as error:
        read_settings(DetectorSettings, "detectors.x", entry)
    expected = "expected a number above 0, 1 at most"
    assert error.value.message == f"detectors.x.init_args.coreset_sampling_ratio: {expected}, found {ratio!r}."


@pytest.mark.parametrize("devices", [2, 0, -1, "auto", "1", [0, 1], [], [-1], ["0"], True, None])
def test_more_than_one_device_is_refused(devices: Any) -> None:
    """Lightning would start the whole run again for each of them."""
    entry = {**DETECTOR, "trainer": {"max_epochs": 1, "devices": devices}}
    with pytest.raises(GridError) as error:
        read_settings(DetectorSettings, "detectors.x", entry)
    expected = "expected 1, or the number of one device in a list (a training runs on one)"
    assert error.value.message == f"detectors.x.trainer.devices: {expected}, found {devices!r}."


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"init_args": [1]}, "init_args: expected keys and values, found [1]."),
        ({"init_args": {3: 4}}, "init_args: expected a text as key, found 3."),
        ({"trainer": 3}, "trainer: expected keys and values, found 3."),
        ({"trainer": {"max_epochs": 1, "accelerator": 3}}, "trainer.accelerator: expected a text, found 3."),
    ],
)
def test_arguments_are_keys_and_values(entry: dict[str, Any], text: str) -> None:
    with pytest.raises(GridError) as error:
        read_settings(DetectorSettings, "detectors.x", {**DETECTOR, **entry})
    assert error.value.message == f"detectors.x.{text}"


def test_arguments_that_are_not_known_here_are_taken_as_they_stand() -> None:
    init_args = {"layers": ["a"], "coreset_sampling_ratio": 1, "own": {"b": None}}
    trainer = {"max_steps": 5, "precision": "16-mixed", "devices": [0], "accelerator": "mine"}
    settings = read_settings(DetectorSettings, "detectors.x", {**DETECTOR, "init_args": init_args, "trainer": trainer})
    assert (settings.init_args, settings.trainer) == (init_args, trainer)
    assert read_settings(DetectorSettings, "detectors.x", {**DETECTOR, "init_args": None}).init_args == {}
