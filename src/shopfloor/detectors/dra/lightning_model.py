"""DRA as a Lightning module."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.utils.data import DataLoader

from shopfloor.detectors.anomalib_parts import AnomalibParts
from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.deviation import at_least_two
from shopfloor.detectors.dra.loss import DraLoss
from shopfloor.detectors.dra.normal_images import NormalImages, read_normal_images
from shopfloor.detectors.dra.pseudo_anomalies import draw_references, is_replaced, pseudo_anomaly
from shopfloor.detectors.dra.torch_model import N_REFERENCES, NORMAL, PSEUDO, DraModel
from shopfloor.detectors.image_score_evaluator import image_score_evaluator
from shopfloor.detectors.one_class_module import OneClassModule
from shopfloor.detectors.pre_processing import normalisation_of

_LEARNING_RATE = 2e-4
_WEIGHT_DECAY = 1e-5
_DECAY_EVERY = 10  # epochs


class Dra(OneClassModule):
    """Learns three sorts of abnormality, each by a head of its own: labelled anomalies, pseudo anomalies, residuals.

    A network is trained end to end. One head learns what labelled anomalies look like, one what normal images with a
    displaced patch look like, one what differs from reference images, and a fourth how normal the whole image is.
    The score is the sum of the three less the fourth. It gives image scores only.

    Ding, Pang, Shen: Catching Both Gray and Black Swans: Open-set Supervised Anomaly Detection, CVPR 2022;
    https://github.com/Choubo/DRA; specification of DRA.

    It is meant for batches of 32 good and 16 bad images, 20 per epoch (the detector setting ``balance``), but takes
    any, also without bad images. While it trains, the good training images are kept in main memory, 3 S S bytes each.

    Deviations from the public code: no random rotation (as in the benchmark); references for prediction come from a
    pool of the good training images that is part of the state, by default not all of them; everything is seeded; a
    batch of a single image takes it twice; pseudo anomalies from an external set of outliers are not offered.

    Args:
        backbone: timm name of the network.
        layer: Name of the stage the heads are put on, as a rule the last.
        pre_trained: Whether the network is given ImageNet weights to start from.
        normal_references: Whether references are unaltered normal images, as in the publication, and the same five for
            all test images. Otherwise, as in the public code, about half of them are pseudo anomalies, and each test
            batch draws new ones, so scores depend on the batch an image is in.
        reference_pool: Good training images to draw the references of test batches from, at least 5; fewer are kept if
            there are fewer, and only 5 with ``normal_references``.
        **parts: As in anomalib.

    Raises:
        DetectorError: If the network has no such stage.
        ValueError: If ``reference_pool`` is too small.
    """

    model: DraModel

    def __init__(
        self,
        backbone: str = "resnet18.tv_in1k",
        layer: str = "layer4",
        pre_trained: bool = True,
        normal_references: bool = False,
        reference_pool: int = 64,
        **parts: Unpack[AnomalibParts],
    ) -> None:
        if reference_pool < N_REFERENCES:
            raise ValueError(f"reference_pool must be at least {N_REFERENCES}, but is {reference_pool}.")
        super().__init__(**parts)
        self.model = DraModel(backbone, layer, pre_trained, normal_references)
        self.loss = DraLoss()
        self.reference_pool = reference_pool
        self._normal_images: NormalImages | None = None

    def on_train_start(self) -> None:
        """Reads the good training images and chooses those that stay as references.

        Raises:
            DetectorError: If the images come without labels, if none is good, or if they do not come from one loader.
        """
        loader = self.trainer.train_dataloader
        if not isinstance(loader, DataLoader):
            raise DetectorError(f"Dra takes its training images from one DataLoader, but was given {type(loader)}.")
        self._normal_images = read_normal_images(loader, self.pre_processor)
        mean, std = map(torch.tensor, normalisation_of(self.pre_processor))
        self.model.set_references(self._choose_pool(self._normal_images.images), mean, std)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Replaces half of the normal images by pseudo anomalies and compares the heads' scores with the prior.

        Returns:
            The loss ``()``.

        Raises:
            DetectorError: If the images come without labels, or if the training has not been started by a trainer.
        """
        if self._normal_images is None:
            raise DetectorError("Dra makes pseudo anomalies of its training images and has not been given any.")
        images, kinds = at_least_two(*self._with_pseudo_anomalies(batch, self._normal_images))
        references = draw_references(
            self._normal_images.images, self._normal_images.reference_rows, N_REFERENCES, self.model.normal_references
        )
        scores = self.model(images, self.model.normalised(references), kinds)
        loss: torch.Tensor = self.loss(scores, kinds)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images))
        return loss

    def on_train_end(self) -> None:
        """Lets the training images go."""
        self._normal_images = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, and a tenth of the learning rate at epochs 9, 19, 29: one early, as the public code has it."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 10.0 ** -((epoch + 1) // _DECAY_EVERY))
        return [optimizer], [scheduler]

    @staticmethod
    def configure_evaluator() -> Evaluator:
        """anomalib's metrics of image scores; there are no maps for the others."""
        return image_score_evaluator()

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Gradients clipped to norm 1, and no validation ahead of the training: there are no references yet."""
        return {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm", "num_sanity_val_steps": 0}

    def _choose_pool(self, images: list[torch.Tensor]) -> torch.Tensor:
        """Random good images ``(P, 3, S, S)``, none twice unless there are fewer than the five that must be had."""
        count = N_REFERENCES if self.model.normal_references else min(self.reference_pool, len(images))
        order = torch.cat([torch.randperm(len(images)) for _ in range(-(-count // len(images)))])
        return torch.stack([images[row] for row in order[:count].tolist()])

    def _with_pseudo_anomalies(self, batch: Batch, normal: NormalImages) -> tuple[torch.Tensor, torch.Tensor]:
        """The images of a batch, normal ones replaced half the time, and the kind of each."""
        if batch.gt_label is None:
            raise DetectorError("Dra learns from labels, but the training images come without.")
        assert batch.image is not None
        kinds = batch.gt_label.to("cpu", torch.long, copy=True)
        replaced = [slot for slot in (kinds == NORMAL).nonzero().flatten().tolist() if is_replaced()]
        if not replaced:
            return batch.image, kinds.to(self.device)
        paths = getattr(batch, "image_path", None)
        rows = [None if paths is None else normal.row_of.get(str(paths[slot])) for slot in replaced]
        pseudo = torch.stack([pseudo_anomaly(normal.images, row) for row in rows])
        images = batch.image.clone()
        images[replaced] = self.model.normalised(pseudo)
        kinds[replaced] = PSEUDO
        return images, kinds.to(self.device)
