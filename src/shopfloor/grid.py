"""Experiments: parameters are expanded into cells, and what cannot be is refused with the entry that asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import click

from shopfloor.cell import CLEAN, CODE_VERSIONS, Category, Cell, Condition, Parameters, digest

LEARNING_TYPES = ("one_class", "unsupervised", "supervised")
_DETECTOR_KEYS = {
    "class_path", "init_args", "backbone", "learning_type", "gives_maps", "batch_size", "trainer", "size_multiple",
    "num_workers", "version",
}  # fmt: skip
_DATASET_KEYS = {
    "reader", "root", "categories", "options", "generator", "title", "licence", "source", "project_page",
}  # fmt: skip

_EXPERIMENT_KEYS = {"title", "demo_note", "datasets", "detectors", "image_sizes", "seeds"}
_OWN_KEYS = {"noisy_labels": {"noise_percent", "minimum_bad_test_images"}}
_BACKBONE_KEYS = {"weights", "mean", "std"}
_GENERATOR_KEYS = {"seed", "size", "counts"}
_COUNT_KEYS = {"train_good", "test_good", "test_bad"}
_ONLY_KEYS = {"datasets", "detectors"}


class GridError(click.ClickException):
    """A parameter file asks for something impossible; the text names the entry."""


@dataclass(frozen=True)
class Experiment:
    """A named grid.

    Attributes:
        name: Name of its pipeline.
        cells: Its cells, each once, in the order of the parameter file.
        settings: Its block of the parameter files.
    """

    name: str
    cells: tuple[Cell, ...]
    settings: Parameters = field(repr=False)

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
    for block in ("datasets", "own_data", "detectors", "backbones", "only"):
        if not isinstance(entries := parameters.get(block) or {}, Mapping):
            raise GridError(f"{block}: expected names with settings below them, found {entries!r}.")
        for name in entries:
            # a dot or slash would not be one part of a path; timm's tags have dots
            allowed = r"[\w.-]+" if block == "backbones" else r"[\w-]+"
            if not isinstance(name, str) or not re.fullmatch(allowed, name):
                raise GridError(
                    f"{block}: {name!r} cannot be a name. Use letters, digits, _ and - (a number in quotes)."
                )
    _check_keys("only", parameters.get("only") or {}, _ONLY_KEYS)
    expanders = {"model_evaluation": _model_evaluation, "noisy_labels": _noisy_labels}
    experiments = {}
    for name, expand in expanders.items():
        settings = _block(parameters, name)
        _check_keys(name, settings, _EXPERIMENT_KEYS | _OWN_KEYS.get(name, set()))
        cells = tuple(dict.fromkeys(expand(parameters, name, settings)))
        experiments[name] = Experiment(name, cells, settings)
    return experiments


def checked_categories(parameters: Parameters) -> list[Category]:
    """The categories that ``data_prep`` checks beyond those of the experiments.

    Args:
        parameters: All parameters of the environment.

    Returns:
        The categories of the datasets that the block ``data_prep`` lists.

    Raises:
        GridError: The block asks for something impossible.
    """
    settings = _block(parameters, "data_prep")
    _check_keys("data_prep", settings, {"datasets"})
    listed = [str(name) for name in _listed("data_prep", "datasets", settings)] if settings.get("datasets") else []
    names = _narrowed(parameters, "datasets", listed)
    return [Category(**data) for data in _categories_of(parameters, "data_prep", names)]


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
    _check_keys(where, entry, _DETECTOR_KEYS)
    for key in ("init_args", "trainer"):
        if not isinstance(entry.get(key) or {}, Mapping):
            raise GridError(f"{where}.{key}: expected keys and values, found {entry[key]!r}.")
    if "class_path" not in entry:
        raise GridError(f"{where}: class_path is missing. Name the detector's class, e.g. anomalib.models.Padim.")
    if entry.get("learning_type") not in LEARNING_TYPES:
        raise GridError(f"{where}.learning_type: {entry.get('learning_type')!r} is none of {_names(LEARNING_TYPES)}.")
    trainer = entry.get("trainer") or {}
    if trainer.get("max_epochs") is None and trainer.get("max_steps") is None:
        raise GridError(f"{where}.trainer: say max_epochs or max_steps; Lightning would train for 1,000 epochs.")
    _positive(where, "batch_size", entry.get("batch_size"))
    backbone = entry.get("backbone")
    backbone_settings = _entry(parameters, "backbones", backbone, f"{where}.backbone") if backbone else None
    _check_keys(f"backbones.{backbone}", backbone_settings or {}, _BACKBONE_KEYS)
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
    return _categories_of(parameters, experiment, wanted)


def _categories_of(parameters: Parameters, experiment: str, wanted: Iterable[str]) -> list[dict[str, Any]]:
    """What a category or cell needs to know of each category of some datasets."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name in wanted:
        dataset, _, category = name.partition("/")
        block = "own_data" if dataset in (parameters.get("own_data") or {}) else "datasets"
        entry = _entry(parameters, block, dataset, f"{experiment}.datasets")
        _check_dataset(f"{block}.{dataset}", entry)
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


def _check_dataset(where: str, entry: Parameters) -> None:
    _check_keys(where, entry, _DATASET_KEYS)
    if not isinstance(entry.get("root") or "", str):
        raise GridError(f"{where}.root: expected the path of a folder, found {entry['root']!r}.")
    if "generator" in entry:
        _check_keys(f"{where}.generator", entry["generator"] or {}, _GENERATOR_KEYS)
        _check_keys(f"{where}.generator.counts", entry["generator"].get("counts") or {}, _COUNT_KEYS)


def _category_names(block: str, dataset: str, entry: Parameters) -> list[str]:
    """Categories of a dataset: those that its entry lists, else the ones found in its folder."""
    if entry.get("categories"):
        return [str(category) for category in entry["categories"]]
    from shopfloor.readers import DEFAULT_READER, list_categories

    reader, options = entry.get("reader", DEFAULT_READER), entry.get("options") or {}
    page = entry.get("project_page", "")
    return list(list_categories(reader, entry.get("root"), options, dataset=dataset, project_page=page))


def _own_data(parameters: Parameters) -> list[str]:
    """The user's own data joins every experiment, unless ``only.datasets`` leaves it out."""
    own = parameters.get("own_data") or {}
    if both := set(own) & set(parameters.get("datasets") or {}):
        raise GridError(f"own_data: {_names(both)} is the name of a dataset of the project. Choose another name.")
    return _narrowed(parameters, "datasets", [str(name) for name in own])


def _chosen(parameters: Parameters, experiment: str, settings: Parameters, what: str) -> list[str]:
    """The names an experiment lists, narrowed by ``only.<what>``."""
    return _narrowed(parameters, what, [str(name) for name in _listed(experiment, what, settings)])


def _narrowed(parameters: Parameters, what: str, names: list[str]) -> list[str]:
    only = (parameters.get("only") or {}).get(what) or []
    only = [str(name) for name in (only if isinstance(only, list) else [only])]
    known = {*(parameters.get(what) or {}), *((parameters.get("own_data") or {}) if what == "datasets" else {})}
    if unknown := [name for name in only if name.partition("/")[0] not in known]:
        raise GridError(f"only.{what}: {_names(unknown)} is unknown. Known: {_names(known)}.")
    if not only:
        return names
    kept = [name for name in names if name in only or name.partition("/")[0] in only]
    return kept + [name for name in only if "/" in name and name.partition("/")[0] in names]


def _check_keys(where: str, entry: Parameters, known: set[str]) -> None:
    """A misspelt key would leave a setting as it was, without a word."""
    if unknown := set(map(str, entry)) - known:
        raise GridError(f"{where}: unknown key {_names(unknown)}. Known keys: {_names(known)}.")


def _entry(parameters: Parameters, block: str, name: str, where: str) -> Parameters:
    entries = parameters.get(block) or {}
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
    if isinstance(values, str):  # all that --params can say: Kedro splits it at commas
        values = [values]
    if not isinstance(values, list) or not values:
        raise GridError(f"{experiment}.{key}: expected a list with at least one entry, found {values!r}.")
    return values


def _positive(where: str, key: str, value: Any, smallest: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise GridError(f"{where}.{key}: expected a whole number of at least {smallest}, found {value!r}.")
    return value


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names))) or "none"
