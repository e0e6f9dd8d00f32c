"""Raw scores and raw anomaly maps of any trained detector (protocol 2.3: no normalisation, no clipping).

The score of an image is the detector's own, and its map is as large as its input (protocol 5, no. 25 and 31).
"""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from anomalib.data import ImageBatch

from shopfloor.catalog.image_stack import ImagePart
from shopfloor.detectors.backbones import without_weights
from shopfloor.detectors.building import DetectorError, build
from shopfloor.detectors.datamodule import PartDataModule
from shopfloor.detectors.running import check_image_size, device_name, quiet_trainer, synchronize


def predict(
    checkpoint: dict[str, Any], test: ImagePart, batch_size: int
) -> tuple[pd.DataFrame, np.ndarray | None, dict[str, Any]]:
    """Scores every image of a part. Labels are copied into the result; the detector does not see them.

    Args:
        checkpoint: From :func:`shopfloor.detectors.fit.fit`, or a file of it read with ``weights_only=True``.
        test: Test images of the size the detector was trained for.
        batch_size: Images per batch.

    Returns:
        Three things. The scores, one line per image in the part's order: ``image``, ``label``, ``defect_type``,
        ``domain``, ``pred_score`` (float64, any range, higher is worse). The maps ``(N, S, S)``, float32, any range, or
        None if the detector makes none. And the record: ``predict_ms_per_image``, normalisation and network together,
        measured without the first batch if there are more; ``device``; ``n_test``.

    Raises:
        DetectorError: If the images have another size than in training, the part is empty, the checkpoint does not fit
            its class, or the detector gives no score, a value that is not finite, or a map of another size.
    """
    image_size = checkpoint["image_size"]
    if not len(test):
        raise DetectorError("The test part has no image.")
    check_image_size(test, image_size)
    with without_weights():
        module = build(**{key: value for key, value in checkpoint.items() if key != "state_dict"})
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise DetectorError(
            f"The checkpoint does not fit {checkpoint['class_path']} as it is now; raise the version of this detector "
            f"to train it again. {error}"
        ) from error
    results = _RawResults(test, image_size)
    trainer = quiet_trainer(callbacks=[results])
    trainer.predict(module, datamodule=PartDataModule(test, batch_size), return_predictions=False)
    scores = test.table[["image", "label", "defect_type", "domain"]].reset_index(drop=True)
    record = {
        "predict_ms_per_image": results.ms_per_image(),
        "device": device_name(trainer.strategy.root_device),
        "n_test": len(test),
    }
    return scores.assign(pred_score=results.scores), results.maps, record


class _RawResults(pl.Callback):
    """Takes scores and maps from each batch, so that no batch has to be kept."""

    def __init__(self, part: ImagePart, image_size: int) -> None:
        self.scores = np.empty(len(part), np.float64)
        self.maps: np.ndarray | None = None
        self._map_shape = (image_size, image_size)
        self._done = 0
        self._start = 0.0
        self._seconds: list[tuple[float, int]] = []

    def ms_per_image(self) -> float:
        timed = self._seconds[1:] or self._seconds
        return 1000 * sum(seconds for seconds, _ in timed) / sum(images for _, images in timed)

    def on_predict_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: ImageBatch, *_: int
    ) -> None:
        synchronize(pl_module.device)
        self._start = time.perf_counter()

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: ImageBatch, *_: int
    ) -> None:
        synchronize(pl_module.device)
        names = batch.image_path or []
        self._seconds.append((time.perf_counter() - self._start, len(names)))
        rows = slice(self._done, self._done + len(names))
        self._done = rows.stop
        detector = type(pl_module).__name__
        if outputs.pred_score is None:
            raise DetectorError(f"{detector} gives no pred_score.")
        scores = outputs.pred_score.float().cpu().numpy().reshape(len(names))
        _check_finite(f"The pred_score of {detector}", scores, names)
        self.scores[rows] = scores
        if outputs.anomaly_map is None:
            return
        maps = outputs.anomaly_map.float().cpu().numpy()
        maps = maps.reshape(len(names), *maps.shape[-2:])
        if maps.shape[1:] != self._map_shape:
            raise DetectorError(f"{detector} gives maps of {maps.shape[1:]} pixels for images of {self._map_shape}.")
        _check_finite(f"The anomaly_map of {detector}", maps, names)
        if self.maps is None:
            self.maps = np.empty((len(self.scores), *self._map_shape), np.float32)
        self.maps[rows] = maps


def _check_finite(what: str, values: np.ndarray, names: list[str]) -> None:
    finite = np.isfinite(values.reshape(len(names), -1)).all(axis=1)
    if not finite.all():
        raise DetectorError(
            f"{what} for image '{names[int(np.argmin(finite))]}' is not finite. Training has diverged (lower the "
            "learning rate or clip gradients), or there were too few training images for this detector."
        )
