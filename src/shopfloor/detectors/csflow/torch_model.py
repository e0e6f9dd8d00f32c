"""Network of CS-Flow: anomalib's, on features of any network of torchvision or timm."""

from __future__ import annotations

import torch
from anomalib.models.components import TimmFeatureExtractor
from anomalib.models.image.csflow.anomaly_map import AnomalyMapGenerator, AnomalyMapMode
from anomalib.models.image.csflow.torch_model import CrossScaleFlow as AnomalibCrossScaleFlow
from anomalib.models.image.csflow.torch_model import CsFlowModel, ParallelGlowCouplingLayer, ParallelPermute
from FrEIA.framework import GraphINN, InputNode, Node, OutputNode
from torch import nn
from torchvision.models import get_model

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.torchvision_networks import PREFIX, is_torchvision, weights_entry

_SCALES = (1, 2, 4)  # the image is shrunk by these; the flow is made for three scales
_PROBE_SIZE = 128  # pixels; leaves one cell at least of any network's grid


class CsflowModel(CsFlowModel):
    """anomalib's ``CsFlowModel`` with a choice of the network; with the same tensors it gives the same results.

    Training batches ``(B, 3, S, S)`` give the latent maps of the three scales ``(B, C, h, w)`` and the log-determinant
    ``(B,)``: that of the whole batch for every image. Test batches give scores ``(B,)``, half the mean square of all
    latent values, and maps ``(B, 1, S, S)``, the product over the scales of the mean square over the channels; both are
    0 or above.

    Args:
        backbone: Name of the network, see :class:`MultiScaleFeatureExtractor`.
        layer: Its layer.
        input_size: Height and width S of the images, in pixels: multiples of four times the layer's stride.
        pre_trained: Whether the network is given ImageNet weights.
        cross_conv_hidden_channels: Hidden channels of the convolutions across the scales.
        n_coupling_blocks: Number of coupling blocks, at least 1; the last one has kernels of 5 x 5, the others 3 x 3.
        clamp: Bound of the coupling blocks' log-scales, up to a constant factor.

    Raises:
        DetectorError: If layer or size do not suit the network.
    """

    def __init__(
        self,
        backbone: str,
        layer: str,
        input_size: tuple[int, int],
        pre_trained: bool = True,
        cross_conv_hidden_channels: int = 1024,
        n_coupling_blocks: int = 4,
        clamp: int = 3,
    ) -> None:
        # Not anomalib's own constructor: it always asks torchvision for EfficientNet-B5 and its weights.
        super(CsFlowModel, self).__init__()
        extractor = MultiScaleFeatureExtractor(backbone, layer, pre_trained)
        channels, stride = extractor.channels, extractor.stride
        _check_size(input_size, stride * max(_SCALES), backbone, layer)
        height, width = input_size
        self.feature_extractor = extractor  # type: ignore[assignment]  # anomalib names its own class
        self.graph = CrossScaleFlow(
            input_dims=(channels, height // stride, width // stride),
            n_coupling_blocks=n_coupling_blocks,
            clamp=clamp,
            cross_conv_hidden_channels=cross_conv_hidden_channels,
        )
        self.anomaly_map_generator = AnomalyMapGenerator(input_dims=(3, height, width), mode=AnomalyMapMode.ALL)


class MultiScaleFeatureExtractor(nn.Module):
    """One layer of a frozen network, of the image and of the image shrunk to a half and to a quarter.

    The network stays in evaluation mode and has no gradients.

    Args:
        backbone: ``torchvision/<model>.<weights>``, e.g. ``torchvision/efficientnet_b5.IMAGENET1K_V1``, where without
            ``.<weights>`` torchvision's default weights are meant; any other name is timm's.
        layer: For torchvision the name of a node of its graph, e.g. ``features.6.8``; for timm the name of a stage.
        pre_trained: Whether the network is given ImageNet weights.

    Attributes:
        channels: Channels of the layer.
        stride: Pixels of the image per cell of the layer's grid, along one side.

    Raises:
        DetectorError: If the network has no such layer.
    """

    def __init__(self, backbone: str, layer: str, pre_trained: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self.feature_extractor = _extractor(backbone, layer, pre_trained).eval().requires_grad_(False)
        features = self.feature_extractor(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE))[layer]
        self.channels = features.shape[1]
        self.stride = _PROBE_SIZE // features.shape[2]

    def train(self, mode: bool = True) -> MultiScaleFeatureExtractor:
        """Stays in evaluation mode, whatever is asked for."""
        return super().train(False)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features ``(B, C, h, w)`` of images ``(B, 3, S, S)`` at full, half and quarter size, finest first."""
        height, width = images.shape[2:]
        sizes = [(height // scale, width // scale) for scale in _SCALES]
        return [self.feature_extractor(nn.functional.interpolate(images, size))[self.layer] for size in sizes]


class CrossScaleFlow(AnomalibCrossScaleFlow):
    """anomalib's ``CrossScaleFlow`` for features of any number of channels.

    Args:
        input_dims: Channels, height and width of the finest features. anomalib, in contrast, takes the image's and
            assumes 304 channels and a stride of 32.
        n_coupling_blocks: As in anomalib.
        clamp: As in anomalib.
        cross_conv_hidden_channels: As in anomalib.
    """

    def _create_graph(self) -> GraphINN:
        channels, height, width = self.input_dims
        nodes = [InputNode(channels, height // scale, width // scale, name=f"scale_{scale}") for scale in _SCALES]
        current = [node.out0 for node in nodes]
        for number, kernel_size in enumerate(self.kernel_sizes):
            permute = Node(current, ParallelPermute, {"seed": number}, name=f"permute_{number}")
            subnet = {"channels_hidden": self.cross_conv_hidden_channels, "kernel_size": kernel_size}
            arguments = {"clamp": self.clamp, "subnet_args": subnet}
            couple = Node(_outputs(permute), ParallelGlowCouplingLayer, arguments, name=f"couple_{number}")
            nodes += [permute, couple]
            current = _outputs(couple)
        ends = [OutputNode([out], name=f"latent_{scale}") for scale, out in zip(_SCALES, current, strict=True)]
        return GraphINN([*nodes, *ends])


def _outputs(node: Node) -> list[tuple[Node, int]]:
    return [node.out0, node.out1, node.out2]


def _extractor(backbone: str, layer: str, pre_trained: bool) -> TimmFeatureExtractor:
    if not is_torchvision(backbone):
        extractor = TimmFeatureExtractor(backbone=backbone, layers=[layer], pre_trained=pre_trained)
        if not extractor.layers:  # anomalib drops unknown layers with a warning
            raise DetectorError(f"CS-Flow: the network '{backbone}' has no stage '{layer}'. Choose another layer.")
        return extractor
    model = backbone.removeprefix(PREFIX).partition(".")[0]
    network = get_model(model, weights=weights_entry(backbone) if pre_trained else None)
    try:
        extractor = TimmFeatureExtractor(backbone=network, layers=[layer])
    except ValueError as error:
        raise DetectorError(f"CS-Flow: '{layer}' is not a layer of '{backbone}'. {error}") from error
    # The whole network, classifier included, would be in the state a second time.
    del extractor.backbone
    extractor.backbone = backbone
    return extractor


def _check_size(input_size: tuple[int, int], multiple: int, backbone: str, layer: str) -> None:
    if any(side % multiple or not side for side in input_size):
        height, width = input_size
        raise DetectorError(
            f"CS-Flow cannot take images of {height} x {width} pixels: its three scales fit onto each other only where "
            f"the sides are multiples of {multiple} (with the layer '{layer}' of '{backbone}'). Choose another image "
            "size."
        )
