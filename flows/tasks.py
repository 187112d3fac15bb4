"""The steps as Prefect tasks: names and retries, one task per step.

A task runs in the flow's own process, and only the chunks of its step go to the workers: what it
writes elsewhere than in the repository, Data Docs for one, is where the flow runs.

No tags: for a tag, every task run asks the server for a concurrency slot, which doubles its time.
"""

from collections.abc import Callable
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from gnomon.flows import steps
from gnomon.flows.cycle import Call
from gnomon.storage.errors import Unavailable, Unreadable
from gnomon.storage.log.credentials import without_secrets
from gnomon.tasks.work import Mapper

__all__ = ["run_as_task", "tasks_on"]


async def _is_transient(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry what may go away by itself: a store or a scheduler that did not answer."""
    failure = await state.aresult(raise_on_failure=False)
    return isinstance(failure, Unavailable) and not isinstance(failure, Unreadable)


def run_as_task[R](name: str, step: Callable[[], R]) -> R:
    """Run a step as a Prefect task of this process and return its result.

    What it works on is bound to it: Prefect would walk through all that it is given as arguments.
    """

    @without_secrets
    def run() -> R:
        return step()

    task = Task(
        run,
        name=name,
        retries=2,
        retry_delay_seconds=[2, 10],
        retry_condition_fn=_is_transient,
        persist_result=False,
        cache_policy=NO_CACHE,
    )
    return task()


def tasks_on(mapper: Mapper) -> Call:
    """Return what runs each step as a task, its chunks where a mapper says."""

    def call[R](step: Callable[..., R], /, *arguments: Any) -> R:
        options = {"mapper": mapper} if step in steps.ON_CHUNKS else {}
        return run_as_task(step.__name__.replace("_", " "), lambda: step(*arguments, **options))

    return call
