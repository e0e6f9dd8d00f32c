"""The advice of a run that is refused is a command that works as it is."""

from __future__ import annotations

import click
import pytest
from kedro.pipeline import Node, Pipeline

from shopfloor.runners.refusals import Accepted, _command, _whole_pipeline_of

RUN = ["/venv/bin/kedro", "run"]


@pytest.mark.parametrize(
    ("arguments", "setting", "pipeline", "advice"),
    [
        ([], "accept_changed=a", None, "kedro run --params=accept_changed=a --only-missing-outputs"),
        (
            ["--env", "test", "--params", "only.datasets=a+b"], "accept_changed=a+b", None,
            "kedro run --env=test --params=only.datasets=a+b,accept_changed=a+b --only-missing-outputs",
        ),
        (
            ["--params=accept_changed=a,only.datasets=a+b", "--only-missing-outputs"], "accept_changed=a+b", None,
            "kedro run --params=only.datasets=a+b,accept_changed=a+b --only-missing-outputs",
        ),
        (
            ["--namespaces=evaluation", "--env=test", "-t", "padim"], "", "__default__",
            "kedro run --env=test --only-missing-outputs",
        ),
        (
            ["--pipeline=evaluation"], "", "input_size",
            "kedro run --pipeline=input_size --only-missing-outputs",
        ),
        (
            ["--runner=shopfloor.runners.LocalRunner", "--runner-params=shard=1/2"], "", "__default__",
            "kedro run --runner=shopfloor.runners.LocalRunner --runner-params=shard=prepare --only-missing-outputs",
        ),
        (["--params=a=x y"], "b=1", None, "kedro run --params='a=x y,b=1' --only-missing-outputs"),
    ],
)  # fmt: skip
def test_the_advice_is_this_command_as_it_should_be(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], setting: str, pipeline: str | None, advice: str
) -> None:
    monkeypatch.setattr("sys.argv", [*RUN, *arguments])
    assert _command(setting=setting, pipeline=pipeline) == advice


def test_the_module_run_as_a_program_is_advised_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/src/shopfloor/__main__.py", "--env=test"])
    assert _command(setting="a=1") == "python -m shopfloor --env=test --params=a=1 --only-missing-outputs"


def test_the_pipeline_that_is_named_makes_everything_that_the_result_rests_on() -> None:
    make = Node(lambda: None, None, "images", name="make")
    fit = Node(lambda images: images, "images", "weights", name="fit")
    registered = {"training": Pipeline([fit]), "noisy_labels": Pipeline([make, fit])}
    assert _whole_pipeline_of(fit, registered) == "noisy_labels"
    assert _whole_pipeline_of(None, registered) is None


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ({}, Accepted()),
        ({"accept_changed": "a"}, Accepted(("a",))),
        ({"accept_changed": "a/b+c", "hash_everything": True}, Accepted(("a/b", "c"), hash_everything=True)),
        ({"accept_changed": ["a", "b"], "only": {"datasets": "a"}}, Accepted(("a", "b"))),
        ({"accept_changed": 1}, Accepted(("1",))),
    ],
)
def test_what_is_accepted_is_read_from_run_time_parameters(given: dict[str, object], accepted: Accepted) -> None:
    assert Accepted.of(given) == accepted


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"accept_change": "a"}, "accept_change is no parameter. Is accept_changed meant?"),
        ({"hash_everything": "yes"}, "hash_everything: say true or false, not 'yes'"),
        ({"replace_untraced": 1}, "replace_untraced: say true or false"),
    ],
)
def test_a_wrong_run_time_parameter_is_named(given: dict[str, object], text: str) -> None:
    with pytest.raises(click.ClickException, match=text):
        Accepted.of(given)
