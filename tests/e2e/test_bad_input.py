"""Bad input ends early with one clear message, no wall of code, and nothing half-written."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.running import command, results, unfinished_files
from tests.readers.trees import make_tree, save_image, save_mask

OWN = "own_data: {parts: {root: parts}}\n"
PARTS = (("a", "train", "good"), ("g", "test", "good"), ("b", "test", "bad"))


def write_local(project: Path, text: str) -> None:
    (project / "conf/local/parameters.yml").write_text(text, encoding="utf-8")


def run_own(project: Path, *arguments: str) -> tuple[int, str]:
    """Model evaluation of the user's own parts alone."""
    return command(project, "run", "--env=test", "--params=only.datasets=parts,only.detectors=padim", *arguments)


def assert_clear(code: int, output: str, *texts: str) -> None:
    assert code == 1, output
    assert "Traceback" not in output, output
    for text in texts:
        assert text in output, output


def no_root(project: Path) -> None:
    pass


def one_level_too_high(project: Path) -> None:
    make_tree(project / "parts" / "inner")


def empty_category(project: Path) -> None:
    make_tree(project / "parts")
    for path in (project / "parts/bolt/train/good").iterdir():
        path.unlink()


def unreadable_image(project: Path) -> None:
    make_tree(project / "parts")
    (project / "parts/bolt/test/good/000.png").write_bytes(b"\x89PNG not really")


def mask_of_another_size(project: Path) -> None:
    make_tree(project / "parts")
    save_mask(project / "parts/bolt/ground_truth/bent/000_mask.png", width=65)


@pytest.mark.parametrize(
    ("spoil", "texts"),
    [
        (no_root, ["[ROOT_MISSING]", "parts", "does not exist"]),
        (one_level_too_high, ["[LAYOUT_UNKNOWN]", "inner"]),
        (empty_category, ["[SPLIT_EMPTY] parts/bolt", "train"]),
        (unreadable_image, ["[IMAGE_UNREADABLE] parts/bolt", "test/good/000.png"]),
        (mask_of_another_size, ["[MASK_SIZE] parts/bolt", "65 x"]),
    ],
)
def test_a_spoilt_folder_is_named(project: Path, spoil: Callable[[Path], None], texts: list[str]) -> None:
    write_local(project, OWN)
    spoil(project)
    assert_clear(*run_own(project), *texts)
    assert unfinished_files(project) == []
    made = {path.split("/")[0] for path in results(project) if not path.endswith(".files.parquet")}
    assert made <= {"06_models", "08_reporting"}, "backbone weights and a report that shows the hole, nothing else"


@pytest.mark.parametrize(
    ("local", "arguments", "texts"),
    [
        (
            "model_evaluation: {detectors: [patchcor]}",
            [],
            ["model_evaluation.detectors: 'patchcor' is unknown", "padim"],
        ),
        ("model_evaluation: {datasets: [elvp]}", [], ["model_evaluation.datasets: 'elvp' is unknown", "elpv"]),
        ("detectors: {padim: {init_arg: {}}}", [], ["detectors.padim: unknown key init_arg"]),
        ("{}", ["--pipeline=noisy_labels", "--params=only.datasets=elpv/poly"], ["Nothing to run: the grid is empty"]),
        ("{}", ["--params=only.detectors=nothing"], ["only.detectors: nothing is unknown"]),
        ("{}", ["--params=only.datasets="], ["only.datasets: no name is given"]),
    ],
)
def test_an_impossible_grid_is_refused_before_anything_runs(
    project: Path, local: str, arguments: list[str], texts: list[str]
) -> None:
    write_local(project, local + "\n")
    assert_clear(*command(project, "run", *arguments), *texts)
    assert results(project) == {}


def test_missing_weights_say_which_file_and_cost_the_fits_only(project: Path) -> None:
    write_local(project, OWN + "backbones: {tf_efficientnet_lite0: {weights: {file: /no/such/weights.pth}}}\n")
    make_tree(project / "parts")
    assert_clear(*run_own(project), "/no/such/weights.pth", "tf_efficientnet_lite0")
    assert unfinished_files(project) == []
    assert not list((project / "data/06_models").rglob("*.pt"))


def test_a_missing_package_names_the_extra_that_brings_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the packages of the solar cells and of the weights, as if the extra ``demo`` were not installed."""
    real, hidden = importlib.util.find_spec, ("elpv", "efficientnet")
    find = lambda name, *rest: None if name.startswith(hidden) else real(name, *rest)  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", find)
    code, output = command(project, "run", "--env=test")
    assert_clear(code, output, "[PACKAGE_MISSING]", 'pip install -e ".[demo]"', "elpv", "efficientnet_lite0")
    assert unfinished_files(project) == []


def test_an_edited_list_is_noticed_although_no_image_changed(project: Path) -> None:
    write_local(project, OWN)
    (project / "parts").mkdir()
    rows = [f"{part}/{i}.png,{split},{label}" for part, split, label in PARTS for i in range(4)]
    for seed, row in enumerate(rows):
        save_image(project / "parts" / row.split(",")[0], seed)
    manifest = project / "parts/manifest.csv"
    manifest.write_text("\n".join(["image,split,label", *rows]) + "\n")
    assert run_own(project, "--namespaces=data_prep,perturbation,training")[0] == 0
    manifest.write_text(manifest.read_text().replace("b/0.png,test,bad", "b/0.png,test,good"))
    for arguments in ([], ["--only-missing-outputs"]):
        assert_clear(*run_own(project, *arguments), "[FOLDER_CHANGED] parts/parts", "b/0.png", "accept_changed=parts")


def test_a_folder_that_is_gone_is_missing_and_not_changed(project: Path) -> None:
    write_local(project, "own_data: {parts: {root: parts, categories: [bolt]}}\n")
    make_tree(project / "parts")
    assert run_own(project)[0] == 0
    (project / "parts").rename(project / "elsewhere")
    code, output = run_own(project, "--only-missing-outputs")
    assert code == 0 and " 0 to do" in output, "raw data that was put away makes no result outdated"
    assert "cannot be compared with what they were made from: [ROOT_MISSING] parts" in " ".join(output.split())
    code, output = run_own(project)
    assert code == 1 and "[ROOT_MISSING] parts" in output and "FOLDER_CHANGED" not in output


def test_a_folder_that_was_only_checked_may_change(project: Path) -> None:
    write_local(project, OWN)
    make_tree(project / "parts")
    check = ("run", "--env=test", "--pipeline=data_prep", "--params=only.datasets=parts")
    assert command(project, *check)[0] == 0
    save_image(project / "parts/bolt/train/good/added.png", 77)
    code, output = command(project, *check, "--only-missing-outputs")
    assert code == 0 and "nothing was trained on it: checked again" in output, output
    table = (project / "data/08_reporting/datasets/datasets.csv").read_text().splitlines()
    assert table[1].startswith("parts,bolt,passed,,5,"), "the added image is among the training images"


def test_a_missing_folder_of_the_users_own_does_not_stop_the_others(project: Path) -> None:
    write_local(project, "own_data: {parts: {root: parts}, lost: {root: nowhere}}\n")
    make_tree(project / "parts")
    local = (project / "conf/local/parameters.yml").read_text()
    write_local(project, local + "only: {datasets: [parts, lost]}\n")
    code, output = command(project, "run", "--pipeline=data_prep")
    assert_clear(code, output, "[ROOT_MISSING] lost", "bolt", "1 of 2 categories passed")
