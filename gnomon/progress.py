"""How far work is: who is told, and the threads that it runs on."""

from collections.abc import Callable
from functools import partial

from gnomon.flows.cluster import thread_mapper
from gnomon.flows.settings import Settings
from gnomon.tasks.work import Mapper

__all__ = ["Progress", "mapper_of"]

Progress = Callable[[str, int, int], None]
"""Called with the name of the work, how much of it is done, and how much there is."""


def mapper_of(name: str, workers: int | None, progress: Progress | None) -> Mapper:
    """Return a mapper on threads of this process that tells how far it is.

    Parameters
    ----------
    name
        Of the work.
    workers
        Threads; None: from the settings.
    """
    told = None if progress is None else partial(progress, name)
    return thread_mapper(workers or Settings().workers, told)
