"""The coordinates that every experiment has: dataset, category, detector, image size and seed, from its lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shopfloor.planning.cell import FOREGROUND_METHODS, NETWORK_ROLES, Parameters
from shopfloor.planning.parameter_checks import (
    GridError,
    check_keys,
    check_path,
    entry_of,
    joined,
    list_of,
    whole_number,
)

LEARNING_TYPES = ("one_class", "unsupervised", "supervised")
_DETECTOR_KEYS = {
    "class_path", "init_args", "backbone", "encoder", "networks", "textures", "foreground", "foreground_of",
    "learning_type", "gives_maps", "batch_size", "balance", "trainer", "size_multiple", "num_workers", "version",
}  # fmt: skip
_DATASET_KEYS = {
    "reader", "root", "categories", "options", "generator", "title", "licence", "source", "project_page",
    "measured_apart", "foreground_folder",
}  # fmt: skip
#: Stands for the categories of a dataset whose folder cannot be listed while the grid is planned.
UNKNOWN_CATEGORY = "unknown"
_BACKBONE_KEYS = {"weights", "mean", "std"}
_TEXTURE_KEYS = {"folder", "generator", "title", "licence", "source"}
_TEXTURE_GENERATOR_KEYS = {"seed", "count"}
_BALANCE_KEYS = {"good", "bad", "batches"}
_GENERATOR_KEYS = {"seed", "size", "counts"}
_COUNT_KEYS = {"train_good", "train_bad", "test_good", "test_bad"}


def product(
    parameters: Parameters, name: str, settings: Parameters, datasets: str = "datasets"
) -> Iterable[dict[str, Any]]:
    """The coordinates that every experiment has: dataset, category, detector, image size, seed."""
    detectors = [_detector(parameters, name, entry) for entry in _chosen(parameters, name, settings, "detectors")]
    sizes = [whole_number(name, "image_sizes", size) for size in list_of(name, "image_sizes", settings)]
    seeds = [whole_number(name, "seeds", seed, smallest=0) for seed in list_of(name, "seeds", settings)]
    for data in _categories(parameters, name, settings, datasets):
        for detector in detectors:
            for size in sizes:
                _check_size(name, detector, size)
                for seed in seeds:
                    yield {**data, **detector, "image_size": size, "seed": seed}


def _detector(parameters: Parameters, experiment: str, name: str) -> dict[str, Any]:
    entry = entry_of(parameters, "detectors", name, f"{experiment}.detectors")
    where = f"detectors.{name}"
    check_keys(where, entry, _DETECTOR_KEYS)
    for key in ("init_args", "trainer"):
        if not isinstance(entry.get(key) or {}, Mapping):
            raise GridError(f"{where}.{key}: expected keys and values, found {entry[key]!r}.")
    if "class_path" not in entry:
        raise GridError(f"{where}: class_path is missing. Name the detector's class, e.g. anomalib.models.Padim.")
    if entry.get("learning_type") not in LEARNING_TYPES:
        raise GridError(f"{where}.learning_type: {entry.get('learning_type')!r} is none of {joined(LEARNING_TYPES)}.")
    trainer = entry.get("trainer") or {}
    if trainer.get("max_epochs") is None and trainer.get("max_steps") is None:
        raise GridError(f"{where}.trainer: say max_epochs or max_steps; Lightning would train for 1,000 epochs.")
    whole_number(where, "batch_size", entry.get("batch_size"))
    _check_balance(where, entry)
    _check_foreground(parameters, where, entry)
    return {
        "detector": name,
        "detector_settings": entry,
        "network_settings": _networks(parameters, where, entry),
        "texture_settings": _textures(parameters, where, entry),
    }


def _networks(parameters: Parameters, where: str, entry: Parameters) -> dict[str, Parameters]:
    """Entry of each pretrained network that a detector names."""
    named = [(entry[role], role) for role in NETWORK_ROLES if entry.get(role)]
    own = entry.get("networks", [])
    if not isinstance(own, list):
        raise GridError(f"{where}.networks: expected a list of names, found {own!r}.")
    named += [(name, "networks") for name in own]
    found = {}
    for name, key in named:
        found[name] = entry_of(parameters, "backbones", name, f"{where}.{key}")
        check_keys(f"backbones.{name}", found[name], _BACKBONE_KEYS)
    return found


def _textures(parameters: Parameters, where: str, entry: Parameters) -> Parameters | None:
    """Entry of the texture images that a detector names."""
    if not (name := entry.get("textures")):
        return None
    textures = entry_of(parameters, "textures", name, f"{where}.textures")
    check_keys(f"textures.{name}", textures, _TEXTURE_KEYS)
    check_path(f"textures.{name}", textures, "folder")
    if generator := textures.get("generator"):
        if not isinstance(generator, Mapping):
            raise GridError(f"textures.{name}.generator: expected seed and count, found {generator!r}.")
        check_keys(f"textures.{name}.generator", generator, _TEXTURE_GENERATOR_KEYS)
        for key in sorted(_TEXTURE_GENERATOR_KEYS):
            whole_number(f"textures.{name}.generator", key, generator.get(key), smallest=int(key == "count"))
    return textures


def _check_foreground(parameters: Parameters, where: str, entry: Parameters) -> None:
    """How a detector is told where the part is, in general and for some datasets."""
    of = entry.get("foreground_of") or {}
    if not isinstance(of, Mapping):
        raise GridError(f"{where}.foreground_of: expected datasets with a method below them, found {of!r}.")
    known = {*(parameters.get("datasets") or {}), *(parameters.get("own_data") or {})}
    if unknown := [name for name in of if name not in known]:
        raise GridError(f"{where}.foreground_of: {joined(unknown)} is unknown. Known datasets: {joined(known)}.")
    for place, method in {"foreground": entry.get("foreground", "none"), **of}.items():
        if method not in FOREGROUND_METHODS:
            raise GridError(f"{where}.{place}: {method!r} is none of {joined(FOREGROUND_METHODS)}.")


def _check_balance(where: str, entry: Parameters) -> None:
    """How many good and bad images each batch of a supervised detector holds."""
    if (balance := entry.get("balance")) is None:
        return
    if not isinstance(balance, Mapping):
        raise GridError(f"{where}.balance: expected good, bad and batches, found {balance!r}.")
    check_keys(f"{where}.balance", balance, _BALANCE_KEYS)
    for key in sorted(_BALANCE_KEYS):
        whole_number(f"{where}.balance", key, balance.get(key))
    if balance["good"] + balance["bad"] != entry["batch_size"]:
        raise GridError(f"{where}.balance: good and bad do not add up to batch_size, {entry['batch_size']}.")


def _check_size(experiment: str, detector: dict[str, Any], size: int) -> None:
    multiple = detector["detector_settings"].get("size_multiple", 1)
    if size % multiple:
        raise GridError(
            f"{experiment}.image_sizes: {size} does not fit detector {detector['detector']}, "
            f"which needs a multiple of {multiple} (detectors.{detector['detector']}.size_multiple)."
        )


def _categories(
    parameters: Parameters, experiment: str, settings: Parameters, key: str = "datasets"
) -> list[dict[str, Any]]:
    """Datasets and categories of an experiment: its own list and, unless that is one of domains, the user's data."""
    listed = [str(name) for name in list_of(experiment, key, settings)]
    wanted = narrowed(parameters, "datasets", listed) + (_own_data(parameters) if key == "datasets" else [])
    return categories_of(parameters, experiment, wanted)


def categories_of(parameters: Parameters, experiment: str, wanted: Iterable[str]) -> list[dict[str, Any]]:
    """What a category or cell needs to know of each category of some datasets."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name in wanted:
        dataset, _, category = name.partition("/")
        block = "own_data" if dataset in (parameters.get("own_data") or {}) else "datasets"
        entry = entry_of(parameters, block, dataset, f"{experiment}.datasets")
        _check_dataset(f"{block}.{dataset}", entry)
        names = _category_names(block, dataset, entry)
        if category and category not in names:
            raise GridError(
                f"{experiment}.datasets: {dataset} has no category {category!r}. Categories: {joined(names)}."
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
    check_keys(where, entry, _DATASET_KEYS)
    check_path(where, entry, "root")
    check_path(where, entry, "foreground_folder")
    if not isinstance(entry.get("options") or {}, Mapping):
        raise GridError(f"{where}.options: expected keys and values, found {entry['options']!r}.")
    for category in list_of(where, "categories", entry) if entry.get("categories") else []:
        if not isinstance(category, str):
            raise GridError(f"{where}.categories: {category!r} is not a text. Put names in quotes, e.g. '01'.")
    if "generator" in entry:
        check_keys(f"{where}.generator", entry["generator"] or {}, _GENERATOR_KEYS)
        check_keys(f"{where}.generator.counts", entry["generator"].get("counts") or {}, _COUNT_KEYS)


def _category_names(block: str, dataset: str, entry: Parameters) -> list[str]:
    """Categories of a dataset: those that its entry lists, else the ones found in its folder."""
    if entry.get("categories"):
        return list_of(f"{block}.{dataset}", "categories", entry)
    from shopfloor.readers import DEFAULT_READER, DatasetError, list_categories

    reader, options = entry.get("reader", DEFAULT_READER), entry.get("options") or {}
    page = entry.get("project_page", "")
    try:
        return list(list_categories(reader, entry.get("root"), options, dataset=dataset, project_page=page))
    except DatasetError:
        # Its own cells fail with the reason; other datasets run.
        return [UNKNOWN_CATEGORY]


def _own_data(parameters: Parameters) -> list[str]:
    """The user's own data joins every experiment, unless ``only.datasets`` leaves it out."""
    own = parameters.get("own_data") or {}
    if both := set(own) & set(parameters.get("datasets") or {}):
        raise GridError(f"own_data: {joined(both)} is the name of a dataset of the project. Choose another name.")
    return narrowed(parameters, "datasets", [str(name) for name in own])


def _chosen(parameters: Parameters, experiment: str, settings: Parameters, what: str) -> list[str]:
    """The names an experiment lists, narrowed by ``only.<what>``."""
    return narrowed(parameters, what, [str(name) for name in list_of(experiment, what, settings)])


def narrowed(parameters: Parameters, what: str, names: list[str]) -> list[str]:
    """Keep the names that ``only`` asks for: a list (an empty one: all), or one text with ``+`` between the names.

    Raises:
        GridError: It asks for what is unknown, or holds no name.
    """
    only = (parameters.get("only") or {}).get(what, [])
    if only is None or not str(only).strip():
        raise GridError(f"only.{what}: no name is given. Name one, or several with + between them, or leave it out.")
    # --params has no lists, and Kedro splits it at commas.
    only = [str(name).strip() for name in (only if isinstance(only, list) else str(only).split("+"))]
    known = {*(parameters.get(what) or {}), *((parameters.get("own_data") or {}) if what == "datasets" else {})}
    if unknown := [name for name in only if name.partition("/")[0] not in known]:
        raise GridError(f"only.{what}: {joined(unknown)} is unknown. Known: {joined(known)}.")
    if not only:
        return names
    kept = [name for name in names if name in only or name.partition("/")[0] in only]
    return kept + [name for name in only if "/" in name and name.partition("/")[0] in names]
