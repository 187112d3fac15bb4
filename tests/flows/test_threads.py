"""Linear algebra uses one thread in each worker, and as many as before afterwards."""

from threadpoolctl import threadpool_info

from gnomon.flows.cluster import thread_mapper
from gnomon.tasks.work import SingleThreaded, serial


def threads(_: int) -> set[int]:
    return {int(found["num_threads"]) for found in threadpool_info()}


def test_every_mapper_limits_them() -> None:
    before = threads(0)
    assert before
    assert thread_mapper(2)(threads, range(4)) == [{1}] * 4
    assert serial(threads, range(2)) == [{1}] * 2
    assert SingleThreaded(threads)(0) == {1}
    assert threads(0) == before
