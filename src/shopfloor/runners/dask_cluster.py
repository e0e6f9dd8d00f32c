"""The workers of a run: started on this machine for its time, or those of a scheduler that runs already."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import click
import dask
import psutil
from dask.utils import format_bytes, parse_bytes
from distributed import Client, Nanny, Scheduler, SpecCluster
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from shopfloor.entries import Expected, Settings, refusal
from shopfloor.readers.measure import available_cores

logger = logging.getLogger(__name__)

#: A node whose worker died so often while it ran is given up.
ATTEMPTS = 3
SECONDS_TO_ANSWER = 30
# What matters is said by the run itself; Dask tells of every connection that opens and closes.
logging.getLogger("distributed").setLevel(logging.CRITICAL)

_LOOPBACK = "127.0.0.1"
_EXAMPLES = (
    "Say --runner-params=gpus=4 for four GPUs of this machine, workers=2 for two workers on its CPUs, or "
    "address=tcp://host:8786 for the scheduler of a running cluster."
)


class ClusterError(click.ClickException):
    """There are no workers as they were asked for."""


def _amount_of_memory(limit: str | int) -> str | int:
    try:
        parse_bytes(limit)
    except ValueError as error:
        raise refusal("is no amount of memory. Say for example memory_limit=8GiB.") from error
    return limit


#: For a number that the command line gives as a text.
_FromText = BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdigit() else value)
_FromOne = Annotated[int, _FromText, Field(ge=1), Expected("", f"is no number of at least 1. {_EXAMPLES}")]
_Address = Annotated[str, Field(pattern="://"), Expected("", f"is no address of a scheduler. {_EXAMPLES}")]
_FromZero = Annotated[int, _FromText, Field(ge=0), Expected("", f"is no number of at least 0. {_EXAMPLES}")]


class ClusterOptions(Settings):
    """Where the nodes run.

    Attributes:
        address: Scheduler of a running cluster; its workers say themselves what they offer.
        gpus: Workers with a GPU each, started on this machine. 0 trains on CPUs, also on a running cluster.
        workers: Workers without GPU, started on this machine; as many as GPUs if it is not said.
        memory_limit: Most memory of each of these workers, e.g. ``8GiB``; an equal share of all memory if not said.
        threads: Threads of each for computing; an equal share of the cores if not said.
    """

    address: _Address | None = None
    gpus: _FromZero | None = None
    workers: _FromOne | None = None
    memory_limit: Annotated[Any, AfterValidator(_amount_of_memory)] | None = None
    threads: _FromOne | None = None

    @classmethod
    def read(cls, **said: Any) -> ClusterOptions:
        """Read the parameters of a runner.

        Raises:
            ClusterError: They are of another kind, or do not go together.
        """
        try:
            return cls(**said)
        except ValidationError as error:
            lines = [
                " ".join([*(f"{name}={each['input']}" for name in each["loc"]), each.get("ctx", {})["sentence"]])
                for each in error.errors(include_url=False)
            ]
            raise ClusterError("\n".join(f"--runner-params: {line}" for line in lines)) from error

    @model_validator(mode="after")
    def _go_together(self) -> ClusterOptions:
        if self.address is not None:
            unfit = [name for name in ("workers", "memory_limit", "threads") if getattr(self, name) is not None]
            if unfit or self.gpus:
                raise refusal(
                    f"{' and '.join([*unfit, *(['gpus'] if self.gpus else [])])} cannot be said together with address: "
                    "the workers of a running cluster are started with what they have (dask worker --resources GPU=1 "
                    "--memory-limit 32GiB). Only gpus=0 can, to train on CPUs."
                )
        elif not self.gpus and not self.workers:
            raise refusal(f"DaskRunner needs to know where to run. {_EXAMPLES}")
        elif self.gpus and self.gpus > (found := _gpus_here()):
            raise refusal(
                f"gpus={self.gpus} were asked for, and this machine offers {found} "
                f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}). {_EXAMPLES}"
            )
        return self

    @property
    def uses_gpus(self) -> bool:
        """Whether nodes that want a GPU ask for one."""
        return bool(self.gpus) if self.address is None else self.gpus != 0

    @property
    def count(self) -> int:
        """How many workers are started: beside each GPU, where nothing else is said, one for what needs none."""
        gpus = self.gpus or 0
        return gpus + (self.workers or gpus)

    @property
    def threads_each(self) -> int:
        """Threads of each worker for computing; a number that the environment sets counts for workers too."""
        set_for_all = os.environ.get("OMP_NUM_THREADS", "")
        each = max(1, available_cores() // max(1, self.count))
        return self.threads or (int(set_for_all) if set_for_all.isdigit() else each)


@contextmanager
def connect(options: ClusterOptions) -> Iterator[Client]:
    """A client of the workers, which are started before and ended after where they are the run's own.

    Raises:
        ClusterError: There is no scheduler at the address.
    """
    # The loaders of a training may start processes of their own, which a daemon may not do. A node that has eaten its
    # worker's memory is ended, with no attempt to write what it holds to disk or to wait for better times.
    memory = {"target": False, "spill": False, "pause": False, "terminate": 0.95}
    settings: dict[str, Any] = {f"distributed.worker.memory.{key}": value for key, value in memory.items()}
    settings["distributed.worker.daemon"] = False
    settings["distributed.nanny.pre-spawn-environ"] = _environment(options)
    with dask.config.set(settings):
        if options.address is None:
            with _start(options) as cluster, Client(cluster) as client:
                yield client
        else:
            with _join(options.address) as client:
                yield client


def _environment(options: ClusterOptions) -> dict[str, str]:
    """Variables that a worker must have before it imports anything."""
    libraries = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        **dict.fromkeys(libraries, str(options.threads_each)),
        # Bars of several trainings would overwrite each other; the run's own progress is logged.
        "TQDM_DISABLE": "1",
        "DASK_LOGGING__DISTRIBUTED": "critical",
    }


def _join(address: str) -> Client:
    try:
        return Client(address, timeout=SECONDS_TO_ANSWER)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No scheduler answers at {address} ({error}). Start one (dask scheduler --host ...), or let the "
            "runner start workers of its own with gpus=4 or workers=2."
        ) from error


def _start(options: ClusterOptions) -> SpecCluster:
    gpus, count = options.gpus or 0, options.count
    said, all_memory = options.memory_limit, psutil.virtual_memory().total
    limit = all_memory // count if said is None else int(parse_bytes(said))
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    workers = {}
    for number in range(count):
        gpu = (visible[number] if visible else str(number)) if number < gpus else ""
        workers[number] = _worker(limit, gpu)
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": _LOOPBACK,
            "dashboard": True,
            "dashboard_address": f"{_LOOPBACK}:0",
            "allowed_failures": ATTEMPTS - 1,
        },
    }
    logger.info(
        "%d workers with a GPU and %d without, %d threads and at most %s of memory each.",
        *(gpus, count - gpus, options.threads_each, format_bytes(limit) if limit else "all"),
    )
    return SpecCluster(workers, scheduler, silence_logs=logging.ERROR, name="shopfloor")


def _worker(memory_limit: int, gpu: str) -> dict[str, Any]:
    """A worker that runs one node at a time; without a GPU it sees none."""
    return {
        "cls": Nanny,
        "options": {
            "host": _LOOPBACK,
            "nthreads": 1,
            "memory_limit": memory_limit,
            "resources": {"GPU": 1} if gpu else {"CPU": 1},
            "env": {"CUDA_VISIBLE_DEVICES": gpu},
            "dashboard": False,
            "dashboard_address": f"{_LOOPBACK}:0",
            "silence_logs": logging.ERROR,
        },
    }


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()
