"""A run is refused at once where its trainings ask for an accelerator that this machine does not have."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401 (torch looks for devices while this is imported: before they are made up below)
import pytest
import torch
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from shopfloor.runners.accelerators import NoAcceleratorError, refuse_missing_accelerators
from shopfloor.runners.local import LocalRunner
from tests.runners.stub_grid import traces_entry

ENTRY = "params:detectors.padim"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many GPUs CUDA finds; Apple's is not there."""

    def found(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK", raising=False)

    found(0)
    return found


def pipeline() -> Pipeline:
    """Images, two trainings, and a prediction, which chooses its device by itself."""
    train = [
        Node(lambda images, entry: "weights", ["images", ENTRY], name, name=name, namespace="training", tags="gpu")
        for name in ("first", "second")
    ]
    predict = Node(
        lambda weights, entry: "scores", ["first", ENTRY], "scores", name="predict", namespace="evaluation", tags="gpu"
    )
    return Pipeline([Node(lambda: "images", None, "images", name="prepare"), *train, predict])


def catalog_with(trainer: Any) -> DataCatalog:
    catalog = DataCatalog()
    catalog[ENTRY] = {"class_path": "anomalib.models.Padim", "trainer": trainer}
    return catalog


@pytest.mark.parametrize(
    ("count", "trainer", "text"),
    [
        (0, {"accelerator": "cuda"}, "accelerator: this machine has no 'cuda'."),
        (0, {"accelerator": "gpu", "devices": 1}, "accelerator: this machine has no 'gpu'."),
        (0, {"accelerator": "mps"}, "accelerator: this machine has no 'mps'."),
        (2, {"accelerator": "mps"}, "accelerator: this machine has no 'mps'."),
        (0, {"accelerator": "cudda"}, "accelerator: 'cudda' is unknown. Did you mean cuda?"),
        (0, {"devices": [0]}, "devices: this machine has 0 such devices, and [0] counts from 0."),
        (2, {"devices": [2]}, "devices: this machine has 2 such devices, and [2] counts from 0."),
        (2, {"accelerator": "gpu", "devices": [5]}, "devices: this machine has 2 such devices, and [5] counts"),
        (2, {"accelerator": "cpu", "devices": [0]}, "devices: this machine has 0 such devices"),
    ],
)
def test_what_is_not_there_is_refused_with_its_setting(
    gpus: Any, count: int, trainer: dict[str, Any], text: str
) -> None:
    gpus(count)
    nodes = pipeline().nodes
    with pytest.raises(NoAcceleratorError, match=re.escape(f"detectors.padim.trainer.{text}")) as error:
        refuse_missing_accelerators(nodes, catalog_with(trainer))
    assert "Trainings that ask for it: 2." in error.value.message
    assert "Leave the key out" in error.value.message
    # What trains nothing is not in its way: images prepared for a machine that has one, results made there.
    refuse_missing_accelerators([node for node in nodes if node.namespace != "training"], catalog_with(trainer))


@pytest.mark.parametrize(
    ("count", "trainer"),
    [
        (0, None),
        (0, {"max_epochs": 3}),
        (0, {"accelerator": "auto", "devices": 1}),
        (0, {"accelerator": "cpu"}),
        (1, {"accelerator": "gpu", "devices": [0]}),
        (2, {"accelerator": "cuda"}),
        (2, {"devices": [1]}),
    ],
)
def test_what_is_there_is_not_refused(gpus: Any, count: int, trainer: dict[str, Any] | None) -> None:
    gpus(count)
    refuse_missing_accelerators(pipeline().nodes, catalog_with(trainer))


def test_nothing_is_made_by_a_run_that_is_refused(gpus: Any, tmp_path: Path) -> None:
    ran: list[str] = []

    def note(step: str) -> Callable[..., str]:
        def run(*inputs: str) -> str:
            ran.append(step)
            return step

        return run

    prepare = Node(note("prepare"), None, "images", name="prepare")
    train = Node(note("fit"), ["images", ENTRY], "weights", name="fit", namespace="training", tags="gpu")
    grid = Pipeline([prepare, train])

    def run(runner: LocalRunner, accelerator: str) -> None:
        files = {"type": "shopfloor.catalog.atomic.TextDataset", "filepath": str(tmp_path / "images.txt")}
        catalog = DataCatalog.from_config({"images": files, **traces_entry(tmp_path)})
        catalog[ENTRY] = {"trainer": {"accelerator": accelerator}}
        runner.run(grid, catalog, _create_hook_manager())

    with pytest.raises(NoAcceleratorError):
        run(LocalRunner(), "cuda")
    assert not ran
    run(LocalRunner(shard="prepare"), "cuda")  # on the login node of a cluster
    assert ran == ["prepare"]


def test_with_dask_the_machines_of_the_workers_count() -> None:
    from shopfloor.runners import DaskRunner

    assert DaskRunner(workers=2).trains_here
    assert not DaskRunner(address="tcp://127.0.0.1:8786").trains_here
