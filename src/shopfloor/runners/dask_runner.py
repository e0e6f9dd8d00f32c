"""The nodes of a grid on the workers of a Dask cluster: several GPUs of a machine, several machines.

A node runs unchanged on whichever worker is free, as soon as its inputs are there. What a run does beside that
(failures, resuming, the lock) is in :mod:`shopfloor.runners.grid_runner`. Nodes tagged ``gpu`` take one of the
resources ``GPU`` that workers offer; the others go to workers that offer ``CPU``, if there are any.

No more nodes are handed out than workers can run at once. A worker that dies takes its own node with it then, and
none that only waited for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker
from kedro.framework import project
from kedro.io import CatalogProtocol, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pluggy import PluginManager

from shopfloor.catalog.traces import Trace
from shopfloor.runners.cells import GPU
from shopfloor.runners.dask_cluster import ATTEMPTS, ClusterError, ClusterOptions, connect
from shopfloor.runners.dask_worker import run_node
from shopfloor.runners.failures import Failure
from shopfloor.runners.grid_runner import GridRunner
from shopfloor.runners.ready_queue import ReadyQueue
from shopfloor.runners.run_state import RunState

logger = logging.getLogger(__name__)

_ON_GPU, _ON_CPU = "GPU", "CPU"
_SECONDS_BETWEEN_LOOKS = 2.0


class DaskRunner(GridRunner):
    """Runs a grid on Dask workers.

    Args:
        address, gpus, workers, memory_limit, threads: Where the nodes run, see
            :class:`~shopfloor.runners.dask_cluster.ClusterOptions`.
        shard, is_async: As for :class:`~shopfloor.runners.grid_runner.GridRunner`.

    Raises:
        ClusterError: They do not go together.
    """

    def __init__(
        self,
        address: str | None = None,
        gpus: int | None = None,
        workers: int | None = None,
        memory_limit: str | int | None = None,
        threads: int | None = None,
        shard: str | None = None,
        is_async: bool = False,
    ) -> None:
        super().__init__(shard, is_async)
        self._options = ClusterOptions.read(
            address=address, gpus=gpus, workers=workers, memory_limit=memory_limit, threads=threads
        )
        self.trains_here = address is None

    def _execute(self, pipeline: Pipeline, state: RunState, hook_manager: PluginManager, run_id: str | None) -> None:
        _refuse_memory_datasets(pipeline, state.catalog)
        with connect(self._options) as client, _forwarded_logs(client):
            logger.info("Dask's dashboard: %s", client.dashboard_link)
            _Dispatch(client, pipeline, state, self._options.uses_gpus, run_id).run()


class _Dispatch:
    """Hands out nodes to free workers until all are settled."""

    def __init__(
        self,
        client: Client,
        pipeline: Pipeline,
        state: RunState,
        uses_gpus: bool,
        run_id: str | None,
    ) -> None:
        self._client = client
        self._state = state
        self._uses_gpus = uses_gpus
        self._run_id = run_id
        self._queue = ReadyQueue(pipeline, self._place_of, state.skips)
        self._places = _Places(client)
        state.progress.workers = max(1, self._places.free(_ON_GPU if uses_gpus else _ON_CPU))
        self._running: dict[str, Node] = {}
        self._waited = False
        self._busy = {_ON_GPU: 0, _ON_CPU: 0}
        if uses_gpus and any(GPU in node.tags for node in pipeline.nodes) and not self._places.free(_ON_GPU):
            raise ClusterError(
                "Trainings of this grid want a GPU, and no worker of the cluster offers one. Start workers with "
                "--resources GPU=1 (one per GPU, each with its CUDA_VISIBLE_DEVICES), or say gpus=0 to train on CPUs."
            )

    def _place_of(self, node: Node) -> str:
        return _ON_GPU if self._uses_gpus and GPU in node.tags else _ON_CPU

    def run(self) -> None:
        """Run everything that can run.

        Raises:
            ClusterError: The scheduler has gone.
        """
        futures = as_completed(with_results=True, raise_errors=False)
        try:
            self._fill(futures)
            while self._running or self._wait():
                if self._running:
                    self._record(*next(futures))
                self._fill(futures)
        finally:
            with suppress(OSError):  # the scheduler may have gone
                self._client.cancel(list(futures.futures))

    def _wait(self) -> bool:
        """Give workers time to come when none can take what is ready; False when there is nothing to wait for."""
        if not self._queue.is_ready:
            return False
        if not self._waited:
            logger.info("Waiting for a worker that can take the next step.")
        self._waited = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        return True

    def _fill(self, futures: as_completed) -> None:
        """Hand out as many nodes as workers are free."""
        for place in tuple(self._busy):
            while self._busy[place] < self._places.free(place) and (node := self._queue.take(place)) is not None:
                futures.add(self._submit(node, place))

    def _submit(self, node: Node, place: str) -> Future:
        key = f"{node.name}-{self._run_id}"
        self._running[key] = node
        self._busy[place] += 1
        return self._client.submit(
            run_node,
            *(project.PACKAGE_NAME, self._state.work(node), self._run_id),
            key=key,
            pure=False,
            resources={place: 1} if self._places.is_resource(place) else None,
        )

    def _record(self, future: Future, result: Any) -> None:
        node = self._running.pop(str(future.key))
        self._busy[self._place_of(node)] -= 1
        if future.status in {"cancelled", "lost"}:
            raise ClusterError(
                "The connection to Dask's scheduler is lost. What is finished is kept; the same command with "
                "--only-missing-outputs goes on from here."
            )
        if isinstance(result, Trace):
            self._state.finished(node, result)
        else:
            failure = result if isinstance(result, Failure) else _of_dask(result[1])  # type, error, traceback
            self._state.failed(node, failure)
        self._queue.settle(node)


class _Places:
    """How many nodes the workers of a cluster can run at once; workers may come and go."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._next_look = 0.0
        self._counts = {_ON_GPU: 0, _ON_CPU: 0}
        self._resources: set[str] = set()
        if not self._look():
            logger.info("Waiting for the first worker of the cluster.")
            client.wait_for_workers(1)
            self._look()

    def free(self, place: str) -> int:
        """Number of nodes of this kind that can run at once."""
        if time.monotonic() > self._next_look:
            self._look()
        return self._counts[place]

    def is_resource(self, place: str) -> bool:
        """Whether workers offer the place by name; else any worker takes the node."""
        return place in self._resources

    def _look(self) -> bool:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS
        if not workers:  # all of them are being started again: what is handed out waits
            return False
        self._resources = {name for worker in workers for name in worker["resources"]}
        self._counts = {
            place: int(sum(worker["resources"].get(place, 0) for worker in workers)) for place in self._counts
        }
        if _ON_CPU not in self._resources:
            self._counts[_ON_CPU] = sum(worker["nthreads"] for worker in workers)
        return True


def _of_dask(error: BaseException) -> Failure:
    """Why Dask could not run a node to its end."""
    if isinstance(error, KilledWorker):
        return Failure(
            f"the worker process ended {ATTEMPTS} times while it ran this step. Most likely it needs more memory than "
            "a worker may use (--runner-params=memory_limit=...; fewer workers leave more to each), or the "
            "system ended it; the workers' log tells."
        )
    return Failure.of(error)


def _refuse_memory_datasets(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    for name in sorted(pipeline.all_outputs()):
        if isinstance(catalog.get(name), MemoryDataset):
            raise ClusterError(
                f"{name} is not in the catalog, so it would stay in the memory of the worker that makes it. Give it a "
                "file in conf/base/catalog.yml."
            )


@contextmanager
def _forwarded_logs(client: Client) -> Iterator[None]:
    """Brings to this console what the workers log."""
    package = project.PACKAGE_NAME or "shopfloor"
    client.forward_logging(package, logging.INFO)
    try:
        yield
    finally:
        with suppress(OSError):  # the scheduler may have gone
            client.unforward_logging(package)
