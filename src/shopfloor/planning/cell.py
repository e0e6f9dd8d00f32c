"""One point of a grid, and what it consists of.

A cell is a category of a dataset, a detector, an image size, a training condition, a seed, and the test set it is
measured on. :mod:`shopfloor.planning.names` says what its results are called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from shopfloor.perturbations.splits import clean_split
from shopfloor.planning.names import CategoryNames, CellNames, slug
from shopfloor.planning.settings import BackboneSettings, DatasetSettings, DetectorSettings, TextureSettings

Parameters = Mapping[str, Any]
AnyCell = TypeVar("AnyCell", bound="Category")

FULL_TEST_SET = "full"
#: Kinds of conditions that train on good images as they are: all of them, or a share where memory forbids all.
CLEAN_KINDS = ("clean", "share")


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
        make_split: Makes the tables of the split of an index table and, where they are drawn, a ``seed``; what it
            depends on beside them stands in ``kind``, ``amount`` and ``minimum_bad``. See
            :mod:`shopfloor.perturbations.splits`.
        holds_out: Whether it makes a validation table too.
        labels_bad: Whether labelled bad images are among the training images.
    """

    name: str
    split: str
    kind: str = "clean"
    amount: float | str | None = None
    minimum_bad: int = 5
    stopping: tuple[tuple[str, Any], ...] = ()
    make_split: Callable[..., Any] = field(default=clean_split, compare=False, repr=False)
    holds_out: bool = False
    labels_bad: bool = False

    @property
    def is_drawn(self) -> bool:
        """Whether the split depends on the seed."""
        return self.kind != "clean"

    @property
    def tables(self) -> list[str]:
        """Names of the tables of its split, in the order in which they are made."""
        held_out = ["validation"] if self.holds_out else []
        return ["train", *held_out, "test", *(["draw"] if self.is_drawn else [])]

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
    """A category of a dataset.

    Attributes:
        dataset: Name of the dataset in the parameter files.
        category: Name of the category.
        dataset_params: Name of the dataset's entry as Kedro sees it, e.g. ``params:datasets.elpv``.
        dataset_settings: That entry.
    """

    dataset: str
    category: str
    dataset_params: str = field(compare=False)
    dataset_settings: DatasetSettings = field(compare=False, repr=False)

    @cached_property
    def names(self) -> CategoryNames:
        """Names of what is known of the category."""
        return CategoryNames(self)

    @property
    def is_generated(self) -> bool:
        return self.dataset_settings.generator is not None

    @property
    def data_tags(self) -> list[str]:
        return [slug(self.dataset), slug(self.category)]


@dataclass(frozen=True)
class Cell(Category):
    """One point of a grid, with the settings it needs.

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
    detector_settings: DetectorSettings = field(compare=False, repr=False)
    network_settings: Mapping[str, BackboneSettings] = field(compare=False, repr=False)
    texture_settings: TextureSettings | None = field(compare=False, repr=False)
    common_draw: Condition | None = None
    common_seed: int | None = None
    drift: Drift | None = None
    domains: Domains | None = None

    @cached_property
    def names(self) -> CellNames:
        """Names of everything that is made for the cell."""
        return CellNames(self)

    @property
    def networks(self) -> dict[str, str]:
        """Names of the detector's pretrained networks by what they are to it."""
        return self.detector_settings.named_networks

    @property
    def own_networks(self) -> list[str]:
        """Names of the pretrained networks that the detector's class asks for by itself."""
        return list(self.detector_settings.networks)

    @property
    def textures_entry(self) -> str | None:
        """Name of the texture images in the parameter files."""
        return self.detector_settings.textures

    @property
    def crops_textures(self) -> bool:
        """Whether texture images are cropped to a square; generated ones are square."""
        textures = self.texture_settings
        return self.detector_settings.crop_textures and textures is not None and textures.generator is None

    @property
    def gives_maps(self) -> bool:
        return self.detector_settings.gives_maps

    @property
    def foreground_method(self) -> str:
        """How the detector is told where the part is."""
        return self.detector_settings.foreground_of.get(self.dataset, self.detector_settings.foreground)

    def network_facts(self, name: str) -> dict[str, Any]:
        """A pretrained network's entry; of a weight file its name counts and not where it lies."""
        facts = dict(self.network_settings[name].given)
        if isinstance(weights := facts.get("weights"), Mapping) and "file" in weights:
            facts["weights"] = Path(weights["file"]).name
        return facts

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
        return {name: {"defect_type": [name]} for name in self.dataset_settings.measured_apart}

    @property
    def tags(self) -> list[str]:
        return [*self.data_tags, slug(self.detector), self.condition.name, f"seed_{self.seed}"]

    @property
    def label(self) -> str:
        """Its title: what its predictions depend on."""
        names = [self.dataset, self.category, self.detector, f"{self.image_size} px", self.condition.name]
        if self.drift:
            names.append(self.test_set.replace("_", " "))
        return " · ".join([*names, f"seed {self.seed}"])

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


def each_once(cells: Iterable[AnyCell], key: str) -> list[AnyCell]:
    """One cell for each result that cells share.

    Args:
        cells: Cells of a grid.
        key: The attribute of a cell's names that tells the result, e.g. ``fit_key``.

    Returns:
        The first cell of each, in order.
    """
    first: dict[str, AnyCell] = {}
    for cell in cells:
        first.setdefault(getattr(cell.names, key), cell)
    return list(first.values())
