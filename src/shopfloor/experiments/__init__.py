"""The six experiments: from a block of the parameter files to cells (protocol 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shopfloor.catalog.result_table import COLUMN_TYPES
from shopfloor.perturbations.drift import check_drift
from shopfloor.planning.axes import product
from shopfloor.planning.cell import CLEAN, Cell, Condition, Domains, Drift, Parameters
from shopfloor.planning.parameter_checks import GridError, check_keys, joined, list_of, percentage, whole_number

_STOPPING_KEYS = {"monitor", "patience", "min_delta", "every_n_epochs"}
_SHARE_KEYS = {"detector", "image_size", "datasets", "percent"}


def model_evaluation(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    for cell in product(parameters, name, settings):
        yield Cell(**cell, condition=CLEAN)


def input_size(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    """Every size; where memory forbids all training images, a share of them (protocol 4.2)."""
    shares = [_share(name, share) for share in settings.get("training_share") or []]
    for cell in product(parameters, name, settings):
        percent = next((percent for asked, percent in shares if asked(cell)), 100)
        share = Condition("clean", f"share_{percent:g}", "share", percent)
        yield Cell(**cell, condition=CLEAN if percent == 100 else share)


def _share(experiment: str, share: Any) -> tuple[Callable[[dict[str, Any]], bool], float]:
    """Which cells one entry of ``training_share`` asks for, and the percentage."""
    where = f"{experiment}.training_share"
    if not isinstance(share, Mapping) or not share.keys() >= _SHARE_KEYS:
        raise GridError(f"{where}: each entry needs the keys {joined(_SHARE_KEYS)}, found {share!r}.")
    check_keys(where, share, _SHARE_KEYS)
    datasets, percent = list_of(where, "datasets", share), percentage(where, "percent", share["percent"])

    def asked(cell: dict[str, Any]) -> bool:
        names = (cell["dataset"], f"{cell['dataset']}/{cell['category']}")
        same = (cell["detector"], cell["image_size"]) == (share["detector"], share["image_size"])
        return same and not set(names).isdisjoint(map(str, datasets))

    return asked, percent


def data_drift(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    """Models of the model evaluation on test images as they are and drifted, and on the domains of natural drift."""
    drift = settings.get("drift")
    if not isinstance(drift, Mapping):
        raise GridError(f"{name}.drift: the transforms are missing, found {drift!r}.")
    check_drift(drift)
    seeds = [whole_number(name, "drift_seeds", seed, smallest=0) for seed in list_of(name, "drift_seeds", settings)]
    drifts = [Drift(seed, f"params:{name}.drift", drift) for seed in seeds]
    for cell in product(parameters, name, settings):
        yield Cell(**cell, condition=CLEAN)
        for each in drifts:
            yield Cell(**cell, condition=CLEAN, drift=each)
    if not settings.get("natural"):
        return
    domains = settings.get("domains")
    if not isinstance(domains, Mapping) or not domains:
        raise GridError(f"{name}.domains: expected names of test sets with lists of domains, found {domains!r}.")
    if taken := [str(each) for each in domains if str(each) in COLUMN_TYPES or str(each).endswith("_sd")]:
        raise GridError(f"{name}.domains: {joined(taken)} is the name of a column of tables. Choose another name.")
    test_sets = [Domains(str(each), tuple(map(str, list_of(f"{name}.domains", each, domains)))) for each in domains]
    for cell in product(parameters, name, settings, "natural"):
        for test_set in test_sets:
            yield Cell(**cell, condition=CLEAN, domains=test_set)


def noisy_labels(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    """Every level on its own test set and on the one that all levels of a seed share (protocol 4.5).

    The clean column is the model evaluation's: full test set, first seed. ``clean_same_test`` measures that same
    training on the common test set of each seed.
    """
    minimum_bad = whole_number(name, "minimum_bad_test_images", settings.get("minimum_bad_test_images", 5))
    levels = sorted(percentage(name, "noise_percent", level) for level in list_of(name, "noise_percent", settings))
    noises = [Condition(f"noise_{level:g}", f"noise_{level:g}", "noise", level, minimum_bad) for level in levels]
    first_seed = list_of(name, "seeds", settings)[0]
    for cell in product(parameters, name, settings):
        common = {"common_draw": noises[-1], "common_seed": cell["seed"]}
        clean = {**cell, "seed": first_seed, "condition": CLEAN}
        yield Cell(**clean)
        yield Cell(**clean, **common)
        for noise in noises:
            yield Cell(**cell, condition=noise)
            yield Cell(**cell, condition=noise, **common)


def supervised(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    """Labelled bad images beside the good ones (protocol 4.6), for detectors that learn from them."""
    minimum_bad = whole_number(name, "minimum_bad_test_images", settings.get("minimum_bad_test_images", 5))
    exceptions = settings.get("bad_images_of") or {}
    if not isinstance(exceptions, Mapping):
        raise GridError(f"{name}.bad_images_of: expected numbers by dataset, found {exceptions!r}.")
    if unknown := set(exceptions) - {*(parameters.get("datasets") or {}), *(parameters.get("own_data") or {})}:
        raise GridError(f"{name}.bad_images_of: {joined(unknown)} is unknown.")
    for cell in product(parameters, name, settings):
        if cell["detector_settings"]["learning_type"] != "supervised":
            raise GridError(
                f"{name}.detectors: {cell['detector']} does not learn from labelled bad images "
                f"(detectors.{cell['detector']}.learning_type is {cell['detector_settings']['learning_type']})."
            )
        bad = exceptions.get(cell["dataset"], settings.get("bad_images"))
        if bad != "train":
            bad = whole_number(name, "bad_images", bad)
        # One name for all numbers, so that datasets with different ones have a mean; the split tells them apart.
        condition = Condition("supervised", f"supervised_{bad}", "supervised", bad, minimum_bad)
        yield Cell(**cell, condition=condition)


def validation(parameters: Parameters, name: str, settings: Parameters) -> Iterable[Cell]:
    """The same held-out part for every rule of stopping, the full length among them (protocol 4.7)."""
    percent = percentage(name, "holdout_percent", settings.get("holdout_percent"))
    rules = settings.get("stopping")
    if not isinstance(rules, Mapping) or not rules:
        raise GridError(f"{name}.stopping: expected rules by name, found {rules!r}.")
    conditions = []
    for rule, keys in rules.items():
        if keys is None:  # switched off by an environment
            continue
        if not isinstance(keys, Mapping):
            raise GridError(f"{name}.stopping.{rule}: expected keys and values, found {keys!r}.")
        check_keys(f"{name}.stopping.{rule}", keys, _STOPPING_KEYS)
        stopping = tuple(sorted(keys.items()))
        conditions.append(Condition(str(rule), f"holdout_{percent:g}", "holdout", percent, stopping=stopping))
    for cell in product(parameters, name, settings):
        trainer = cell["detector_settings"].get("trainer") or {}
        if (trainer.get("max_epochs") or 0) <= 1:
            raise GridError(
                f"{name}.detectors: {cell['detector']} has no epochs to stop between "
                f"(detectors.{cell['detector']}.trainer.max_epochs is {trainer.get('max_epochs')})."
            )
        for condition in conditions:
            yield Cell(**cell, condition=condition)


EXPERIMENTS: dict[str, Callable[[Parameters, str, Parameters], Iterable[Cell]]] = {
    "model_evaluation": model_evaluation,
    "input_size": input_size,
    "data_drift": data_drift,
    "noisy_labels": noisy_labels,
    "supervised": supervised,
    "validation": validation,
}
