"""Files that hold no usable weights: each is said what it is and what to do, never to read it unsafely."""

from __future__ import annotations

import ast
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shopfloor.detectors.backbones import WeightsMismatch
from shopfloor.detectors.errors import DetectorError
from shopfloor.detectors.foreground import MobileSam
from shopfloor.detectors.tensor_files import NoWeightsError, read_tensors
from tests.conftest import PROJECT
from tests.detectors.plain_entries import read_weights

SOURCE_LINE = "weights_only=True"  # of the project's own call, in a traceback
TENSORS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3)}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 102544\n"


class Executed:
    """Would run code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return print, ("code of the file was run",)


def pointer(path: Path) -> None:
    path.write_text(POINTER, encoding="utf-8")


def web_page(path: Path) -> None:
    path.write_text("\n  <!DOCTYPE html>\n<html><body>404: not found</body></html>", encoding="utf-8")


def other_page(path: Path) -> None:
    path.write_text('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', encoding="utf-8")


def empty(path: Path) -> None:
    path.touch()


def cut_short(path: Path) -> None:
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-300])


def safetensors_cut_short(path: Path) -> None:
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-3])


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(2000))


def code(path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(2), "note": Executed()}, path)


def old_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Executed()))


def array(path: Path) -> None:
    torch.save({"layer.weight": np.zeros(3)}, path)


def nested(path: Path) -> None:
    torch.save({"epoch": 3, "net": TENSORS}, path)


def with_nan(path: Path) -> None:
    torch.save({**TENSORS, "bias": torch.tensor([1.0, float("nan")])}, path)


def with_infinity(path: Path) -> None:
    save_file({**TENSORS, "bias": torch.tensor([1.0, float("-inf")]).half()}, path)


BROKEN: list[tuple[Callable[[Path], None], str, str]] = [
    (pointer, ".pth", "is a pointer of Git LFS.*git lfs pull"),
    (pointer, ".safetensors", "is a pointer of Git LFS.*git lfs pull"),
    (web_page, ".pth", "is a web page: .*Get it again"),
    (other_page, ".safetensors", "is a web page: .*Get it again"),
    (empty, ".pth", "is empty. Get it again"),
    (cut_short, ".pth", r"cut short \([\d,]+ bytes\).*Get it again"),
    (safetensors_cut_short, ".safetensors", r"cut short \([\d,]+ bytes\).*Get it again"),
    (noise, ".pth", r"damaged, cut short \(2,000 bytes\) or of another kind"),
    (noise, ".safetensors", r"damaged, cut short \(2,000 bytes\) or of another kind"),
    (code, ".pth", "also holds .*print.*save its tensors alone"),
    (array, ".pth", "also holds .*numpy.*save its tensors alone"),
    (old_pickle, ".pth", "not a file of plain weights"),
    (nested, ".pth", "is no state dict"),
    (with_nan, ".pth", "NaN or infinite.* in 1 of 3 tensors, the first: bias"),
    (with_infinity, ".safetensors", "NaN or infinite.* in 1 of 3 tensors, the first: bias"),
]


@pytest.mark.parametrize(("write", "suffix", "text"), BROKEN)
def test_what_is_no_file_of_weights_is_said_with_what_to_do(
    write: Callable[[Path], None], suffix: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"weights{suffix}"
    write(path)
    with pytest.raises(NoWeightsError, match=text) as caught:
        read_tensors(path)
    assert "weights_only" not in "".join(traceback.format_exception(caught.value)).replace(SOURCE_LINE, "")
    assert "was run" not in capsys.readouterr().out


@pytest.mark.parametrize(("write", "suffix", "text"), [BROKEN[0], BROKEN[2], BROKEN[9], BROKEN[13]])
def test_the_network_and_the_file_are_named(
    write: Callable[[Path], None], suffix: str, text: str, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    write(path)
    with pytest.raises(WeightsMismatch, match=f"Backbone 'resnet10t': '{path}' .*{text}"):
        read_weights("resnet10t", {"weights": {"file": str(path)}})
    with pytest.raises(DetectorError, match=f"FOREGROUND_WEIGHTS: '{path}' .*{text}"):
        MobileSam(path)


@pytest.mark.parametrize("save", [torch.save, lambda tensors, path: torch.save({"state_dict": tensors}, path)])
def test_tensors_are_read_as_they_were_written(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    save(TENSORS, tmp_path / "weights.pth")
    read = read_tensors(tmp_path / "weights.pth")
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


def test_every_reading_of_torch_says_that_it_wants_plain_tensors() -> None:
    """Not left to the default: ``torch.hub`` has another than ``torch.load``."""
    calls = [
        (path.name, node)
        for path in (PROJECT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (ast.unparse(node.func) in {"torch.load", "_get_state_dict"} or _reads_a_path(node))
    ]
    assert len(calls) == 3
    for name, call in calls:
        assert "weights_only=True" in map(ast.unparse, call.keywords), name


def _reads_a_path(call: ast.Call) -> bool:
    """Whether it is timm's function, and not the method of the same name that fills a network."""
    return ast.unparse(call.func) == "load_state_dict"
