"""ImageNet weights of the backbones: where they are found, and how any model is given exactly these.

Weights are read once (:func:`read_weights`) and handed to a model while it is built (:func:`use_networks`). They reach
every class that asks timm or torchvision for a pretrained network, whether or not the class has an argument for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import timm
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub import get_session, try_to_load_from_cache
from torch import nn
from torchvision.models import WeightsEnum

from shopfloor.detectors import efficientnet_lite
from shopfloor.detectors.tensor_files import NoWeightsError, read_tensors
from shopfloor.detectors.torchvision_networks import (
    cached_file,
    create_network,
    is_torchvision,
    name_of,
    weights_entry,
)
from shopfloor.detectors.weight_files import WeightsMissing, weight_file
from shopfloor.planning.settings import BackboneSettings

# Bound before any replacement by `use_networks`, which must not serve the reading of the weights themselves.
_create_model = timm.create_model
_get_state_dict = WeightsEnum.get_state_dict

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_TIMEOUT_SECONDS = 5
_RANDOM_WEIGHTS_SEED = 0

StateDict = dict[str, torch.Tensor]


class WeightsMismatch(click.ClickException):
    """Weights were found, but the network does not take them, or does not take all it needs from them."""


def read_weights(name: str, settings: BackboneSettings) -> StateDict:
    """Reads the weights of one network of timm or torchvision.

    Args:
        name: timm name, e.g. ``wide_resnet50_2.tv_in1k``, or torchvision's, e.g.
            ``torchvision/efficientnet_b5.IMAGENET1K_V1``.
        settings: Its entry. The ``weights`` are one of ``hub`` (downloaded on first use), ``random`` (an untrained
            network, always the same one), ``{package: module name}`` (a ``.pth`` file inside an installed pip package)
            or ``{file: path}`` (``.pth`` or ``.safetensors``); a file takes precedence.

    Returns:
        State dict of the whole network, every tensor of it, under the library's names.

    Raises:
        WeightsMissing: If there is no such network, package or file, or the hub cannot be reached.
        WeightsMismatch: If the file lacks a tensor of the network or has one too many.
    """
    _check_name(name)
    match settings.weights:
        case "hub":
            return _read_hub(name)
        case "random":
            return _random_weights(name)
        case other if file := weight_file(name, other):
            return _read_file(name, file)
        case other:
            raise WeightsMissing(
                f"Backbone '{name}': weights are {other!r}. "
                "Give hub, random, {package: <module name>} or {file: <path to a .pth or .safetensors file>}."
            )


def _check_name(name: str) -> None:
    """Refuses a network that its library does not have."""
    if is_torchvision(name):
        try:
            weights_entry(name)
        except ValueError as error:
            raise WeightsMissing(f"Backbone '{name}': {error}. See torchvision.models.list_models().") from error
        return
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        similar = ", ".join(get_close_matches(architecture, timm.list_models())) or "see timm.list_models()"
        raise WeightsMissing(f"Backbone '{name}': timm has no network of this name. Similar names: {similar}.")


@contextmanager
def use_networks(given: Mapping[str, StateDict]) -> Iterator[None]:
    """While open, a model that asks for a pretrained network of these names gets these weights, without a download.

    timm accepts a state dict (``pretrained_cfg_overlay``), but a third of anomalib's models offer no way to pass it on,
    some not even a switch against the download. Hence ``timm.create_model`` itself, and torchvision's reading of
    weights, are replaced for the time the model is built. This holds for the whole process: build one model at a time.

    Args:
        given: By name, weights of the whole network as :func:`read_weights` gives them. A model may ask for a network
            with its tag (``resnet18.tv_in1k``) or without (``resnet18``). What the model leaves out (the classifier,
            the last stages) is surplus.

    Raises:
        WeightsMismatch: If the model asks for another network, if a tensor of a built network does not come
            from its state dict, or if one of the networks was not asked for.
    """
    unused = dict.fromkeys(given)

    def given_weights(asked: str) -> StateDict:
        name = next((name for name in given if _is_meant(asked, name)), None)
        if name is None:
            named = "', '".join(given)
            raise WeightsMismatch(
                f"The model asks for the pretrained network '{asked}', but its settings name '{named}'. "
                f"Name '{asked}' as its backbone (or, if that is no argument of its class, among its networks), or "
                f"choose a model that takes '{named}'."
            )
        unused.pop(name, None)
        return given[name]

    with _answer_requests(given_weights):
        yield
    if unused:
        raise WeightsMismatch(
            f"The model was built without asking for the pretrained network '{next(iter(unused))}', so its weights are "
            "unused. If it is to be untrained, name it in init_args instead of at 'backbone', 'encoder' or 'networks'; "
            "if not, remove 'pre_trained: false' (for an encoder 'encoder_pre_trained: false') from init_args. If the "
            "class has no use for it, remove its name from the settings."
        )


@contextmanager
def weights_from_hub() -> Iterator[None]:
    """While open, pretrained networks are read from the hub or its cache; without either, the build fails at once.

    For models that name their own network. timm alone would retry for half a minute and more.

    Raises:
        WeightsMissing: If the hub cannot be reached and its cache lacks the weights.
    """
    with _answer_requests(lambda asked: read_weights(asked, BackboneSettings(weights="hub"))):
        yield


@contextmanager
def without_weights() -> Iterator[None]:
    """While open, networks stay untrained: for building a model again whose checkpoint holds all its weights."""
    with _answer_requests(lambda _: None):
        yield


@contextmanager
def _answer_requests(weights_for: Callable[[str], StateDict | None]) -> Iterator[None]:
    def create_model(model_name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        weights = weights_for(model_name) if pretrained else None
        if weights is None:
            return _create_model(model_name, pretrained=False, **options)
        return _load(model_name, weights, **options)

    def get_state_dict(entry: WeightsEnum, *_: Any, **__: Any) -> StateDict:
        name = name_of(entry)
        weights = weights_for(name)
        return dict(create_network(name).state_dict()) if weights is None else weights

    replaced = timm.create_model, WeightsEnum.get_state_dict
    timm.create_model = create_model  # type: ignore[assignment]  # takes what a model passes on, not all that timm names
    WeightsEnum.get_state_dict = get_state_dict
    try:
        yield
    finally:
        timm.create_model, WeightsEnum.get_state_dict = replaced


def _is_meant(asked: str, name: str) -> bool:
    """Whether a request, with or without tag, is for the network of this name, with or without tag.

    A model of torchvision always names its weights; a name of ours without tag stands for the newest of them.
    """
    if is_torchvision(name) and is_torchvision(asked):
        return name_of(weights_entry(name)) == name_of(weights_entry(asked))
    return asked in (name, name.partition(".")[0])


def _load(name: str, weights: StateDict, **options: Any) -> nn.Module:
    # A copy, because timm takes the classifier out of the dict it is given.
    overlay = {"state_dict": dict(weights)}
    network = _create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    _check_loaded(name, network, weights)
    for module in network.modules():  # timm keeps the whole dict, head and all, as a memory of its settings.
        if isinstance(settings := getattr(module, "pretrained_cfg", None), dict):
            settings.pop("state_dict", None)
    return network


def _check_loaded(name: str, network: nn.Module, weights: StateDict) -> None:
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


def _read_file(name: str, path: Path) -> StateDict:
    if not path.is_file():
        raise WeightsMissing(
            f"Backbone '{name}': there is no file '{path}'. Put the weights of '{name}' there, "
            "or change 'weights' of this backbone."
        )
    try:
        weights = read_tensors(path)
    except NoWeightsError as error:
        raise WeightsMismatch(f"Backbone '{name}': '{path}' {error}") from error
    try:
        if efficientnet_lite.is_lite(weights):
            weights = efficientnet_lite.to_timm(weights, _create_model(name))
        network = _filled(name, _encoder_of_autoencoder(weights))
    except (RuntimeError, ValueError) as error:
        raise WeightsMismatch(f"Backbone '{name}': '{path}' does not fit this network. {error}") from error
    return dict(network.state_dict())


def _filled(name: str, weights: StateDict) -> nn.Module:
    """The whole network with these weights, every tensor of it."""
    if is_torchvision(name):
        network = create_network(name)
        network.load_state_dict(weights)
        return network
    return _create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": weights})


def _encoder_of_autoencoder(weights: StateDict) -> StateDict:
    """Leaves out what a masked auto-encoder's checkpoint has beside the vision transformer (specification of MMR)."""
    if "decoder_embed.weight" not in weights:
        return weights
    return {key: tensor for key, tensor in weights.items() if "decoder" not in key and key != "mask_token"}


def _read_hub(name: str) -> StateDict:
    return _read_torchvision_hub(name) if is_torchvision(name) else _read_timm_hub(name)


def _read_torchvision_hub(name: str) -> StateDict:
    entry = weights_entry(name)
    file = cached_file(entry)
    if file.is_file():
        return _read_file(name, file)
    try:
        return dict(_get_state_dict(entry, progress=True, check_hash=True, weights_only=True))
    except Exception as error:  # network, proxy and file errors share no base class
        raise WeightsMissing(
            f"Backbone '{name}': its weights are not in torchvision's cache ({file}) and cannot be downloaded "
            f"({type(error).__name__}: {error}). On a machine with network run\n    curl -LO {entry.url}\n"
            f"and copy the file there, or name it with weights: {{file: <path to {file.name}>}}."
        ) from error


def _read_timm_hub(name: str) -> StateDict:
    hub_id: str = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None) or ""
    for file in _HUB_FILES if hub_id else ():
        if isinstance(cached := try_to_load_from_cache(hub_id, file), str):
            return _read_file(name, Path(cached))
    try:
        if hub_id:  # One short knock: the download itself would retry for half a minute before it gives up.
            get_session().head(hub_constants.ENDPOINT, timeout=_HUB_TIMEOUT_SECONDS)
        return dict(_create_model(name, pretrained=True).state_dict())
    except Exception as error:  # network, proxy and hub errors share no base class
        fetch = f"hf download {hub_id} {_HUB_FILES[0]} --local-dir ." if hub_id else "see https://huggingface.co/timm"
        raise WeightsMissing(
            f"Backbone '{name}': its weights are not in the hub's cache ({hub_constants.HF_HUB_CACHE}) and cannot be "
            f"downloaded ({type(error).__name__}: {error}). Connect to the network for the first use, or run on a "
            f"machine with network\n    {fetch}\n(https://huggingface.co/{hub_id or 'timm'}) and name the file here "
            f"with weights: {{file: <path to {_HUB_FILES[0]}>}}."
        ) from error


def _random_weights(name: str) -> StateDict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_WEIGHTS_SEED)
        network = create_network(name) if is_torchvision(name) else _create_model(name)
        return dict(network.state_dict())
