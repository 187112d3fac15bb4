"""Where the chunks of a step are worked on: threads of this process, or Dask workers."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from gnomon.flows.settings import Settings
from gnomon.tasks.work import Mapper, SingleThreaded

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

__all__ = ["dask_mapper", "task_runner", "thread_mapper"]


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


def dask_mapper[A, B](function: Callable[[A], B], items: Sequence[A], /) -> list[B]:
    """Work on all items as one Dask graph; for use inside a Prefect task on a Dask worker.

    While it waits, the task gives its place on the worker away: a cluster of a single thread
    would wait for itself for ever.
    """
    from dask.delayed import delayed
    from dask.utils import funcname
    from distributed import rejoin, secede
    from prefect_dask.utils import get_dask_client

    alone, name = delayed(SingleThreaded(function), pure=False), funcname(function)
    # The name is what Dask shows of a task; numbers alone would be taken for the same work.
    graph = [alone(item, dask_key_name=f"{name}-{uuid4()}") for item in items]
    with get_dask_client() as client:
        futures = client.compute(graph)  # type: ignore[no-untyped-call]
        secede()  # type: ignore[no-untyped-call]
        try:
            return list(client.gather(futures))  # type: ignore[no-untyped-call]
        finally:
            rejoin()  # type: ignore[no-untyped-call]


def task_runner(settings: Settings) -> "TaskRunner[PrefectFuture[Any]]":
    """Return the task runner of a flow: an existing scheduler, or a cluster for the run."""
    from prefect_dask.task_runners import DaskTaskRunner

    options = {"n_workers": settings.workers, "threads_per_worker": 1, "dashboard_address": None}
    runner = (
        DaskTaskRunner(address=settings.scheduler)
        if settings.scheduler is not None
        else DaskTaskRunner(cluster_kwargs=options)
    )
    # prefect-dask does not declare what it is to the type checker.
    return cast("TaskRunner[PrefectFuture[Any]]", runner)
