"""Where the chunks of a step are worked on: threads of this process, or Dask workers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from gnomon.flows.settings import Settings
from gnomon.storage.errors import Unavailable
from gnomon.tasks.work import Mapper, SingleThreaded

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Workers", "local_cluster", "thread_mapper"]

_TRIMMING = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
"""Dask's option that has workers give back freed memory at once.  The system then clears each page
of every array anew, a large part of the CPU time of an update."""


def thread_mapper(workers: int, progress: Callable[[int, int], None] | None = None) -> Mapper:
    """Return a mapper on threads of this process.

    Parameters
    ----------
    progress
        Called with the number of items done and their total.
    """

    from threadpoolctl import threadpool_limits

    def mapper[A, B](function: Callable[[A], B], items: Sequence[A], /) -> list[B]:
        results: list[B] = []
        threads = max(1, min(workers, len(items)))
        # Once for all of them: the limit is the process's, not the thread's.
        with threadpool_limits(limits=1), ThreadPoolExecutor(threads) as pool:
            for result in pool.map(function, items):
                results.append(result)
                if progress is not None:
                    progress(len(results), len(items))
        return results

    return mapper


@contextmanager
def local_cluster(workers: int) -> Iterator[str]:
    """Start a Dask cluster of processes on this machine and give its address."""
    import dask.config
    from distributed import LocalCluster

    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}
    with dask.config.set({_TRIMMING: None}):
        cluster = LocalCluster(n_workers=workers, **options)  # type: ignore[no-untyped-call]
    with cluster:
        yield str(cluster.scheduler_address)


class Workers:
    """The Dask workers of one run: those of a scheduler, or processes made for the run.

    They are looked for, or started, when there is first something to do: an update without news
    needs none.  The settings are those of the run, wherever its flow was deployed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._client = None
        self._stack.close()

    def mapper[A, B](self, function: Callable[[A], B], items: Sequence[A], /) -> list[B]:
        """Work on all items as one Dask graph.

        Raises
        ------
        Unavailable
            A worker died again and again, or there is no scheduler any more.
        """
        from dask.delayed import delayed
        from dask.utils import funcname
        from distributed import CancelledError, KilledWorker
        from distributed.comm.core import CommClosedError

        alone, name = delayed(SingleThreaded(function), pure=False), funcname(function)
        # The name is what Dask shows of a task; numbers alone would be taken for the same work.
        graph = [alone(item, dask_key_name=f"{name}-{uuid4()}") for item in items]
        client = self._connected()
        try:
            futures = client.compute(graph)  # type: ignore[no-untyped-call]
            return list(client.gather(futures))  # type: ignore[no-untyped-call]
        except KilledWorker as error:
            raise Unavailable(
                f"Dask workers died {error.allowed_failures + 1} times over one block of {name}: "
                "nothing of this step was kept; give them more memory, or make fewer of them"
            ) from error
        except (CancelledError, CommClosedError) as error:
            self.__exit__()
            raise Unavailable(
                f"the Dask scheduler disconnected during {name}: nothing of this step was kept; "
                "look at the scheduler and run it again"
            ) from error

    def _connected(self) -> "Client":
        if self._client is None:
            from distributed import Client

            address = self._settings.scheduler
            chatter = logging.getLogger("distributed")
            self._stack.callback(chatter.setLevel, chatter.level)
            chatter.setLevel(
                logging.WARNING
            )  # every connection that it makes, in Prefect's colours
            try:
                if address is None:
                    address = self._stack.enter_context(local_cluster(self._settings.workers))
                client = Client(address, set_as_default=False)  # type: ignore[no-untyped-call]
            except (OSError, RuntimeError) as error:
                self._stack.close()
                raise Unavailable(
                    f"no Dask scheduler answers at {address}; start it, or leave the setting out"
                    if self._settings.scheduler
                    else f"no Dask worker could be started ({error}); look at memory and processes"
                ) from error
            self._client = self._stack.enter_context(client)
        return self._client
