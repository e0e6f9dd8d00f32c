"""Names of everything that is made for a cell. The only place that knows how a result is called.

A result is kept under a name of the form
``<stage>.<dataset>.<category>.<detector>.<size>.<condition>.<seed>.<digest>.<what>``, from which a stage leaves out
what it does not depend on. The part between the stage and ``what`` is called a key here. The digest covers the settings
that the result depends on and the version of the code that makes it, so a changed setting makes new names, and equal
cells of two experiments share their results.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shopfloor.planning.cell import Category, Cell, Condition

#: Keys of a detector's entry that do not change what it computes, or whose effect on a cell is counted apart.
_WITHOUT_EFFECT = ("size_multiple", "num_workers", "foreground", "foreground_of")

#: Raise one of these when the code that makes the file changes its content; what depends on it gets new names.
CODE_VERSIONS = {
    "index": 1, "images": 1, "split": 1, "weights": 1, "fit": 2, "predict": 1, "measure": 2, "drift": 1,
    "textures": 1, "foreground": 1,
    # No part of a name, since the results have fixed ones: a whole stage, a function. Traces hold these.
    "reporting": 5, "summarise_datasets": 2,
}  # fmt: skip

#: How Kedro names the entries of detectors.
DETECTOR_PARAMS = "params:detectors."


def digest(*parts: Any) -> str:
    """Eight hex digits over plain data; equal data gives equal digits whatever the order of its keys."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def slug(name: str) -> str:
    """A name from disk or configuration as a part of dataset and file names.

    Everything but letters, digits, ``-`` and ``_`` becomes ``_``; long names are cut. Two names may share a slug: the
    digest covers the names as they are.
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:40]


class _Result:
    """The name of a result on a class of names; it is called ``what``, or like the attribute.

    Args:
        stage: The stage that makes it.
        key: Attribute with the key of all that share it.
        what: What it is called where the attribute's name says more.
    """

    def __init__(self, stage: str, key: str, what: str = "") -> None:
        self._stage, self._key, self._what = stage, key, what

    def __set_name__(self, owner: type, name: str) -> None:
        self._what = self._what or name

    def __get__(self, names: CategoryNames, owner: type) -> str:
        return f"{self._stage}.{getattr(names, self._key)}.{self._what}"


class CategoryNames:
    """Names of what is known of a category whatever is done with it.

    Args:
        category: The category, or a cell of it.
    """

    folder = _Result("data_prep", "category_key")
    files = _Result("data_prep", "category_key")
    index = _Result("data_prep", "category_key")
    check = _Result("data_prep", "category_key")

    def __init__(self, category: Category) -> None:
        self._category = category

    @cached_property
    def _data(self) -> str:
        return f"{slug(self._category.dataset)}.{slug(self._category.category)}"

    @cached_property
    def _data_digest(self) -> str:
        settings = {key: self._category.dataset_settings.given.get(key) for key in ("reader", "options", "generator")}
        return digest(CODE_VERSIONS["index"], self._category.dataset, self._category.category, settings)

    @cached_property
    def category_key(self) -> str:
        return f"{self._data}.{self._data_digest}"


class CellNames(CategoryNames):
    """Names of everything that is made for a cell.

    Args:
        cell: The cell.
    """

    images = _Result("data_prep", "images_key")
    masks = _Result("data_prep", "images_key")
    resize_report = _Result("data_prep", "images_key")
    textures = _Result("data_prep", "textures_key", "images")

    train = _Result("perturbation", "_own_split")
    test = _Result("perturbation", "_own_split")
    draw = _Result("perturbation", "_own_split")
    validation = _Result("perturbation", "_own_split")
    train_images = _Result("perturbation", "part_key")
    validation_images = _Result("perturbation", "part_key")
    test_images = _Result("perturbation", "_test_part")
    test_masks = _Result("perturbation", "_test_part")
    drift_draw = _Result("perturbation", "drift_key", "draw")
    drifted_images = _Result("perturbation", "drifted_key", "images")
    drifted_masks = _Result("perturbation", "drifted_key", "masks")
    drift_report = _Result("perturbation", "drifted_key")
    drift_gallery = _Result("perturbation", "drifted_key", "gallery")
    foreground = _Result("perturbation", "foreground_key")
    foreground_preview = _Result("perturbation", "foreground_key")

    checkpoint = _Result("training", "fit_key")
    fit_log = _Result("training", "fit_key")
    fit_record = _Result("training", "fit_key")

    maps = _Result("evaluation", "predict_key")
    scores = _Result("evaluation", "predict_key")
    predict_record = _Result("evaluation", "predict_key")
    score_histogram = _Result("evaluation", "predict_key")
    examples = _Result("evaluation", "predict_key")
    metrics = _Result("evaluation", "measure_key")

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell)
        self._cell = cell

    # --- what a name consists of -------------------------------------------------------------------------------------

    @cached_property
    def _images_digest(self) -> str:
        return digest(CODE_VERSIONS["images"], self._data_digest, self._cell.image_size)

    def _drawn(self, condition: Condition, seed: int | None) -> str:
        return f"{condition.split}.{seed}" if condition.is_drawn else condition.split

    def _split_digest(self, condition: Condition, seed: int | None) -> str:
        drawn_with = seed if condition.is_drawn else None
        return digest(CODE_VERSIONS["split"], self._data_digest, condition.settings, drawn_with)

    def split_key(self, condition: Condition, seed: int | None) -> str:
        """Name of the split that a condition makes of this cell's category, without stage and content."""
        return f"{self._data}.{self._drawn(condition, seed)}.{self._split_digest(condition, seed)}"

    @property
    def _own_split(self) -> str:
        return self.split_key(self._cell.condition, self._cell.seed)

    @property
    def _test_part(self) -> str:
        return self.drifted_key if self._cell.drift else self.part_key

    @cached_property
    def _fit_digest(self) -> str:
        return digest(
            CODE_VERSIONS["fit"],
            self._images_digest,
            self._split_digest(self._cell.condition, self._cell.seed),
            self._cell.condition.stopping,
            {key: value for key, value in self._cell.detector_settings.given.items() if key not in _WITHOUT_EFFECT},
            {name: self._cell.network_facts(name) for name in self._cell.network_settings},
            self._textures_digest,
            self._foreground_facts,
            self._cell.seed,
        )

    @cached_property
    def _textures_digest(self) -> str:
        """Of a texture folder its name counts and not where it lies."""
        if (textures := self._cell.texture_settings) is None:
            return ""
        made_of = textures.given.get("generator") or Path(str(textures.folder)).name
        cropped = ["cropped"] if self._cell.crops_textures else []
        return digest(CODE_VERSIONS["textures"], self._cell.textures_entry, made_of, self._cell.image_size, *cropped)

    @cached_property
    def _foreground_facts(self) -> list[Any]:
        """What the masks depend on beside the images; of a folder of masks its name counts and not where it lies."""
        method = self._cell.foreground_method
        folder = self._cell.dataset_settings.foreground_folder if method == "folder" else None
        made_of = {"folder": Path(folder).name} if folder else {}
        return [] if method == "none" else [CODE_VERSIONS["foreground"], method, made_of]

    @cached_property
    def _coordinates(self) -> str:
        cell = self._cell
        return f"{self._data}.{slug(cell.detector)}.{cell.image_size}.{cell.condition.name}.{cell.seed}"

    # --- names of stages' cells, without the stage -------------------------------------------------------------------

    @cached_property
    def images_key(self) -> str:
        return f"{self._data}.{self._cell.image_size}.{self._images_digest}"

    @cached_property
    def part_key(self) -> str:
        condition, seed = self._cell.condition, self._cell.seed
        code = digest(self._images_digest, self._split_digest(condition, seed))
        return f"{self._data}.{self._cell.image_size}.{self._drawn(condition, seed)}.{code}"

    @cached_property
    def fit_key(self) -> str:
        return f"{self._coordinates}.{self._fit_digest}"

    @cached_property
    def predict_key(self) -> str:
        if self._cell.drift is None:
            return f"{self._coordinates}.{digest(CODE_VERSIONS['predict'], self._fit_digest)}"
        code = digest(CODE_VERSIONS["predict"], self._fit_digest, self._drift_digest)
        return f"{self._coordinates}.drift_{self._cell.drift.seed}.{code}"

    @cached_property
    def measure_key(self) -> str:
        draw = self._cell.common_draw.settings if self._cell.common_draw else None
        code = digest(
            CODE_VERSIONS["measure"], self.predict_key, draw, self._cell.common_seed, self._cell.measured_apart
        )
        return f"{self._coordinates}.{slug(self._cell.test_set)}.{code}"

    @cached_property
    def _drift_digest(self) -> str:
        if self._cell.drift is None:
            return ""
        test = self._split_digest(self._cell.condition, self._cell.seed)
        return digest(CODE_VERSIONS["drift"], test, self._cell.drift.settings, self._cell.drift.seed)

    @cached_property
    def drift_key(self) -> str:
        """Name of what drift makes of the test images whatever their size."""
        if self._cell.drift is None:
            raise ValueError(f"{self._cell} has no drift.")
        return f"{self._data}.drift.{self._cell.drift.seed}.{self._drift_digest}"

    @cached_property
    def drifted_key(self) -> str:
        """Name of the drifted images of one size."""
        if self._cell.drift is None:
            raise ValueError(f"{self._cell} has no drift.")
        code = digest(self._images_digest, self._drift_digest)
        return f"{self._data}.{self._cell.image_size}.drift.{self._cell.drift.seed}.{code}"

    # --- names that take more than a key -----------------------------------------------------------------------------

    @property
    def common_test(self) -> str:
        """Table of the test images that the largest noise level of the draw leaves."""
        if self._cell.common_draw is None:
            raise ValueError(f"{self._cell} is measured on its own test set.")
        return f"perturbation.{self.split_key(self._cell.common_draw, self._cell.common_seed)}.test"

    def network_params(self, network: str) -> str:
        """Entry of a pretrained network."""
        return f"params:backbones.{network}"

    @property
    def detector_params(self) -> str:
        return f"{DETECTOR_PARAMS}{self._cell.detector}"

    def weights_key(self, network: str) -> str:
        """Name of a pretrained network's weights, without stage and content."""
        return f"{slug(network)}.{digest(CODE_VERSIONS['weights'], network, self._cell.network_facts(network))}"

    def weights(self, network: str) -> str:
        """Weights of a pretrained network."""
        return f"training.{self.weights_key(network)}.weights"

    @property
    def textures_key(self) -> str:
        return f"textures.{slug(str(self._cell.textures_entry))}.{self._cell.image_size}.{self._textures_digest}"

    @cached_property
    def foreground_key(self) -> str:
        """Name of the foreground masks of the training images, without stage and content."""
        code = digest(self.part_key, self._foreground_facts)
        drawn = self._drawn(self._cell.condition, self._cell.seed)
        return f"{self._data}.{self._cell.image_size}.{drawn}.{slug(self._cell.foreground_method)}.{code}"
