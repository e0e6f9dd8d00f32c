"""One point of a grid and the names of everything that is made for it. The only place that knows how it is named.

A cell is a category of a dataset, a detector, an image size, a training condition, a seed, and the test set it is
measured on. What is computed for it is kept under a name of the form
``<stage>.<dataset>.<category>.<detector>.<size>.<condition>.<seed>.<digest>.<what>``, from which a stage leaves out
what it does not depend on. The digest covers the settings that the file depends on and the version of the code that
makes it, so a changed setting makes new names and equal cells of two experiments are one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

Parameters = Mapping[str, Any]
AnyCell = TypeVar("AnyCell", bound="Category")

#: Keys of a detector's entry that do not change what it computes, or whose effect on a cell is counted apart.
_WITHOUT_EFFECT = ("size_multiple", "num_workers", "foreground", "foreground_of")

#: Raise one of these when the code that makes the file changes its content; what depends on it gets new names.
CODE_VERSIONS = {
    "index": 1, "images": 1, "split": 1, "weights": 1, "fit": 2, "predict": 1, "measure": 2, "drift": 1,
    "textures": 1, "foreground": 1,
    # No part of a name, since the results have fixed ones: a whole stage, a function. Traces hold these.
    "reporting": 4, "account_for_datasets": 2,
}  # fmt: skip


FULL_TEST_SET = "full"
#: How Kedro names the entries of detectors.
DETECTOR_PARAMS = "params:detectors."

#: Kinds of conditions that train on good images as they are: all of them, or a share where memory forbids all.
CLEAN_KINDS = ("clean", "share")

#: What a pretrained network can be to a detector: keys of its entry, and arguments of its class.
NETWORK_ROLES = ("backbone", "encoder")
#: How a detector is told where the part is: not at all, by masks of the user, by segmenting the training images.
FOREGROUND_METHODS = ("none", "folder", "automatic", "mobile_sam")


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


@dataclass(frozen=True)
class Condition:
    """What a detector is trained on, and whether its training may stop early.

    Attributes:
        name: In tables and names of trainings: ``clean``, ``noise_4``, ``supervised_20``, ``early_stop``, ...
        split: In names of splits, which several conditions may share: ``clean``, ``share_25``, ``holdout_10``, ...
        kind: ``clean`` (good training images), ``share`` (a part of them), ``noise`` (bad ones among them, labelled
            good), ``supervised`` (labelled bad ones beside them), ``holdout`` (a part of all of them held out).
        amount: Percent for ``share``, ``noise`` and ``holdout``; for ``supervised`` the number of bad test images to
            move, or ``train`` for all bad training images.
        minimum_bad: Bad test images that must remain (protocol 4.5 and 4.6).
        stopping: Rule of early stopping as (key, value) pairs; none trains to the full length.
    """

    name: str
    split: str
    kind: str = "clean"
    amount: float | str | None = None
    minimum_bad: int = 5
    stopping: tuple[tuple[str, Any], ...] = ()

    @property
    def is_drawn(self) -> bool:
        """Whether the split depends on the seed."""
        return self.kind != "clean"

    @property
    def settings(self) -> list[Any]:
        """What the split depends on."""
        return [self.split, self.kind, self.amount, self.minimum_bad] if self.is_drawn else [self.split]


CLEAN = Condition("clean", "clean")


@dataclass(frozen=True)
class Drift:
    """Synthetic drift of the test images (protocol 4.3).

    Attributes:
        seed: Seed of the draw of every image.
        params: Name of the settings as Kedro sees them.
        settings: The settings.
    """

    seed: int
    params: str = field(compare=False)
    settings: Parameters = field(compare=False, repr=False)


@dataclass(frozen=True)
class Domains:
    """Test images of some recording conditions, each measured apart; the mean is the value (protocol 4.4).

    Attributes:
        name: Name of the test set, e.g. ``shifted``.
        domains: Values of the column ``domain``.
    """

    name: str
    domains: tuple[str, ...]


@dataclass(frozen=True)
class Category:
    """A category of a dataset, and the names of what is known of it whatever is done with it.

    Attributes:
        dataset: Name of the dataset in the parameter files.
        category: Name of the category.
        dataset_params: Name of the dataset's entry as Kedro sees it, e.g. ``params:datasets.elpv``.
        dataset_settings: That entry.
    """

    dataset: str
    category: str
    dataset_params: str = field(compare=False)
    dataset_settings: Parameters = field(compare=False, repr=False)

    @cached_property
    def _data(self) -> str:
        return f"{slug(self.dataset)}.{slug(self.category)}"

    @cached_property
    def _data_digest(self) -> str:
        settings = {key: self.dataset_settings.get(key) for key in ("reader", "options", "generator")}
        return digest(CODE_VERSIONS["index"], self.dataset, self.category, settings)

    @cached_property
    def category_name(self) -> str:
        return f"{self._data}.{self._data_digest}"

    @property
    def folder(self) -> str:
        return f"data_prep.{self.category_name}.folder"

    @property
    def files(self) -> str:
        return f"data_prep.{self.category_name}.files"

    @property
    def index(self) -> str:
        return f"data_prep.{self.category_name}.index"

    @property
    def check(self) -> str:
        return f"data_prep.{self.category_name}.check"

    @property
    def is_generated(self) -> bool:
        return "generator" in self.dataset_settings

    @property
    def data_tags(self) -> list[str]:
        return [slug(self.dataset), slug(self.category)]


@dataclass(frozen=True)
class Cell(Category):
    """One point of a grid, with the settings it needs and the names of everything made for it.

    Attributes:
        detector: Name of the detector's entry in ``parameters_detectors.yml``.
        image_size: Side of the square model input in pixels.
        condition: Training condition.
        seed: Seed of the training and of the condition's draw.
        detector_settings: The detector's entry.
        network_settings: By name, entry of each pretrained network that the detector names.
        texture_settings: Entry of the texture images it makes defects of; None for a detector that needs none.
        common_draw: The draw whose test set this cell is measured on instead of its own; None for its own.
        common_seed: Seed of that draw.
        drift: Drift of the test images; None leaves them as they are.
        domains: Recording conditions of the test images to measure on; None for all images together.
    """

    detector: str
    image_size: int
    condition: Condition
    seed: int
    detector_settings: Parameters = field(compare=False, repr=False)
    network_settings: Mapping[str, Parameters] = field(compare=False, repr=False)
    texture_settings: Parameters | None = field(compare=False, repr=False)
    common_draw: Condition | None = None
    common_seed: int | None = None
    drift: Drift | None = None
    domains: Domains | None = None

    # --- what a name consists of -------------------------------------------------------------------------------------

    @cached_property
    def _images_digest(self) -> str:
        return digest(CODE_VERSIONS["images"], self._data_digest, self.image_size)

    def _drawn(self, condition: Condition, seed: int | None) -> str:
        return f"{condition.split}.{seed}" if condition.is_drawn else condition.split

    def _split_digest(self, condition: Condition, seed: int | None) -> str:
        drawn_with = seed if condition.is_drawn else None
        return digest(CODE_VERSIONS["split"], self._data_digest, condition.settings, drawn_with)

    def split_name(self, condition: Condition, seed: int | None) -> str:
        """Name of the split that a condition makes of this cell's category, without stage and content."""
        return f"{self._data}.{self._drawn(condition, seed)}.{self._split_digest(condition, seed)}"

    @cached_property
    def _fit_digest(self) -> str:
        return digest(
            CODE_VERSIONS["fit"],
            self._images_digest,
            self._split_digest(self.condition, self.seed),
            self.condition.stopping,
            {key: value for key, value in self.detector_settings.items() if key not in _WITHOUT_EFFECT},
            {name: self.network_facts(name) for name in self.network_settings},
            self._textures_digest,
            self._foreground_facts,
            self.seed,
        )

    def network_facts(self, name: str) -> dict[str, Any]:
        """A pretrained network's entry; of a weight file its name counts and not where it lies."""
        facts = dict(self.network_settings[name])
        if isinstance(weights := facts.get("weights"), Mapping) and "file" in weights:
            facts["weights"] = Path(weights["file"]).name
        return facts

    @cached_property
    def _textures_digest(self) -> str:
        """Of a texture folder its name counts and not where it lies."""
        if self.texture_settings is None:
            return ""
        made_of = self.texture_settings.get("generator") or Path(str(self.texture_settings.get("folder"))).name
        return digest(CODE_VERSIONS["textures"], self.textures_entry, made_of, self.image_size)

    @cached_property
    def _foreground_facts(self) -> list[Any]:
        """What the masks depend on beside the images; of a folder of masks its name counts and not where it lies."""
        method = self.foreground_method
        folder = self.dataset_settings.get("foreground_folder") if method == "folder" else None
        made_of = {"folder": Path(folder).name} if folder else {}
        return [] if method == "none" else [CODE_VERSIONS["foreground"], method, made_of]

    @cached_property
    def _coordinates(self) -> str:
        return f"{self._data}.{slug(self.detector)}.{self.image_size}.{self.condition.name}.{self.seed}"

    # --- names of stages' cells, without the stage -------------------------------------------------------------------

    @cached_property
    def images_name(self) -> str:
        return f"{self._data}.{self.image_size}.{self._images_digest}"

    @cached_property
    def part_name(self) -> str:
        return self._sized(self.condition, self.seed)

    @cached_property
    def fit_name(self) -> str:
        return f"{self._coordinates}.{self._fit_digest}"

    @cached_property
    def predict_name(self) -> str:
        if self.drift is None:
            return f"{self._coordinates}.{digest(CODE_VERSIONS['predict'], self._fit_digest)}"
        code = digest(CODE_VERSIONS["predict"], self._fit_digest, self._drift_digest)
        return f"{self._coordinates}.drift_{self.drift.seed}.{code}"

    @cached_property
    def measure_name(self) -> str:
        draw = self.common_draw.settings if self.common_draw else None
        code = digest(CODE_VERSIONS["measure"], self.predict_name, draw, self.common_seed, self.measured_apart)
        return f"{self._coordinates}.{slug(self.test_set)}.{code}"

    @cached_property
    def _drift_digest(self) -> str:
        if self.drift is None:
            return ""
        test = self._split_digest(self.condition, self.seed)
        return digest(CODE_VERSIONS["drift"], test, self.drift.settings, self.drift.seed)

    @cached_property
    def drift_name(self) -> str:
        """Name of what drift makes of the test images whatever their size."""
        if self.drift is None:
            raise ValueError(f"{self} has no drift.")
        return f"{self._data}.drift.{self.drift.seed}.{self._drift_digest}"

    @cached_property
    def drifted_name(self) -> str:
        """Name of the drifted images of one size."""
        if self.drift is None:
            raise ValueError(f"{self} has no drift.")
        code = digest(self._images_digest, self._drift_digest)
        return f"{self._data}.{self.image_size}.drift.{self.drift.seed}.{code}"

    def _sized(self, condition: Condition, seed: int | None) -> str:
        code = digest(self._images_digest, self._split_digest(condition, seed))
        return f"{self._data}.{self.image_size}.{self._drawn(condition, seed)}.{code}"

    # --- dataset names -----------------------------------------------------------------------------------------------

    @property
    def images(self) -> str:
        return f"data_prep.{self.images_name}.images"

    @property
    def masks(self) -> str:
        return f"data_prep.{self.images_name}.masks"

    @property
    def resize_report(self) -> str:
        return f"data_prep.{self.images_name}.resize_report"

    @property
    def train(self) -> str:
        return f"perturbation.{self.split_name(self.condition, self.seed)}.train"

    @property
    def test(self) -> str:
        return f"perturbation.{self.split_name(self.condition, self.seed)}.test"

    @property
    def draw(self) -> str:
        return f"perturbation.{self.split_name(self.condition, self.seed)}.draw"

    @property
    def train_images(self) -> str:
        return f"perturbation.{self.part_name}.train_images"

    @property
    def validation(self) -> str:
        return f"perturbation.{self.split_name(self.condition, self.seed)}.validation"

    @property
    def validation_images(self) -> str:
        return f"perturbation.{self.part_name}.validation_images"

    @property
    def _test_part(self) -> str:
        return self.drifted_name if self.drift else self.part_name

    @property
    def test_images(self) -> str:
        return f"perturbation.{self._test_part}.test_images"

    @property
    def test_masks(self) -> str:
        return f"perturbation.{self._test_part}.test_masks"

    @property
    def drift_draw(self) -> str:
        return f"perturbation.{self.drift_name}.draw"

    @property
    def drifted_images(self) -> str:
        return f"perturbation.{self.drifted_name}.images"

    @property
    def drifted_masks(self) -> str:
        return f"perturbation.{self.drifted_name}.masks"

    @property
    def drift_report(self) -> str:
        return f"perturbation.{self.drifted_name}.drift_report"

    @property
    def drift_gallery(self) -> str:
        return f"perturbation.{self.drifted_name}.gallery"

    @property
    def common_test(self) -> str:
        """Table of the test images that the largest noise level of the draw leaves."""
        if self.common_draw is None:
            raise ValueError(f"{self} is measured on its own test set.")
        return f"perturbation.{self.split_name(self.common_draw, self.common_seed)}.test"

    @property
    def networks(self) -> dict[str, str]:
        """Names of the detector's pretrained networks by what they are to it."""
        named = {role: self.detector_settings.get(role) for role in NETWORK_ROLES}
        return {role: name for role, name in named.items() if name}

    @property
    def own_networks(self) -> list[str]:
        """Names of the pretrained networks that the detector's class asks for by itself."""
        return list(self.detector_settings.get("networks") or [])

    def network_params(self, network: str) -> str:
        """Entry of a pretrained network."""
        return f"params:backbones.{network}"

    @property
    def detector_params(self) -> str:
        return f"{DETECTOR_PARAMS}{self.detector}"

    def weights_name(self, network: str) -> str:
        """Name of a pretrained network's weights, without stage and content."""
        return f"{slug(network)}.{digest(CODE_VERSIONS['weights'], network, self.network_facts(network))}"

    def weights(self, network: str) -> str:
        """Weights of a pretrained network."""
        return f"training.{self.weights_name(network)}.weights"

    @property
    def textures_entry(self) -> str | None:
        """Name of the texture images in the parameter files."""
        return self.detector_settings.get("textures")

    @property
    def textures_name(self) -> str:
        return f"textures.{slug(str(self.textures_entry))}.{self.image_size}.{self._textures_digest}"

    @property
    def textures(self) -> str:
        return f"data_prep.{self.textures_name}.images"

    @property
    def foreground_method(self) -> str:
        """How the detector is told where the part is: one of :data:`FOREGROUND_METHODS`."""
        settings = self.detector_settings
        of_dataset = (settings.get("foreground_of") or {}).get(self.dataset)
        return str(of_dataset or settings.get("foreground", "none"))

    @cached_property
    def foreground_name(self) -> str:
        """Name of the foreground masks of the training images, without stage and content."""
        code = digest(self.part_name, self._foreground_facts)
        drawn = self._drawn(self.condition, self.seed)
        return f"{self._data}.{self.image_size}.{drawn}.{slug(self.foreground_method)}.{code}"

    @property
    def foreground(self) -> str:
        return f"perturbation.{self.foreground_name}.foreground"

    @property
    def foreground_preview(self) -> str:
        return f"perturbation.{self.foreground_name}.foreground_preview"

    @property
    def checkpoint(self) -> str:
        return f"training.{self.fit_name}.checkpoint"

    @property
    def fit_log(self) -> str:
        return f"training.{self.fit_name}.fit_log"

    @property
    def fit_record(self) -> str:
        return f"training.{self.fit_name}.fit_record"

    @property
    def maps(self) -> str:
        return f"evaluation.{self.predict_name}.maps"

    @property
    def scores(self) -> str:
        return f"evaluation.{self.predict_name}.scores"

    @property
    def predict_record(self) -> str:
        return f"evaluation.{self.predict_name}.predict_record"

    @property
    def metrics(self) -> str:
        return f"evaluation.{self.measure_name}.metrics"

    @property
    def examples(self) -> str:
        return f"evaluation.{self.predict_name}.examples"

    # --- facts -------------------------------------------------------------------------------------------------------

    @property
    def test_set(self) -> str:
        """``full`` for the cell's own test set as it is, ``common_<seed>`` for the one that all noise levels share,
        ``drift_<seed>`` for drifted images, or the name of some domains."""
        if self.drift:
            return f"drift_{self.drift.seed}"
        if self.domains:
            return self.domains.name
        return FULL_TEST_SET if self.common_draw is None else f"common_{self.common_seed}"

    @property
    def test_set_kind(self) -> str:
        """``full``, ``common`` or ``drift``, as in the names of test sets, or ``domains``."""
        if self.drift:
            return "drift"
        if self.domains:
            return "domains"
        return "full" if self.common_draw is None else "common"

    @property
    def measured_apart(self) -> dict[str, dict[str, list[str]]]:
        """Groups of test images that are measured apart and averaged: by group, a column and its values.

        Domains, or the types of anomalies that the dataset's entry names (LOCO, protocol 3.1); none for most cells.
        """
        if self.domains:
            return {name: {"domain": [name]} for name in self.domains.domains}
        types = self.dataset_settings.get("measured_apart") or []
        return {name: {"defect_type": [name]} for name in types}

    @property
    def gives_maps(self) -> bool:
        return bool(self.detector_settings.get("gives_maps", True))

    @property
    def tags(self) -> list[str]:
        return [*self.data_tags, slug(self.detector), self.condition.name, f"seed_{self.seed}"]

    @property
    def coordinates(self) -> dict[str, Any]:
        """The columns that name this cell in every table.

        Names of conditions and test sets may be the user's; what they are stands in columns of its own:
        ``condition_kind``; ``condition_amount``, percent or number, NaN where there is none or it is ``train``;
        ``test_set_kind``; ``test_set_seed``, that of the drift or of the common draw, otherwise NaN.
        """
        amount, drawn_with = self.condition.amount, self.drift.seed if self.drift else self.common_seed
        return {
            "dataset": self.dataset,
            "category": self.category,
            "detector": self.detector,
            "image_size": self.image_size,
            "condition": self.condition.name,
            "condition_kind": self.condition.kind,
            "condition_amount": math.nan if amount is None or isinstance(amount, str) else float(amount),
            "seed": self.seed,
            "test_set": self.test_set,
            "test_set_kind": self.test_set_kind,
            "test_set_seed": math.nan if drawn_with is None else drawn_with,
        }

    @property
    def scored(self) -> dict[str, Any]:
        """The columns that name this cell's predictions, which the measurements of several test sets share."""
        return replace(self, common_draw=None, common_seed=None, domains=None).coordinates


def each_once(cells: Iterable[AnyCell], name: str) -> list[AnyCell]:
    """One cell for each result that cells share.

    Args:
        cells: Cells of a grid.
        name: The attribute of a cell that names the result, e.g. ``fit_name``.

    Returns:
        The first cell of each, in order.
    """
    first: dict[str, AnyCell] = {}
    for cell in cells:
        first.setdefault(getattr(cell, name), cell)
    return list(first.values())
