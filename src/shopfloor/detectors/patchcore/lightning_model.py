"""PatchCore as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence

from anomalib.metrics import Evaluator
from anomalib.models.image.patchcore.lightning_model import Patchcore as AnomalibPatchcore
from anomalib.post_processing import PostProcessor
from anomalib.visualization import Visualizer
from torch import nn

from shopfloor.detectors.patchcore.torch_model import PatchcoreModel


class Patchcore(AnomalibPatchcore):
    """anomalib's ``Patchcore`` on our :class:`PatchcoreModel`, which is faster and gives the same scores and maps.

    Args:
        backbone: timm name of the network.
        layers: Its layers, first the one whose grid the patches have.
        pre_trained: Whether the network is given ImageNet weights.
        coreset_sampling_ratio: Share of the training patches kept in the memory bank.
        num_neighbors: Neighbours that re-weight the image score (equation 7); 1 switches the re-weighting off.
        pre_processor: As in anomalib.
        post_processor: As in anomalib.
        evaluator: As in anomalib.
        visualizer: As in anomalib.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (anomalib's arguments)
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        layers: Sequence[str] = ("layer2", "layer3"),
        pre_trained: bool = True,
        coreset_sampling_ratio: float = 0.1,
        num_neighbors: int = 9,
        pre_processor: nn.Module | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        # Not anomalib's own constructor: it would build the backbone a second time.
        super(AnomalibPatchcore, self).__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        self.model = PatchcoreModel(
            layers=layers, backbone=backbone, pre_trained=pre_trained, num_neighbors=num_neighbors
        )
        self.coreset_sampling_ratio = coreset_sampling_ratio
