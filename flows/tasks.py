"""The steps as Prefect tasks: names and retries, one task per step.

No tags: for a tag, every task run asks the server for a concurrency slot, which doubles its time.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from gnomon.flows import steps
from gnomon.flows.cluster import dask_mapper
from gnomon.storage.credentials import without_secrets
from gnomon.storage.errors import Unavailable

__all__ = ["call_as_task"]


async def _is_transient(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry what may go away by itself: a store that did not answer."""
    failure = await state.aresult(raise_on_failure=False)
    return isinstance(failure, Unavailable)


def _with_dask[R](step: Callable[..., R]) -> Callable[..., R]:
    @wraps(step)
    def on_workers(*arguments: Any) -> R:
        return step(*arguments, mapper=dask_mapper)

    # The wrapped signature would make Prefect ask for the mapper as an argument.
    del on_workers.__wrapped__
    return on_workers


def _as_task(step: Callable[..., Any]) -> Task[Any, Any]:
    return Task(
        without_secrets(_with_dask(step) if step in steps.ON_CHUNKS else step),
        name=step.__name__.replace("_", " "),
        retries=2,
        retry_delay_seconds=[2, 10],
        retry_condition_fn=_is_transient,
        persist_result=False,
    )


_TASKS: dict[Callable[..., Any], Task[Any, Any]] = {}


def call_as_task[R](step: Callable[..., R], /, *arguments: Any) -> R:
    """Run a step as a Prefect task on a Dask worker and return its result."""
    if step not in _TASKS:
        _TASKS[step] = _as_task(step)
    result: R = _TASKS[step].submit(*arguments).result()
    return result
