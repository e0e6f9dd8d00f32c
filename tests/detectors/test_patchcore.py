"""PatchCore: the benchmark's defaults and sizes, anomalib's scores, the second pass under anomalib's own Engine."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from anomalib.engine import Engine
from anomalib.models.image.patchcore.torch_model import PatchcoreModel as AnomalibPatchcoreModel
from torch import nn

from shopfloor.detectors.patchcore import Patchcore
from shopfloor.detectors.patchcore.torch_model import PatchcoreModel
from tests.detectors.image_folders import folder_of

S = 64
WIDE = "wide_resnet50_2.tv_in1k"
NETWORK, LAYERS = "resnet10t", ("layer2", "layer3")
WITHOUT_PARTS: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}


def smooth_images(n, seed, size=S):
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(60, 200, (n, 3, 8, 8)))
    images = nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255)
    return images.permute(0, 2, 3, 1).byte().numpy()


def with_a_square(stack):
    stack = stack.copy()
    stack[:, 20:40, 20:40] = 255
    return stack


def small_detector(seed=0, **arguments):
    torch.manual_seed(seed)
    return Patchcore(NETWORK, LAYERS, pre_trained=False, **{**WITHOUT_PARTS, **arguments})


def test_default_is_the_benchmarks(monkeypatch):
    asked: dict[str, Any] = {}

    def note(self, backbone, layers, pre_trained):
        nn.Module.__init__(self)
        asked.update(backbone=backbone, layers=list(layers), pre_trained=pre_trained)

    monkeypatch.setattr("anomalib.models.components.TimmFeatureExtractor.__init__", note)
    detector = Patchcore(**WITHOUT_PARTS)
    assert asked == {"backbone": WIDE, "layers": ["layer2", "layer3"], "pre_trained": True}
    assert detector.model.num_neighbors == 9
    assert (detector.coreset_sampling_ratio, detector.kept_gb) == (0.1, 1.0)


@pytest.mark.parametrize(("n", "size", "n_patches"), [(2, 256, 2048), (1, 512, 4096), (1, 128, 256)])
def test_embeddings_are_of_the_specified_shape(n, size, n_patches):
    with torch.device("meta"):
        model = PatchcoreModel(["layer2", "layer3"], WIDE, pre_trained=False).train()
    assert model(torch.empty(n, 3, size, size, device="meta")).shape == (n_patches, 1536)


@pytest.mark.parametrize("num_neighbors", [1, 4, 9])
def test_scores_are_anomalibs_with_as_many_neighbours(num_neighbors):
    ours = small_detector(num_neighbors=num_neighbors).model.eval()
    theirs = AnomalibPatchcoreModel(LAYERS, NETWORK, pre_trained=False, num_neighbors=num_neighbors).eval()
    theirs.feature_extractor.load_state_dict(ours.feature_extractor.state_dict())
    images = torch.rand(6, 3, S, S, generator=torch.Generator().manual_seed(1))
    ours.memory_bank = theirs.memory_bank = ours.train()(images[:3])[::3].clone()
    with torch.inference_mode():
        expected, result = theirs(images[3:]), ours.eval()(images[3:])
    torch.testing.assert_close(result.pred_score, expected.pred_score, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.anomaly_map, expected.anomaly_map, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [128, 256, 512])
def test_sizes_of_the_benchmark(size):
    model = small_detector().model.train()
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    embeddings = model(images)
    assert len(embeddings) == (size // 8) ** 2
    model.memory_bank = embeddings[::20].clone()
    with torch.inference_mode():
        result = model.eval()(images)
    assert result.pred_score.shape == (1,)
    assert result.anomaly_map.shape == (1, 1, size, size)
    assert result.anomaly_map.isfinite().all()


def bank_and_metrics(folder, kept_gb):
    """Of a training by anomalib's Engine, which validates within the epoch: the bank is made in evaluation mode."""
    pl.seed_everything(3, verbose=False)
    detector = small_detector(
        kept_gb=kept_gb, pre_processor=Patchcore.configure_pre_processor((S, S)), evaluator=True, post_processor=True
    )
    data = folder_of(folder / "parts", smooth_images(10, 1), with_a_square(smooth_images(4, 2)), size=(96, 80))
    engine: Any = Engine(default_root_dir=folder, logger=False, accelerator="cpu", enable_progress_bar=False)
    engine.fit(detector, datamodule=data)
    return detector.model.memory_bank, engine.test(detector, datamodule=data)[0]


def test_anomalibs_folder_gives_the_same_bank_with_a_second_pass_and_without(tmp_path):
    bank, metrics = bank_and_metrics(tmp_path / "kept", kept_gb=1)
    other_bank, other_metrics = bank_and_metrics(tmp_path / "twice", kept_gb=0)
    assert bank.shape == (8 * (S // 8) ** 2 // 10, 128 + 256)
    torch.testing.assert_close(other_bank, bank, rtol=1e-4, atol=1e-4)  # the batches of the second pass are others
    assert metrics["image_AUROC"] == 1.0
    assert other_metrics == pytest.approx(metrics)


@pytest.mark.parametrize("mode", [True, False])
def test_embedding_leaves_the_mode_as_it_was(mode):
    model = small_detector().model.train(mode)
    images = torch.rand(2, 3, S, S, generator=torch.Generator().manual_seed(1))
    embeddings = model.embed(images)
    assert model.training is mode
    assert torch.equal(embeddings, model.train()(images))
