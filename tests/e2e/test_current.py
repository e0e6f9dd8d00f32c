"""Results count only if they were made from what their inputs are now: across grids, sizes, filters and experiments."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.framework.hooks import hook_impl
from kedro.framework.startup import bootstrap_project
from PIL import Image

from shopfloor.catalog.image_stack import ImagePartDataset, stack_rows
from shopfloor.readers.pixels import read_image
from shopfloor.runners.refusals import FolderChangedError
from shopfloor.session import ShopfloorSession
from tests.e2e.own_parts import ACCEPTED, MINE, SIDE, make_project, metrics_of, photograph, trained
from tests.e2e.running import catalog_of, command, results, run


@pytest.fixture
def project(own_parts: Path) -> Path:
    """A project in which the model evaluation of the user's own parts is finished."""
    return own_parts


def assert_rows_are_their_files(project: Path) -> None:
    """Every row of every stack of images holds the pixels of the file that it is said to be of."""
    stacks = list((project / "data/05_model_input").glob("mine.*.images.npy"))
    assert stacks
    for path in stacks:
        stack = np.load(path, mmap_mode="r")
        rows = stack_rows(stack)
        assert rows is not None
        for pixels, name in zip(stack, rows["image"], strict=True):
            assert np.array_equal(pixels, read_image(project / "parts" / name, stack.shape[1])), f"{path}: {name}"


def test_a_finished_run_and_touched_photos_cost_nothing(project: Path) -> None:
    before = results(project)
    for path in (project / "parts").rglob("*.bmp"):
        os.utime(path)
    assert run(project, "model_evaluation", only_missing=True, params=MINE) == []
    assert results(project) == before


def test_stacks_of_other_sizes_follow_a_changed_folder(tmp_path: Path) -> None:
    """The folder changes after all sizes were prepared and before anything is trained."""
    for name in ("changed", "fresh"):
        (tmp_path / name).mkdir()
    changed, fresh = make_project(tmp_path / "changed"), make_project(tmp_path / "fresh")
    run(changed, "data_prep", params=MINE)
    for project in (changed, fresh):
        for number in (0, 3):
            (project / f"parts/bolt/test/good/{number:03}.bmp").unlink()
    for experiment in ("model_evaluation", "input_size"):
        run(changed, experiment, only_missing=True, params=MINE, to_outputs=[f"reporting.{experiment}.metrics"])
    assert_rows_are_their_files(changed)
    for part in (changed / "data/05_model_input").glob("mine.*.train_images.parquet"):
        images = ImagePartDataset(str(part)).load().table["image"]
        assert images.str.startswith("bolt/train/good/").all() and len(images) == 10
    run(fresh, "input_size", params=MINE, to_outputs=["reporting.input_size.metrics"])
    pd.testing.assert_frame_equal(metrics_of(changed, "input_size"), metrics_of(fresh, "input_size"))


def test_the_advice_of_a_changed_folder_followed_to_the_letter(project: Path) -> None:
    scores = "reporting.input_size.scores"
    run(project, "input_size", only_missing=True, params=MINE, to_outputs=[scores])
    photograph(project / "parts/bolt/test/good/new.bmp", 77)
    before = results(project)
    options = ["--env=test", "--params=only.datasets=mine,only.detectors=padim"]
    with pytest.raises(FolderChangedError):
        run(project, "model_evaluation", params=MINE)
    code, output = command(project, "run", *options, "--only-missing-outputs")
    assert code == 1 and "Traceback" not in output
    flat = " ".join(output.split())
    assert "[FOLDER_CHANGED] mine/bolt: 1 image or mask added" in flat and "bolt/test/good/new.bmp" in flat
    assert re.search(r"2 trainings rested on it \(\d+(\.\d)? (s|min|h) when made\)", flat), "of both experiments"
    assert results(project) == before, "nothing of the old results is touched"
    (advice,) = (line.strip() for line in output.splitlines() if line.strip().startswith("kedro run"))
    assert advice == f"kedro run {options[0]} {options[1]},accept_changed=mine --only-missing-outputs"
    code, output = command(project, *shlex.split(advice)[1:])
    assert code == 0, output
    ran = run(project, "input_size", only_missing=True, params=MINE, to_outputs=[scores])
    assert ran and not trained(ran), "the images that were trained on are the same"
    assert_rows_are_their_files(project)
    table = catalog_of(project).load(scores)
    assert table.groupby("image_size")["image"].nunique().to_dict() == {64: 13, 96: 13}
    assert run(project, "model_evaluation", only_missing=True, params=MINE) == []


def test_a_photo_replaced_by_another_of_equal_name_and_size_is_trained_on_again(project: Path) -> None:
    photo = project / "parts/bolt/train/good/004.bmp"
    size = photo.stat().st_size
    photograph(photo, 999)
    assert photo.stat().st_size == size
    with pytest.raises(FolderChangedError, match="train/good/004.bmp"):
        run(project, "model_evaluation", only_missing=True, params=MINE)
    assert trained(run(project, "model_evaluation", only_missing=True, params=ACCEPTED))
    assert_rows_are_their_files(project)
    assert run(project, "model_evaluation", only_missing=True, params=MINE) == []


def test_weights_swapped_under_their_name_are_trained_with_everywhere(project: Path) -> None:
    weights = torch.load(project / "weights.pth", weights_only=True)
    torch.save({name: tensor * 1.01 for name, tensor in weights.items()}, project / "weights.pth")
    up_to_training = {"namespaces": ["data_prep", "perturbation", "training"]}
    ran = run(project, "input_size", only_missing=True, params=MINE, **up_to_training)
    assert len(trained(ran)) == 2, "the size that the model evaluation had trained and the other one"
    assert any("load_weights" in name for name in ran)


def test_masks_of_the_foreground_and_textures_replaced_under_their_names_are_read_again(project: Path) -> None:
    for number in range(10):
        mask = project / f"masks/bolt/train/good/{number:03}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((SIDE, SIDE), 255, np.uint8)).save(mask)
        photograph(project / f"textures/{number}.bmp", number)
    params = {
        "only": {"datasets": ["mine"], "detectors": ["glass"]},
        "model_evaluation": {"detectors": ["glass"]},
        "own_data": {"mine": {"foreground_folder": str(project / "masks")}},
        "detectors": {"glass": {"foreground": "folder", "textures": "own"}},
        "textures": {"own": {"folder": str(project / "textures")}},
    }

    def prepare() -> set[str]:
        before_training = {"namespaces": ["data_prep", "perturbation"]}
        ran = run(project, "model_evaluation", only_missing=True, params=params, **before_training)
        return {name.rpartition(".")[2] for name in ran}

    assert {"find_foreground", "prepare_textures"} <= prepare()
    assert prepare() == set()
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(project / "masks/bolt/train/good/003.png")
    assert prepare() == {"find_foreground", "show_foreground"}
    photograph(project / "textures/5.bmp", 555)
    assert prepare() == {"prepare_textures"}


def test_a_metric_that_changed_in_a_partial_run_reaches_the_report(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = metrics_of(project, "model_evaluation")
    monkeypatch.setattr(
        "shopfloor.pipelines.evaluation.nodes.image_metrics", lambda *_: dict.fromkeys(before["metric"], 0.123)
    )
    run(project, "model_evaluation", params=MINE, namespaces=["evaluation"])
    pd.testing.assert_frame_equal(metrics_of(project, "model_evaluation"), before)
    ran = run(project, "model_evaluation", only_missing=True, params=MINE)
    assert ran and all(name.startswith("reporting.") for name in ran)
    after = metrics_of(project, "model_evaluation")
    assert set(after.loc[after["metric"].str.startswith("image_"), "value"]) == {0.123}
    assert run(project, "model_evaluation", only_missing=True, params=MINE) == []


def rename(project: Path, title: str) -> None:
    local = project / "conf/local/parameters.yml"
    local.write_text(local.read_text().replace("My bolts", title).replace("licence: mine", "licence: CC0"))


def test_titles_and_licences_reach_the_report_and_nothing_is_computed_for_them(project: Path) -> None:
    rename(project, "Bolts of 2031")
    ran = run(project, "model_evaluation", only_missing=True, params=MINE)
    assert {name.partition(".")[0] for name in ran} == {"data_prep", "reporting"} and not trained(ran)
    assert "Bolts of 2031" in (project / "data/08_reporting/model_evaluation/report.html").read_text(encoding="utf-8")


def test_a_run_that_ends_before_its_first_node_leaves_nothing_outdated_as_finished(project: Path) -> None:
    class Ends:
        @hook_impl
        def before_node_run(self) -> None:
            raise KeyboardInterrupt

    rename(project, "Bolts of 2032")
    bootstrap_project(project)
    with (
        pytest.raises(KeyboardInterrupt),
        ShopfloorSession.create(project_path=project, env="test", runtime_params=MINE) as session,
    ):
        assert isinstance(session, ShopfloorSession)
        session._hook_manager.register(Ends())
        session.run(pipeline_names=["model_evaluation"])
    assert run(project, "model_evaluation", only_missing=True, params=MINE)
    assert "Bolts of 2032" in (project / "data/08_reporting/model_evaluation/report.html").read_text(encoding="utf-8")
