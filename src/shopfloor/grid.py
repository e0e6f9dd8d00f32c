"""Parameters -> cells -> names. The only place that knows how a cell is named.

A cell is one point of an experiment's grid: a category of a dataset, a detector, an image size, a training condition,
a seed, and the test set it is measured on. Everything that is computed for it is kept under a name of the form
``<stage>.<dataset>.<category>.<detector>.<size>.<condition>.<seed>.<digest>.<what>``, from which a stage leaves out
what it does not depend on. The digest covers the settings that the file depends on and the version of the code that
makes it, so a changed setting makes new names and equal cells of two experiments are one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click

Parameters = Mapping[str, Any]

#: Raise one of these when the code that makes the file changes its content; what depends on it gets new names.
CODE_VERSIONS = {"index": 1, "images": 1, "split": 1, "weights": 1, "fit": 1, "predict": 1, "measure": 1, "report": 1}
FULL_TEST_SET = "full"
LEARNING_TYPES = ("one_class", "unsupervised", "supervised")
_DETECTOR_KEYS = {
    "class_path", "init_args", "backbone", "learning_type", "gives_maps", "batch_size", "trainer", "size_multiple",
    "num_workers", "version",
}  # fmt: skip
#: Keys of a detector's entry that do not change what it computes.
_WITHOUT_EFFECT = ("size_multiple", "num_workers")
_DATASET_KEYS = {
    "reader", "root", "categories", "options", "generator", "title", "licence", "source",
}  # fmt: skip


class GridError(click.ClickException):
    """A parameter file asks for something impossible; the text names the entry."""


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
    """What a detector is trained on: the clean training images, or a contaminated set.

    Attributes:
        name: ``clean`` or ``noise_<percent>``.
        noise_percent: Share of the training images that are replaced by bad ones, in percent of the good training
            images (protocol 4.5); None for clean.
        minimum_bad: Bad test images that must remain (protocol 4.5).
    """

    name: str
    noise_percent: float | None = None
    minimum_bad: int = 5

    @property
    def is_drawn(self) -> bool:
        """Whether the split depends on the seed."""
        return self.noise_percent is not None

    @property
    def settings(self) -> list[Any]:
        return [self.name, self.noise_percent, self.minimum_bad] if self.is_drawn else [self.name]


CLEAN = Condition("clean")


@dataclass(frozen=True)
class Cell:
    """One point of a grid, with the settings it needs and the names of everything made for it.

    Attributes:
        dataset: Name of the dataset in the parameter files.
        category: Category as it is called on disk.
        detector: Name of the detector's entry in ``parameters_detectors.yml``.
        image_size: Side of the square model input in pixels.
        condition: Training condition.
        seed: Seed of the training and of the condition's draw.
        dataset_params: Name of the dataset's entry as Kedro sees it, e.g. ``params:datasets.elpv``.
        dataset_settings: That entry.
        detector_settings: The detector's entry.
        backbone_settings: Entry of the detector's backbone, None for a detector that names none.
        common_draw: The draw whose test set this cell is measured on instead of its own; None for its own.
        common_seed: Seed of that draw.
    """

    dataset: str
    category: str
    detector: str
    image_size: int
    condition: Condition
    seed: int
    dataset_params: str = field(compare=False)
    dataset_settings: Parameters = field(compare=False, repr=False)
    detector_settings: Parameters = field(compare=False, repr=False)
    backbone_settings: Parameters | None = field(compare=False, repr=False)
    common_draw: Condition | None = None
    common_seed: int | None = None

    # --- what a name consists of -------------------------------------------------------------------------------------

    @cached_property
    def _data(self) -> str:
        return f"{slug(self.dataset)}.{slug(self.category)}"

    @cached_property
    def _data_digest(self) -> str:
        settings = {key: self.dataset_settings.get(key) for key in ("reader", "options", "generator")}
        return digest(CODE_VERSIONS["index"], self.dataset, self.category, settings)

    @cached_property
    def _images_digest(self) -> str:
        return digest(CODE_VERSIONS["images"], self._data_digest, self.image_size)

    def _drawn(self, condition: Condition, seed: int | None) -> str:
        return f"{condition.name}.{seed}" if condition.is_drawn else condition.name

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
            {key: value for key, value in self.detector_settings.items() if key not in _WITHOUT_EFFECT},
            self._backbone_facts,
            self.seed,
        )

    @cached_property
    def _backbone_facts(self) -> dict[str, Any]:
        """The backbone's entry; of a weight file its name counts and not where it lies."""
        facts = dict(self.backbone_settings or {})
        if isinstance(weights := facts.get("weights"), Mapping) and "file" in weights:
            facts["weights"] = Path(weights["file"]).name
        return facts

    @cached_property
    def _coordinates(self) -> str:
        return f"{self._data}.{slug(self.detector)}.{self.image_size}.{self.condition.name}.{self.seed}"

    # --- names of stages' cells, without the stage -------------------------------------------------------------------

    @cached_property
    def category_name(self) -> str:
        return f"{self._data}.{self._data_digest}"

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
        return f"{self._coordinates}.{digest(CODE_VERSIONS['predict'], self._fit_digest)}"

    @cached_property
    def measure_name(self) -> str:
        draw = self.common_draw.settings if self.common_draw else None
        code = digest(CODE_VERSIONS["measure"], self.predict_name, draw, self.common_seed)
        return f"{self._coordinates}.{self.test_set}.{code}"

    def _sized(self, condition: Condition, seed: int | None) -> str:
        code = digest(self._images_digest, self._split_digest(condition, seed))
        return f"{self._data}.{self.image_size}.{self._drawn(condition, seed)}.{code}"

    # --- dataset names -----------------------------------------------------------------------------------------------

    @property
    def folder(self) -> str:
        return f"data_prep.{self.category_name}.folder"

    @property
    def index(self) -> str:
        return f"data_prep.{self.category_name}.index"

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
    def test_images(self) -> str:
        return f"perturbation.{self.part_name}.test_images"

    @property
    def test_masks(self) -> str:
        return f"perturbation.{self.part_name}.test_masks"

    @property
    def common_test(self) -> str:
        """Table of the test images that the largest noise level of the draw leaves."""
        if self.common_draw is None:
            raise ValueError(f"{self} is measured on its own test set.")
        return f"perturbation.{self.split_name(self.common_draw, self.common_seed)}.test"

    @property
    def backbone(self) -> str | None:
        return self.detector_settings.get("backbone")

    @property
    def backbone_params(self) -> str:
        return f"params:backbones.{self.backbone}"

    @property
    def detector_params(self) -> str:
        return f"params:detectors.{self.detector}"

    @cached_property
    def weights_name(self) -> str:
        return f"{slug(str(self.backbone))}.{digest(CODE_VERSIONS['weights'], self.backbone, self._backbone_facts)}"

    @property
    def weights(self) -> str:
        return f"training.{self.weights_name}.weights"

    @property
    def checkpoint(self) -> str:
        return f"training.{self.fit_name}.checkpoint"

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
        """``full`` for the cell's own test set, ``common_<seed>`` for the one that all noise levels share."""
        return FULL_TEST_SET if self.common_draw is None else f"common_{self.common_seed}"

    @property
    def gives_maps(self) -> bool:
        return bool(self.detector_settings.get("gives_maps", True))

    @property
    def is_generated(self) -> bool:
        return "generator" in self.dataset_settings

    @property
    def tags(self) -> list[str]:
        return [*self.data_tags, slug(self.detector), self.condition.name, f"seed_{self.seed}"]

    @property
    def data_tags(self) -> list[str]:
        return [slug(self.dataset), slug(self.category)]

    @property
    def coordinates(self) -> dict[str, Any]:
        """The columns that name this cell in every table."""
        return {
            "dataset": self.dataset,
            "category": self.category,
            "detector": self.detector,
            "image_size": self.image_size,
            "condition": self.condition.name,
            "seed": self.seed,
            "test_set": self.test_set,
        }


@dataclass(frozen=True)
class Experiment:
    """A named grid.

    Attributes:
        name: Name of its pipeline.
        cells: Its cells, each once, in the order of the parameter file.
        settings: Its block of the parameter files.
        parameters: All parameters, for the report.
    """

    name: str
    cells: tuple[Cell, ...]
    settings: Parameters = field(repr=False)
    parameters: Parameters = field(repr=False)

    @cached_property
    def digest(self) -> str:
        entry = {key: self.settings.get(key) for key in ("title", "demo_note")}
        return digest(CODE_VERSIONS["report"], [cell.measure_name for cell in self.cells], entry)

    def dataset_name(self, what: str) -> str:
        """Name of one of the experiment's own results, e.g. ``reporting.noisy_labels.metrics``."""
        return f"reporting.{self.name}.{what}"


def expand_experiments(parameters: Parameters) -> dict[str, Experiment]:
    """Expand the blocks of all experiments into their grids.

    Args:
        parameters: All parameters of the environment.

    Returns:
        The experiments by name.

    Raises:
        GridError: An entry asks for something impossible.
    """
    expanders = {"model_evaluation": _model_evaluation, "noisy_labels": _noisy_labels}
    experiments = {}
    for name, expand in expanders.items():
        settings = _block(parameters, name)
        cells = tuple(dict.fromkeys(expand(parameters, name, settings)))
        experiments[name] = Experiment(name, cells, settings, parameters)
    return experiments


def each_once(cells: Iterable[Cell], name: str) -> list[Cell]:
    """One cell for each result that cells share.

    Args:
        cells: Cells of a grid.
        name: The attribute of a cell that names the result, e.g. ``fit_name``.

    Returns:
        The first cell of each, in order.
    """
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(getattr(cell, name), cell)
    return list(first.values())


def unique_cells(experiments: Iterable[Experiment]) -> tuple[Cell, ...]:
    """The cells of several experiments, each once."""
    return tuple(dict.fromkeys(cell for experiment in experiments for cell in experiment.cells))


def _model_evaluation(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    for cell in _product(parameters, name, settings):
        yield Cell(**cell, condition=CLEAN)


def _noisy_labels(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    """Every level on its own test set and on the one that all levels of a seed share (protocol 4.5).

    The clean column is the model evaluation's: full test set, first seed. ``clean_same_test`` measures that same
    training on the common test set of each seed.
    """
    minimum_bad = _positive(name, "minimum_bad_test_images", settings.get("minimum_bad_test_images", 5))
    levels = sorted(_listed(name, "noise_percent", settings))
    for level in levels:
        if not isinstance(level, int | float) or not 0 < level < 100:
            raise GridError(f"{name}.noise_percent: {level!r} is not a percentage between 0 and 100.")
    noises = [Condition(f"noise_{level:g}", level, minimum_bad) for level in levels]
    first_seed = _listed(name, "seeds", settings)[0]
    for cell in _product(parameters, name, settings):
        common = {"common_draw": noises[-1], "common_seed": cell["seed"]}
        clean = {**cell, "seed": first_seed, "condition": CLEAN}
        yield Cell(**clean)
        yield Cell(**clean, **common)
        for noise in noises:
            yield Cell(**cell, condition=noise)
            yield Cell(**cell, condition=noise, **common)


def _product(parameters: Parameters, name: str, settings: Parameters) -> Iterable[dict[str, Any]]:
    """The coordinates that every experiment has: dataset, category, detector, image size, seed."""
    detectors = [_detector(parameters, name, entry) for entry in _chosen(parameters, name, settings, "detectors")]
    sizes = [_positive(name, "image_sizes", size) for size in _listed(name, "image_sizes", settings)]
    seeds = [_positive(name, "seeds", seed, smallest=0) for seed in _listed(name, "seeds", settings)]
    for data in _categories(parameters, name, settings):
        for detector in detectors:
            for size in sizes:
                _check_size(name, detector, size)
                for seed in seeds:
                    yield {**data, **detector, "image_size": size, "seed": seed}


def _detector(parameters: Parameters, experiment: str, name: str) -> dict[str, Any]:
    entry = _entry(parameters, "detectors", name, f"{experiment}.detectors")
    where = f"detectors.{name}"
    if unknown := set(entry) - _DETECTOR_KEYS:
        raise GridError(f"{where}: unknown key {_names(unknown)}. Known keys: {_names(_DETECTOR_KEYS)}.")
    if "class_path" not in entry:
        raise GridError(f"{where}: class_path is missing. Name the detector's class, e.g. anomalib.models.Padim.")
    if entry.get("learning_type") not in LEARNING_TYPES:
        raise GridError(f"{where}.learning_type: {entry.get('learning_type')!r} is none of {_names(LEARNING_TYPES)}.")
    trainer = entry.get("trainer") or {}
    if not {"max_epochs", "max_steps"} & set(trainer):
        raise GridError(f"{where}.trainer: say max_epochs or max_steps; Lightning would train for 1,000 epochs.")
    _positive(where, "batch_size", entry.get("batch_size"))
    backbone = entry.get("backbone")
    backbone_settings = _entry(parameters, "backbones", backbone, f"{where}.backbone") if backbone else None
    return {"detector": name, "detector_settings": entry, "backbone_settings": backbone_settings}


def _check_size(experiment: str, detector: dict[str, Any], size: int) -> None:
    multiple = detector["detector_settings"].get("size_multiple", 1)
    if size % multiple:
        raise GridError(
            f"{experiment}.image_sizes: {size} does not fit detector {detector['detector']}, "
            f"which needs a multiple of {multiple} (detectors.{detector['detector']}.size_multiple)."
        )


def _categories(parameters: Parameters, experiment: str, settings: Parameters) -> list[dict[str, Any]]:
    """Datasets and categories of an experiment: its own list and the user's own data."""
    wanted = [*_chosen(parameters, experiment, settings, "datasets"), *_own_data(parameters)]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name in wanted:
        dataset, _, category = name.partition("/")
        block = "own_data" if dataset in (parameters.get("own_data") or {}) else "datasets"
        entry = _entry(parameters, block, dataset, f"{experiment}.datasets")
        if unknown := set(entry) - _DATASET_KEYS:
            raise GridError(f"{block}.{dataset}: unknown key {_names(unknown)}. Known keys: {_names(_DATASET_KEYS)}.")
        names = _category_names(block, dataset, entry)
        if category and category not in names:
            raise GridError(
                f"{experiment}.datasets: {dataset} has no category {category!r}. Categories: {_names(names)}."
            )
        for each in [category] if category else names:
            found[dataset, each] = {
                "dataset": dataset,
                "category": each,
                "dataset_params": f"params:{block}.{dataset}",
                "dataset_settings": entry,
            }
    return list(found.values())


def _category_names(block: str, dataset: str, entry: Parameters) -> list[str]:
    """Categories of a dataset: those that its entry lists, else the ones found in its folder."""
    if entry.get("categories"):
        return [str(category) for category in entry["categories"]]
    from shopfloor.readers import DEFAULT_READER, find_root, load_reader

    reader, options = entry.get("reader", DEFAULT_READER), entry.get("options") or {}
    manifest = {"manifest": options["manifest"]} if "manifest" in options else {}
    names: list[str] = load_reader(reader).categories(find_root(reader, entry.get("root")), **manifest)
    if not names:
        raise GridError(
            f"{block}.{dataset}: no category in {entry.get('root')}. Expected <root>/<category>/train/good."
        )
    return names


def _own_data(parameters: Parameters) -> list[str]:
    """The user's own data joins every experiment, unless ``only.datasets`` leaves it out."""
    own = parameters.get("own_data") or {}
    if both := set(own) & set(parameters.get("datasets") or {}):
        raise GridError(f"own_data: {_names(both)} is the name of a dataset of the project. Choose another name.")
    return [name for name in own if name in _narrowed(parameters, "datasets", list(own))]


def _chosen(parameters: Parameters, experiment: str, settings: Parameters, what: str) -> list[str]:
    """The names an experiment lists, narrowed by ``only.<what>``."""
    return _narrowed(parameters, what, [str(name) for name in _listed(experiment, what, settings)])


def _narrowed(parameters: Parameters, what: str, names: list[str]) -> list[str]:
    only = (parameters.get("only") or {}).get(what) or []
    only = [only] if isinstance(only, str) else list(only)
    known = {*(parameters.get(what) or {}), *((parameters.get("own_data") or {}) if what == "datasets" else {})}
    if unknown := [name for name in only if name.partition("/")[0] not in known]:
        raise GridError(f"only.{what}: {_names(unknown)} is unknown. Known: {_names(known)}.")
    if not only:
        return names
    kept = [name for name in names if name in only or name.partition("/")[0] in only]
    return kept + [name for name in only if "/" in name and name.partition("/")[0] in names]


def _entry(parameters: Parameters, block: str, name: str, where: str) -> Parameters:
    entries = parameters.get(block) or {}
    if block != "backbones" and not re.fullmatch(r"[\w-]+", name):  # a dot or slash would not be one part of a path
        raise GridError(f"{where}: {name!r} cannot be a name. Use letters, digits, _ and -.")
    if name not in entries:
        raise GridError(f"{where}: {name!r} is unknown. Known {block}: {_names(entries)}.")
    entry = entries[name] or {}
    if not isinstance(entry, Mapping):
        raise GridError(f"{block}.{name}: expected keys and values (e.g. root: /path/to/folder), found {entry!r}.")
    return entry


def _block(parameters: Parameters, name: str) -> Parameters:
    block = parameters.get(name)
    if not isinstance(block, Mapping):
        raise GridError(f"{name}: this block of the parameter files is missing.")
    return block


def _listed(experiment: str, key: str, settings: Parameters) -> list[Any]:
    values = settings.get(key)
    if not isinstance(values, list) or not values:
        raise GridError(f"{experiment}.{key}: expected a list with at least one entry, found {values!r}.")
    return values


def _positive(where: str, key: str, value: Any, smallest: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise GridError(f"{where}.{key}: expected a whole number of at least {smallest}, found {value!r}.")
    return value


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names))) or "none"
