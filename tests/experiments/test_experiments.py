"""The paper's grid is that of the protocol (section 4), and each experiment asks for what it needs."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
import yaml

from shopfloor.experiments.grid import GridError, expand_experiments
from shopfloor.planning.cell import Cell, each_once
from tests.conftest import PROJECT, parameters_of
from tests.perturbations.test_drift import SETTINGS as TABLE_10
from tests.planning.keys import with_key

ONE_CLASS = {"patchcore", "reverse_distillation", "mmr", "csflow", "msflow", "simplenet", "draem", "glass"}
SEEDS = {3341, 1954, 1087}


@pytest.fixture(scope="module")
def paper() -> dict[str, tuple[Cell, ...]]:
    return {name: experiment.cells for name, experiment in expand_experiments(parameters_of("paper")).items()}


def trainings(cells: tuple[Cell, ...]) -> set[str]:
    return {cell.names.fit_key for cell in each_once(cells, "fit_key")}


def test_the_number_of_trainings_is_that_of_the_protocol(paper: dict[str, tuple[Cell, ...]]) -> None:
    e1 = trainings(paper["model_evaluation"])
    assert len(e1) == 8 * 49 == 392
    assert len(trainings(paper["input_size"]) - e1) == 8 * 12 * 2 == 192
    assert len(trainings(paper["input_size"]) & e1) == 8 * 12, "256 pixels are those of the model evaluation"
    drift = trainings(paper["data_drift"]) - e1
    assert len(drift) == 8, "synthetic drift trains nothing, AeBAD-S once per detector"
    noisy = trainings(paper["noisy_labels"])
    assert len(noisy - e1) == 1080 + 15
    assert len(noisy & e1) == 7 * 15, "the clean column is the model evaluation's"
    assert len(trainings(paper["supervised"])) == 2 * 15 * 3 == 90
    assert len(trainings(paper["validation"])) == 3 * 3 * 2 == 18
    every = set().union(*(trainings(cells) for cells in paper.values()))
    assert len(every) == 392 + 192 + 8 + 1095 + 90 + 18


def test_the_paper_lists_are_those_of_the_protocol(paper: dict[str, tuple[Cell, ...]]) -> None:
    def values(experiment: str, name: str) -> set[Any]:
        return {getattr(cell, name) for cell in paper[experiment]}

    assert values("model_evaluation", "detector") == values("input_size", "detector") == ONE_CLASS
    assert values("data_drift", "detector") == ONE_CLASS
    assert values("noisy_labels", "detector") == ONE_CLASS - {"glass"} | {"inreach"}
    assert values("supervised", "detector") == {"dra", "devnet"}
    assert values("validation", "detector") == {"csflow", "reverse_distillation", "simplenet"}
    categories = Counter(dataset for dataset, _ in {(c.dataset, c.category) for c in paper["model_evaluation"]})
    assert categories == {
        "btad": 3, "sensum_sodf": 2, "real_iad": 8, "viaduct": 12, "mpdd": 6, "visa": 12, "mvtec_loco": 5, "vad": 1
    }  # fmt: skip
    assert values("input_size", "dataset") == {"real_iad", "btad", "vad"}
    assert values("data_drift", "dataset") == {"real_iad", "btad", "vad", "aebad_s"}
    assert values("noisy_labels", "dataset") == values("supervised", "dataset") == {"vad", "sensum_sodf", "viaduct"}
    assert values("validation", "dataset") == {"vad"}
    assert values("input_size", "image_size") == {128, 256, 512}
    for experiment in set(paper) - {"input_size"}:
        assert values(experiment, "image_size") == {256}
    for experiment in ("model_evaluation", "input_size", "data_drift"):
        assert values(experiment, "seed") == {3341}
    for experiment in ("noisy_labels", "supervised", "validation"):
        assert values(experiment, "seed") == SEEDS


def test_the_training_lengths_are_those_of_the_paper() -> None:
    detectors = parameters_of("paper")["detectors"]
    epochs = {name: entry["trainer"]["max_epochs"] for name, entry in detectors.items()}
    assert {name: epochs[name] for name in (*ONE_CLASS, "inreach", "dra", "devnet")} == {
        "patchcore": 1, "reverse_distillation": 200, "csflow": 240, "mmr": 200, "msflow": 100, "simplenet": 160,
        "draem": 700, "glass": 640, "inreach": 1, "dra": 30, "devnet": 50,
    }  # fmt: skip


PAPER_DETECTORS = (*sorted(ONE_CLASS), "inreach", "dra", "devnet")
WIDE_RESNET = "wide_resnet50_2.tv_in1k"


def test_the_arguments_of_the_paper_are_those_of_its_specifications() -> None:
    """Protocol 1 and 5, no. 29; per detector the first section of its specification."""
    three = ["layer1", "layer2", "layer3"]
    blocks = [f"layer{stage}.{block}" for stage, numbers in (("1", "012"), ("2", "0123"), ("3", "12345"), ("4", "0"))
              for block in numbers]  # fmt: skip
    expected = {
        "patchcore": (WIDE_RESNET, {"layers": three[1:], "coreset_sampling_ratio": 0.1, "num_neighbors": 9}),
        "reverse_distillation": (WIDE_RESNET, {"layers": three, "bottleneck_width": 64}),
        "mmr": (WIDE_RESNET, {"layers": three}),
        "csflow": (
            "torchvision/efficientnet_b5.IMAGENET1K_V1",
            {"layer": "features.6.8", "cross_conv_hidden_channels": 1024, "n_coupling_blocks": 4},
        ),
        "msflow": (WIDE_RESNET, {"layers": three, "blocks": [2, 5, 8]}),
        "simplenet": (WIDE_RESNET, {"layers": three[1:], "embedding_size": 1536, "noise_std": 0.015}),
        "draem": (None, {}),
        "glass": (
            WIDE_RESNET,
            {"layers": three[1:], "pretrain_embed_dim": 1536, "target_embed_dim": 1536, "discriminator_hidden": 1024,
             "distribution": "spectrum", "batch_norm_sees_ones": True},
        ),
        "inreach": (
            WIDE_RESNET,
            {"layers": blocks, "pretrain_dimension": 1024, "target_dimension": 1024, "exchange_indices": True},
        ),
        "dra": ("resnet18.tv_in1k", {"layer": "layer4", "normal_references": False, "reference_pool": 2000}),
        "devnet": ("resnet18.tv_in1k", {"layer": "layer4", "rotation": True}),
    }  # fmt: skip
    detectors = parameters_of("paper")["detectors"]
    found = {name: (detectors[name].get("backbone"), detectors[name]["init_args"]) for name in PAPER_DETECTORS}
    assert found == expected
    assert detectors["mmr"]["encoder"] == "vit_base_patch16_224.mae"
    assert detectors["csflow"]["size_multiple"] == 128
    assert detectors["draem"]["textures"] == detectors["glass"]["textures"] == "dtd"
    assert detectors["glass"]["crop_textures"] and not detectors["draem"].get("crop_textures")
    assert detectors["glass"]["foreground_of"] == {"vad": "none", "btad": "none"}


def test_the_batches_of_the_paper_are_those_of_its_specifications() -> None:
    detectors = parameters_of("paper")["detectors"]
    assert {name: detectors[name]["batch_size"] for name in PAPER_DETECTORS} == {
        "patchcore": 16, "reverse_distillation": 16, "mmr": 16, "csflow": 16, "msflow": 8, "simplenet": 8, "draem": 8,
        "glass": 8, "inreach": 16, "dra": 48, "devnet": 48,
    }  # fmt: skip
    balanced = {name: detectors[name]["balance"] for name in PAPER_DETECTORS if "balance" in detectors[name]}
    assert balanced == {
        "dra": {"good": 32, "bad": 16, "batches": 20},
        "devnet": {"good": 24, "bad": 24, "batches": 20},
    }


@pytest.mark.parametrize("detector", PAPER_DETECTORS)
def test_no_argument_of_the_demo_is_left_in_the_paper(detector: str) -> None:
    """The environments are merged key by key, so what the paper's does not name would be the demo's."""
    files = {"base": "base/parameters_detectors.yml", "paper": "paper/parameters.yml"}
    read = {env: yaml.safe_load((PROJECT / "conf" / path).read_text())["detectors"][detector]
            for env, path in files.items()}  # fmt: skip
    assert set(read["base"].get("init_args") or {}) <= set(read["paper"].get("init_args") or {})


@pytest.mark.parametrize("detector", PAPER_DETECTORS)
def test_the_page_of_a_detector_shows_its_settings_in_the_paper(detector: str) -> None:
    page = (PROJECT / "docs/detectors" / f"{detector}.md").read_text()
    (shown,) = re.findall(rf"```yaml\n({detector}:.*?)```", page, flags=re.DOTALL)
    assert yaml.safe_load(shown) == {detector: parameters_of("paper")["detectors"][detector]}


def test_the_drift_of_the_paper_is_that_of_the_protocol() -> None:
    """Protocol 4.3 (Table 10) and 5, no. 1 to 9."""
    assert parameters_of("paper")["data_drift"]["drift"] == TABLE_10


def test_what_the_paper_shares_with_the_demo_is_that_of_the_protocol() -> None:
    """These values stand in conf/base alone, so a demo that is retuned would change the paper's runs."""
    settings = parameters_of("paper")
    assert settings["noisy_labels"]["noise_percent"] == [4, 8, 16]
    assert settings["noisy_labels"]["minimum_bad_test_images"] == 5
    assert settings["supervised"]["minimum_bad_test_images"] == 5
    assert settings["validation"]["holdout_percent"] == 10
    assert settings["validation"]["stopping"]["early_stop"] == {"monitor": "image_auroc", "patience": 10}
    datasets = settings["datasets"]
    assert datasets["real_iad"]["options"]["resolution"] == 1024
    assert datasets["vad"]["options"]["pixel_labels"] is False
    assert settings["paper_tables"]["tolerance"]["image_auroc"] == settings["paper_tables"]["tolerance"]["pixel_aupro"]


@pytest.mark.parametrize("detector", PAPER_DETECTORS)
def test_no_shortening_of_the_demo_is_left_in_the_paper(detector: str) -> None:
    entry = parameters_of("paper")["detectors"][detector]
    assert set(entry["trainer"]) == {"max_epochs"}
    assert not {"precision", "num_workers"} & set(entry)


def test_drift_has_three_seeds_and_no_training_of_its_own(paper: dict[str, tuple[Cell, ...]]) -> None:
    cells = [cell for cell in paper["data_drift"] if cell.dataset != "aebad_s"]
    assert {cell.drift.seed for cell in cells if cell.drift} == SEEDS
    by_fit = Counter(cell.names.fit_key for cell in cells)
    assert set(by_fit.values()) == {4}, "as it is and three drifts"


def test_natural_drift_is_measured_on_same_and_on_the_mean_of_three(paper: dict[str, tuple[Cell, ...]]) -> None:
    cells = [cell for cell in paper["data_drift"] if cell.dataset == "aebad_s"]
    assert {(cell.test_set, tuple(cell.measured_apart)) for cell in cells} == {
        ("same", ("same",)),
        ("shifted", ("background", "illumination", "view")),
    }


def test_loco_is_measured_as_two_groups(paper: dict[str, tuple[Cell, ...]]) -> None:
    groups = {tuple(cell.measured_apart) for cell in paper["model_evaluation"] if cell.dataset == "mvtec_loco"}
    assert groups == {("logical_anomalies", "structural_anomalies")}
    assert not any(cell.measured_apart for cell in paper["model_evaluation"] if cell.dataset != "mvtec_loco")


def test_patchcore_at_512_trains_on_a_quarter_of_the_large_categories(paper: dict[str, tuple[Cell, ...]]) -> None:
    shares = {
        (c.dataset, c.category, c.detector, c.image_size) for c in paper["input_size"] if c.condition.kind == "share"
    }
    assert shares == {("vad", "vad", "patchcore", 512), ("btad", "03", "patchcore", 512)}
    assert {cell.condition.name for cell in paper["input_size"]} == {"clean"}, "one mean over all datasets"
    settings = parameters_of("paper")
    settings["input_size"]["training_share"] = []
    cells = expand_experiments(settings)["input_size"].cells
    assert {cell.condition.split for cell in cells} == {"clean"}, "it can be switched off"


def test_supervised_takes_20_50_or_all_bad_images(paper: dict[str, tuple[Cell, ...]]) -> None:
    amounts = {(cell.dataset, cell.condition.amount) for cell in paper["supervised"]}
    assert amounts == {("viaduct", 20), ("sensum_sodf", 50), ("vad", "train")}


def test_the_rules_of_stopping_share_their_split_and_not_their_training(paper: dict[str, tuple[Cell, ...]]) -> None:
    cells = [cell for cell in paper["validation"] if cell.detector == "csflow" and cell.seed == 3341]
    assert {cell.condition.name for cell in cells} == {"full_length", "early_stop"}
    assert len({cell.names.train for cell in cells}) == 1 and len({cell.names.checkpoint for cell in cells}) == 2
    (early,) = {cell.condition.stopping for cell in cells if cell.condition.name == "early_stop"}
    assert dict(early) == {"monitor": "image_auroc", "patience": 10}
    base = expand_experiments(parameters_of("base"))["validation"].cells
    assert {cell.condition.name for cell in base} == {"full_length", "early_stop", "early_stop_good"}


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("validation.detectors", ["patchcore"], "validation.detectors: patchcore has no epochs to stop between"),
        ("model_evaluation.detectors", ["dra"], "model_evaluation.detectors: dra learns from labelled bad images"),
        ("noisy_labels.detectors", ["devnet"], "noisy_labels.detectors: devnet learns from labelled bad images"),
        ("validation.detectors", ["dra"], "and validation trains on good ones only. List it in supervised.detectors."),
        ("supervised.detectors", ["padim"], "supervised.detectors: padim does not learn from labelled bad images"),
        ("supervised.bad_images", 0, "supervised.bad_images: expected a whole number of at least 1"),
        ("supervised.bad_images_of", {"elvp": 3}, "supervised.bad_images_of: elvp is unknown"),
        ("validation.holdout_percent", 100, "validation.holdout_percent: 100 is not a percentage"),
        ("validation.stopping.early_stop", {"patienc": 3}, "validation.stopping.early_stop: unknown key patienc"),
        ("input_size.training_share", [{"detector": "padim"}], "input_size.training_share: each entry needs the keys"),
        ("data_drift.drift.transforms.lighting", {"fog": {}}, "fog"),
        ("data_drift.drift_seeds", [-1], "data_drift.drift_seeds: expected a whole number of at least 0"),
        ("data_drift.natural", ["nowhere"], "data_drift.datasets: 'nowhere' is unknown"),
    ],
)
def test_an_impossible_experiment_is_refused_with_its_entry(path: str, value: Any, text: str) -> None:
    with pytest.raises(GridError) as error:
        expand_experiments(with_key(parameters_of("base"), path, value))
    assert text in error.value.message


@pytest.mark.parametrize("name", ["status", "detector", "source", "night_sd"])
def test_a_domain_is_not_named_like_a_column_of_the_tables(name: str) -> None:
    changed = parameters_of("paper")
    changed["data_drift"]["domains"] = {name: ["x"]}
    with pytest.raises(GridError, match=rf"data_drift.domains: {name} is the name of a column"):
        expand_experiments(changed)
