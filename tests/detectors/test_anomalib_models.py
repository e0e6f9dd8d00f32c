"""anomalib's image models by nothing but their class_path: trained, predicted, kept and repeated by Shopfloor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anomalib.models.image
import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.models.image.dsr.torch_model import DsrModel
from anomalib.utils.path import get_pretrained_weights_dir
from PIL import Image
from torch import nn

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.backbones import WeightsMismatch
from shopfloor.detectors.building import DetectorError, build
from shopfloor.detectors.fit import TrainingExtras
from shopfloor.detectors.predict import predict
from shopfloor.detectors.running import release_memory
from tests.detectors.plain_entries import fit, read_weights

N_TRAIN, N_TEST = 6, 4
RANDOM = {"weights": "random"}
DOCS = Path(__file__).parents[2] / "docs" / "detectors" / "anomalib_models.md"
STAGES = ["layer1", "layer2"]
DINOV2 = "vit_small_patch14_dinov2"
DINOV2_REGISTERS = "vit_small_patch14_reg4_dinov2"
DINOV3 = "vit_small_patch16_dinov3"

#: Entries as in the parameters of detectors, as small as each model allows. ``size`` is that of the images, 64 unless
#: given; ``networks`` are what the class asks for beside or instead of ``backbone``.
FAST: dict[str, dict[str, Any]] = {
    "AnomalyDINO": {"networks": [DINOV2], "size": 56},
    "Cfa": {"init_args": {"backbone": "resnet18"}, "networks": ["torchvision/resnet18.IMAGENET1K_V1"]},
    "Cflow": {"init_args": {"layers": STAGES, "coupling_blocks": 1}, "backbone": "resnet10t"},
    "Dfkde": {"init_args": {"n_pca_components": 4}, "backbone": "resnet10t", "gives_maps": False},
    "Dfm": {"init_args": {"layer": "layer3", "pooling_kernel_size": 2}, "backbone": "resnet10t"},
    "Fastflow": {"init_args": {"flow_steps": 2}, "backbone": "resnet18"},
    "Fre": {"init_args": {"layer": "layer3", "input_dim": 1024, "latent_dim": 20}, "backbone": "resnet10t"},
    "Ganomaly": {"init_args": {"batch_size": 4, "n_features": 8, "latent_vec_size": 10}, "gives_maps": False},
    "GeneralAD": {"init_args": {"layers": [12], "hidden_dim": 64}, "backbone": "vit_tiny_patch16_224"},
    "Padim": {"init_args": {"layers": STAGES, "n_features": 20}, "backbone": "resnet10t"},
    "Patchcore": {"init_args": {"layers": STAGES}, "backbone": "resnet10t"},
    "Patchflow": {"init_args": {"flow_feature_dim": 16, "flow_hidden_dim": 16}, "backbone": "resnet10t"},
    "Rad": {"backbone": DINOV3},
    "Stfpm": {"init_args": {"layers": STAGES}, "backbone": "resnet10t", "trainer": {"max_epochs": 2}},
}
SLOW: dict[str, dict[str, Any]] = {
    "Csflow": {
        "init_args": {"cross_conv_hidden_channels": 8, "n_coupling_blocks": 1},
        "networks": ["torchvision/efficientnet_b5.IMAGENET1K_V1"],
        "size": 128,
    },
    "Dinomaly": {
        "init_args": {"encoder_name": DINOV2_REGISTERS},
        "networks": [DINOV2_REGISTERS],
        "size": 56,
    },
    "Draem": {"texture_folder_as": "dtd_dir", "batch_size": 2},
    "Dsr": {"batch_size": 2, "trainer": {"max_epochs": 2}},
    "FoundAD": {
        "init_args": {"encoder_name": "dinov2_vit_small_14", "pred_depth": 1, "image_size": 56},
        "networks": [f"{DINOV2}.lvd142m"],
        "size": 56,
    },
    "Glass": {
        "init_args": {"input_shape": [64, 64], "layers": STAGES, "pretrain_embed_dim": 32, "target_embed_dim": 32},
        "backbone": "resnet10t",
    },
    "InpFormer": {
        "init_args": {"encoder_name": DINOV2_REGISTERS},
        "networks": [DINOV2_REGISTERS],
        "size": 56,
    },
    "L2BT": {"networks": ["vit_base_patch14_reg4_dinov2"], "size": 56},
    "MHPatchcore": {
        "init_args": {"layers": STAGES, "memory_bank_size": 50, "local_coreset_size": 20},
        "backbone": "resnet10t",
        "size": 224,
        "trainer": {"max_epochs": 3},
    },
    "ReverseDistillation": {"backbone": "resnet18"},
    "SuperADD": {"init_args": {"patch_size": 64}, "backbone": DINOV3},
    "Supersimplenet": {"init_args": {"layers": STAGES}, "backbone": "resnet10t"},
    "Uflow": {"init_args": {"flow_steps": 1}, "backbone": "resnet18", "size": 448, "batch_size": 2},
    "UniNet": {
        "init_args": {"student_backbone": "resnet50", "teacher_backbone": "resnet50"},
        "networks": ["torchvision/resnet50.IMAGENET1K_V2"],
        "batch_size": 2,
    },
}
ENTRIES = {**FAST, **SLOW}
#: What needs more than networks: see the docs.
LEFT_OUT = {"AnomalyVFM", "CFM", "EfficientAd", "VlmAd", "WinClip"}
#: Their likelihoods are relative to the largest one in the batch.
RELATIVE_TO_THE_BATCH = {"Cflow"}


def parts_of(size):
    """Smooth random images to train and to predict on; the last two have a white square."""
    coarse = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (N_TRAIN + N_TEST, 3, 8, 8)))
    images = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255)
    images[-2:, :, size // 3 : size // 2, size // 3 : size // 2] = 255
    stack = images.permute(0, 2, 3, 1).byte().numpy()
    rows = np.arange(N_TRAIN + N_TEST)
    label = np.where(rows < N_TRAIN + N_TEST - 2, "good", "bad")
    names = [f"part/{row:03}.png" for row in rows]
    table = pd.DataFrame({"row": rows, "image": names, "label": label, "defect_type": label, "domain": "d"})
    return ImagePart(stack, table[:N_TRAIN]), ImagePart(stack, table[N_TRAIN:])


@pytest.fixture(scope="module")
def texture_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("textures") / "noise"
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder.parent


@pytest.fixture(scope="module")
def anomalib_cache(tmp_path_factory):
    """Where anomalib looks for the one weight file that is no network of timm or torchvision; here random."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        file = get_pretrained_weights_dir() / "dsr" / "vq_model_pretrained_128_4096.pckl"
        file.parent.mkdir(parents=True)
        torch.save(DsrModel().discrete_latent_model.state_dict(), file)
        yield file.parent


class Case:
    """A model with its images and its random weights; its first training."""

    def __init__(self, name: str, texture_folder: Path) -> None:
        entry = ENTRIES[name]
        init_args = dict(entry.get("init_args", {}))
        if argument := entry.get("texture_folder_as"):
            init_args[argument] = str(texture_folder)
        self.name, self.size, self.gives_maps = name, entry.get("size", 64), entry.get("gives_maps", True)
        self.train, self.test = parts_of(self.size)
        self.detector: dict[str, Any] = {
            "class_path": f"anomalib.models.{name}",
            "init_args": init_args,
            "learning_type": "one_class",
            "batch_size": entry.get("batch_size", 4),
            "trainer": {"max_epochs": 1, **entry.get("trainer", {})},
            **{key: entry[key] for key in ("backbone", "networks") if key in entry},
        }
        self.backbone = entry.get("backbone")
        self.weights = {
            name: read_weights(name, RANDOM) for name in (self.backbone, *entry.get("networks", [])) if name
        }
        self.checkpoint, self.record = self.fit()
        self.scores, self.maps = self.predict(self.checkpoint)

    def fit(self):
        extras = TrainingExtras(
            network_weights={name: self.weights[name] for name in self.detector.get("networks", [])}
        )
        settings, weights = (RANDOM, self.weights[self.backbone]) if self.backbone else (None, None)
        return fit(self.train, self.detector, settings, weights, self.size, seed=3, extras=extras)

    def predict(self, checkpoint, batch_size=4):
        scores, maps, _ = predict(checkpoint, self.test, batch_size)
        return scores["pred_score"].to_numpy(), maps


@pytest.fixture(scope="module", params=[*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def case(request, texture_folder, anomalib_cache):
    yield Case(request.param, texture_folder)
    release_memory()  # the largest need 3 GB


def test_every_image_is_scored(case):
    assert case.record["epochs"] == case.detector["trainer"]["max_epochs"]
    assert case.scores.shape == (N_TEST,)
    assert np.isfinite(case.scores).all()
    if not case.gives_maps:
        assert case.maps is None
        return
    assert case.maps.shape == (N_TEST, case.size, case.size)
    assert np.isfinite(case.maps).all()


def test_same_seed_same_scores(case):
    checkpoint, _ = case.fit()
    scores, maps = case.predict(checkpoint)
    assert np.array_equal(scores, case.scores)
    assert maps is None or np.array_equal(maps, case.maps)


def test_checkpoint_file_gives_the_same_scores(case, tmp_path):
    torch.save(case.checkpoint, tmp_path / "detector.pt")
    scores, maps = case.predict(torch.load(tmp_path / "detector.pt", weights_only=True))
    assert np.array_equal(scores, case.scores)
    assert maps is None or np.array_equal(maps, case.maps)


def test_scores_of_one_image_alone(case):
    alone, _ = case.predict(case.checkpoint, batch_size=1)
    independent = np.allclose(alone, case.scores, rtol=1e-3, atol=1e-9)
    assert independent == (case.name not in RELATIVE_TO_THE_BATCH)


@pytest.fixture(scope="module")
def images():
    return parts_of(56)[0]


ANOMALY_DINO: dict[str, Any] = {
    "class_path": "anomalib.models.AnomalyDINO",
    "learning_type": "one_class",
    "batch_size": 4,
    "trainer": {"max_epochs": 1},
}


def test_weights_of_the_networks_have_to_be_those_that_are_named(images):
    entry = {**ANOMALY_DINO, "networks": [DINOV2]}
    with pytest.raises(DetectorError, match="weights were read: none"):
        fit(images, entry, None, None, 56, seed=3)


def test_networks_have_to_be_those_that_the_class_asks_for(images):
    extras = TrainingExtras(network_weights={"resnet10t": read_weights("resnet10t", RANDOM)})
    with pytest.raises(WeightsMismatch, match=f"asks for the pretrained network '{DINOV2}'.*among its networks"):
        fit(images, {**ANOMALY_DINO, "networks": ["resnet10t"]}, None, None, 56, seed=3, extras=extras)


def test_border_is_judged_though_the_class_would_crop_it_away():
    module: Any = build("anomalib.models.MHPatchcore", {"pre_trained": False}, {"backbone": "resnet10t"}, 256)
    images = torch.rand(1, 3, 256, 256)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (images - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(module.pre_processor.transform(images), expected)


def test_every_model_of_anomalib_is_tried_or_left_out():
    assert sorted([*FAST, *SLOW, *LEFT_OUT]) == sorted(anomalib.models.image.__all__)


def test_docs_say_what_is_tested():
    rows = re.findall(r"^\| `anomalib\.models\.(\w+)` \|.*\| (fast|slow|no) \|", DOCS.read_text(), flags=re.MULTILINE)
    tested = {**dict.fromkeys(FAST, "fast"), **dict.fromkeys(SLOW, "slow"), **dict.fromkeys(LEFT_OUT, "no")}
    assert dict(rows) == tested
    assert len(rows) == len(tested)
