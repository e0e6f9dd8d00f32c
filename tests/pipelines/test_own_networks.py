"""A detector that chooses its network by itself gets local weights from its entry, through the pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.experiments.grid import expand_experiments
from shopfloor.pipelines.training.pipeline import create_pipeline

NETWORK = "torchvision/resnet18.IMAGENET1K_V1"
CFA: dict[str, Any] = {
    "class_path": "anomalib.models.Cfa",
    "init_args": {"backbone": "resnet18"},
    "networks": [NETWORK],
    "learning_type": "one_class",
    "batch_size": 2,
    "trainer": {"max_epochs": 1},
}
PARAMETERS: dict[str, Any] = {
    "datasets": {"parts": {"reader": "folder", "categories": ["ring"], "root": "/none"}},
    "backbones": {NETWORK: {"weights": "random"}},
    "detectors": {"cfa": CFA},
    "model_evaluation": {"datasets": ["parts"], "detectors": ["cfa"], "image_sizes": [64], "seeds": [3]},
}


def test_weights_reach_the_detector():
    (cell,) = expand_experiments(PARAMETERS)["model_evaluation"].cells
    load, fit = create_pipeline([cell]).nodes
    weights = load.run({cell.names.network_params(NETWORK): PARAMETERS["backbones"][NETWORK]})
    names = [f"part/{row}.png" for row in range(3)]
    table = pd.DataFrame({"row": range(3), "image": names, "label": "good", "defect_type": "good", "domain": "d"})
    stack = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    made = fit.run({**weights, cell.names.train_images: ImagePart(stack, table), cell.names.detector_params: CFA})
    stored = made[cell.names.checkpoint]["state_dict"]["model.feature_extractor.conv1.weight"]
    assert np.array_equal(stored, weights[cell.names.weights(NETWORK)]["conv1.weight"])
