"""Work that is spread over threads or worker processes comes to the same, bit for bit."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import gnomon
from gnomon.flows import steps
from gnomon.flows.cluster import Workers, thread_mapper
from gnomon.flows.cycle import Cycle
from gnomon.flows.outbox import Outbox
from gnomon.flows.registered import checks_in_use
from gnomon.flows.settings import Settings
from gnomon.storage.source import chunking
from gnomon.tasks.work import Mapper, serial
from tests import sources
from tests.cases import HISTORY
from tests.flows.test_cycle import captures, forecasts, states

CHUNKS = 6


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(Settings(workers=2)) as made:
        yield made


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each chunk be a shard."""
    for name in ("UNIT_BYTES", "MIN_SHARD_BYTES"):
        monkeypatch.setattr(chunking, name, 64)


def cycle(mapper: Mapper, folder: Path) -> tuple[bytes, dict[str, list[int]], tuple[Any, ...]]:
    """Backfill and update on a mapper; return what is stored, and the counts of items by step."""
    counts: dict[str, list[int]] = {}

    def call(step: Callable[..., Any], /, *arguments: Any) -> Any:
        def mapped(function: Callable[[Any], Any], items: Sequence[Any], /) -> list[Any]:
            counts.setdefault(step.__name__, []).append(len(items))
            return mapper(function, items)

        return step(*arguments, **({"mapper": mapped} if step in steps.ON_CHUNKS else {}))

    source, place = folder / "source.zarr", str(folder / "r")
    data = sources.temperature(HISTORY + 1)[["sst"]]
    sources.write(source, data, 0, HISTORY)
    gnomon.create(place, str(source), chunks={"lat": 4, "lon": 4}, leads=2)
    for stop in (HISTORY, HISTORY + 1):
        if stop > HISTORY:
            sources.write(source, data, HISTORY, stop)
        settings = Settings(refit_share=0.0)
        Cycle(place, settings, call, Outbox(place, {}), checks_in_use()).run()
    made = gnomon.open(place)
    return captures(made), counts, (states(made), forecasts(made))


def test_threads_and_processes_come_to_the_same(
    workers: Workers, small_shards: None, tmp_path: Path
) -> None:
    mappers = {"serial": serial, "threads": thread_mapper(3), "processes": workers.mapper}
    found = {}
    for name, mapper in mappers.items():
        (tmp_path / name).mkdir()
        found[name] = cycle(mapper, tmp_path / name)
    assert found["threads"] == found["serial"]
    assert found["processes"] == found["serial"]
    # A state is one chunk of the source, and many workers take part in each step all the same.
    _, counts, _ = found["serial"]
    for step in ("capture", "materialize"):
        assert counts[step] == [CHUNKS, CHUNKS], step
    assert counts["forecast"] == [CHUNKS]  # a state that goes on by the ledger is not read


def test_a_worker_that_is_killed_is_replaced(workers: Workers, tmp_path: Path) -> None:
    marks = [tmp_path / str(k) for k in range(5)]
    assert workers.mapper(_die_once, marks) == [mark.name for mark in marks]


def _die_once(mark: Path) -> str:
    if mark.name == "2" and not mark.exists():
        mark.touch()
        os._exit(1)
    return mark.name


def test_workers_keep_memory_as_other_processes_do(workers: Workers) -> None:
    """Dask has them give it back at once, and every array is then cleared page by page."""
    name = "MALLOC_TRIM_THRESHOLD_"
    assert workers.mapper(os.environ.get, [name]) == [os.environ.get(name)]
