"""Plans: which states are captured together, against what, and how the source is read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore

import gnomon
from gnomon.storage.care.forget import forget
from gnomon.storage.errors import Conflict
from gnomon.storage.repository import Repository
from gnomon.storage.source import chunking
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.capturing.revisions import find_revisions
from gnomon.tasks.work import serial
from tests import sources
from tests.cases import HISTORY, Case
from tests.storage.building import (
    HOUR,
    WHEN,
    capture_new,
    captured,
    files_of,
    history,
    make_repository,
    reopened,
    write_zarr,
)

MIDNIGHT = 946684800_000_000


def hours(numbers: Sequence[int], cells: int = 12) -> xr.Dataset:
    """Return a field whose every hour is what it is, whichever others are there."""
    values = [np.random.default_rng(n).normal(n, 1, (4, cells)) for n in numbers]
    units = {"units": "hours since 2000-01-01"}
    return xr.Dataset(
        {"t": (("time", "y", "x"), np.array(values, "f4"), {"units": "K"})},
        coords={"time": ("time", np.array(numbers, "i8"), units)},
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made_from(numbers: Sequence[int], name: str = "r", **options: Any) -> Repository:
    sources.overwrite("s.zarr", hours(numbers))
    return captured(name, "s.zarr", **options)


def more(repository: Repository, numbers: Sequence[int]) -> Repository:
    sources.overwrite("s.zarr", hours(numbers))
    return capture_new(repository)


def bases(repository: Repository) -> tuple[tuple[int, ...], tuple[int | None, ...], int]:
    """Return hours, bases and late ones of the next plan."""
    plan = plan_capture(repository)
    assert plan is not None
    times = tuple((t - MIDNIGHT) // HOUR for t in plan.instants)
    return times, plan.bases, plan.late


def assert_history(repository: Repository, numbers: Sequence[int]) -> None:
    found = history(reopened(repository.location.url))
    assert found["time"].values.tolist() == list(numbers)
    assert sources.bits(found["t"].values) == sources.bits(hours(numbers)["t"].values)


# Late and out of order -------------------------------------------------------------------------


def test_states_are_coded_against_the_one_before(place: Path) -> None:
    sources.overwrite("s.zarr", hours([3, 4, 5]))
    made = make_repository("r", "s.zarr")
    assert bases(made) == ((3, 4, 5), (None, 0, 1), 0)
    made = more(capture_new(made), [3, 4, 5, 6, 9])
    assert_history(made, [3, 4, 5, 6, 9])
    sources.overwrite("s.zarr", hours([9, 8, 1, 7, 3, 10, 2, 5, 6, 4]))
    # Before all the nearest after; in a gap the nearest before, old or new.
    assert bases(made) == ((1, 2, 7, 8, 10), (0, 5, 3, 7, 4), 4)
    made = capture_new(made)
    assert_history(made, [*range(1, 11)])
    assert [s.step for s in made.timeline] == [5, 6, 0, 1, 2, 3, 7, 8, 4, 9]


def test_late_states_of_a_time_that_was_forgotten_are_none(place: Path) -> None:
    made, _ = forget(made_from(range(6)), captures=[2, 3], committed_at=WHEN)
    assert plan_capture(made) is None
    made = more(made, [*range(4), 4, 5, 6])
    assert_history(made, [0, 1, 4, 5, 6])


def test_a_plan_ends_where_it_is_told_and_says_what_is_left(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.overwrite("s.zarr", hours(range(10)))
    made = make_repository("r", "s.zarr")
    plan = plan_capture(made, until=MIDNIGHT + 4 * HOUR)
    assert plan is not None
    assert (len(plan.instants), plan.remaining) == (5, 0)
    monkeypatch.setattr("gnomon.tasks.capturing.plan.MAX_STEPS", 4)
    for expected in ((4, 6), (4, 2), (2, 0)):
        plan = plan_capture(made)
        assert plan is not None
        assert (len(plan.instants), plan.remaining) == expected
        made = capture_new(made)
    assert plan_capture(made) is None
    monkeypatch.setattr("gnomon.tasks.capturing.plan.MAX_ROWS", 1)
    sources.overwrite("s.zarr", hours(range(12)))
    plan = plan_capture(made)
    assert plan is not None
    assert (len(plan.instants), plan.remaining) == (1, 1)


def test_another_writer_was_first(place: Path) -> None:
    made = made_from(range(3))
    sources.overwrite("s.zarr", hours(range(5)))
    plan = plan_capture(made)
    assert plan is not None
    found = capture(made, plan, serial)
    newest = capture_new(made)
    for opened in (made, newest):
        with pytest.raises(Conflict):
            commit_capture(opened, found, set(), report={}, committed_at=WHEN)
    assert_history(newest, range(5))


def test_of_a_time_twice_the_first_is_captured(place: Path) -> None:
    made = made_from(range(3))
    sources.overwrite("s.zarr", hours([0, 1, 2, 3, 3]))
    plan = plan_capture(made)
    assert plan is not None
    assert (plan.positions, plan.duplicates) == ((3,), frozenset([MIDNIGHT + 3 * HOUR]))
    assert_history(capture_new(made), range(4))


@pytest.mark.parametrize(
    ("attributes", "doubted"),
    [({"long_name": "temperature"}, ()), ({"units": "kelvin"}, ()), ({"units": "degC"}, ("t",))],
)
def test_changed_attributes_are_told(
    attributes: dict[str, str], doubted: tuple[str, ...], place: Path
) -> None:
    """A remark is a note; another meaning is a finding."""
    made = made_from(range(3))
    data = hours(range(4))
    data["t"].attrs |= attributes
    sources.overwrite("s.zarr", data)
    plan = plan_capture(made)
    assert plan is not None
    assert tuple(plan.metadata_changed) == doubted
    assert len(plan.notes) == 1


# With forecasts --------------------------------------------------------------------------------


def arrive(case: Case, days: Sequence[int]) -> None:
    sources.overwrite(case.source, case.data.isel(time=list(days)))


def test_forecasts_go_on_after_late_days(grown: Case) -> None:
    made = gnomon.create(str(grown.folder / "late"), "source.zarr", chunks={"lat": 4, "lon": 4})
    arrive(grown, [d for d in range(20) if d not in (6, 12, 13)])
    made.backfill()
    before = made.stored.shadows[-1]
    arrive(grown, range(20))
    report = made.update()
    assert (len(report.captured), report.late, report.suspect_chunks) == (3, 3, 0)
    after = made.stored.shadows[-1]
    # The forecast is from the newest day still, and for the same days.
    assert (after.reference, after.instants) == (before.reference, before.instants)
    assert report.due is not None
    assert report.due["valid_time"] > "2001-01-20"
    days = made.history(decode=False)
    assert sources.bits(days.sst.values) == sources.bits(grown.data.sst.values[:20])
    arrive(grown, range(HISTORY))
    report = made.update()
    assert (len(report.captured), report.late, report.suspect_chunks) == (4, 0, 0)
    assert made.update().message == "nothing new in the source"
    shadow = made.stored.shadow("sst", made.stored.shadows[-1])
    values, errors = shadow.chunk(1, (0, 0))
    truth = grown.data.sst.values[HISTORY, :4, :4]
    assert np.abs((values - truth) / errors).max() < 6
    assert made.check(read_data=True).problems == ()


def test_a_late_day_that_repeats_one_before_it_is_suspect(grown: Case) -> None:
    made = gnomon.create(str(grown.folder / "late"), "source.zarr", chunks={"lat": 4, "lon": 4})
    arrive(grown, [d for d in range(HISTORY) if d != 12])
    made.backfill()
    data = grown.data.isel(time=slice(HISTORY)).copy(deep=True)
    data.sst.values[12] = data.sst.values[4]
    sources.overwrite(grown.source, data)
    report = made.update()
    assert (report.late, report.suspect_chunks) == (1, 5)  # all but the land
    assert "replay" in report.incidents[0]["suspected_cause"]


# Many steps ------------------------------------------------------------------------------------


def everything(repository: Repository) -> dict[str, bytes]:
    """Return index rows, statistics and values, but where they are stored."""
    found: dict[str, bytes] = {}
    for variable in repository.settings.variables:
        stack = repository.captures(variable.name)
        for step in repository.captured:
            key = f"{variable.name} {step.step}"
            found[f"{key} rows"] = stack.rows(step.step).tobytes()
            found[f"{key} time"] = step.raw_time + str(step.instant).encode()
    found["values"] = sources.bits(history(repository)["t"].values)
    return found


def test_a_thousand_steps_at_once_or_in_parts_are_the_same(place: Path) -> None:
    """In commits of 512, of one, and of any size between."""
    numbers = range(1000)
    at_once = capture_new(made_from(numbers, chunks={"x": 12}))
    assert [r.kind for r in at_once.records] == ["init", "capture", "capture"]
    assert [len(r.body["instants"]) for r in at_once.records[1:]] == [512, 488]
    parts = make_repository("parts", "s.zarr", chunks={"x": 12})
    for last in [*range(40), 100, 101, 600, 999]:
        parts = capture_new(parts, until=MIDNIGHT + last * HOUR)
        if len(parts.captured) <= last:  # more than one commit takes
            parts = capture_new(parts, until=MIDNIGHT + last * HOUR)
    assert len(parts.records) > 44
    assert everything(parts) == everything(at_once)
    assert_history(at_once, numbers)


def test_days_one_by_one_or_at_once_teach_the_same(grown: Case, tmp_path: Path) -> None:
    """With a gap, and a late day in it, that arrives with the next."""
    from tests.flows.test_cycle import captures, forecasts, states

    gap = [*range(HISTORY), HISTORY + 1]
    arrive(grown, gap)
    grown.open().update()
    (tmp_path / "other").mkdir()
    other = grown.copy(tmp_path / "other")
    arrive(grown, range(HISTORY + 6))
    grown.open().update()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(other.folder)
        arrive(other, range(HISTORY + 2))
        assert other.open().update().late == 1
        for stop in range(HISTORY + 3, HISTORY + 7):
            arrive(other, range(stop))
            assert len(other.open().update().captured) == 1
        by_one = other.open()
    assert captures(by_one) == captures(grown.open())
    assert states(by_one) == states(grown.open())
    assert forecasts(by_one) == forecasts(grown.open())


# How the source is chunked -----------------------------------------------------------------------


@contextmanager
def counted(name: str = "t") -> Iterator[Counter[str]]:
    """Count how often each chunk of a variable of a local Zarr source is read."""
    reads: Counter[str] = Counter()

    def counting(get: Any) -> Any:
        def count(store: LocalStore, key: str, *rest: Any, **options: Any) -> Any:
            if key.startswith(f"{name}/c/") and store.root.name == "s.zarr":
                reads[key] += 1
            return get(store, key, *rest, **options)

        return count

    with pytest.MonkeyPatch.context() as patch:
        for method in ("get", "get_sync"):
            patch.setattr(LocalStore, method, counting(getattr(LocalStore, method)))
        yield reads


def write_chunked(dataset: xr.Dataset, chunks: tuple[int, ...]) -> None:
    write_zarr(dataset, Path("s.zarr"), mode="w", encoding={"t": {"chunks": chunks}})


def shorten(monkeypatch: pytest.MonkeyPatch, shard: int) -> None:
    """Let small fields be cut as large ones are."""
    for name in ("SHARD_BYTES", "MIN_SHARD_BYTES", "UNIT_BYTES"):
        monkeypatch.setattr(chunking, name, shard)
    monkeypatch.setattr(chunking, "MIN_CHUNK_BYTES", 2**6)


@pytest.mark.parametrize("shard", [2**21, 96, 2 * 96, 5 * 96])
@pytest.mark.parametrize("chunks", [(7, 4, 12), (7, 2, 6), (1, 4, 5), (50, 3, 12), (7, 1, 1)])
def test_each_chunk_of_the_source_is_read_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, chunks: tuple[int, ...], shard: int
) -> None:
    """Chunked along time by seven, with fifty steps, and otherwise."""
    shorten(monkeypatch, shard)
    write_chunked(hours(range(50)), chunks)
    made = make_repository("r", "s.zarr")
    with counted() as reads:
        made = capture_new(made)
    every = int(np.prod([-(-n // c) for n, c in zip((50, 4, 12), chunks, strict=True)]))
    assert_read_once(reads, every, newest=-(-50 // chunks[0]) - 1)
    assert_history(made, range(50))
    with counted() as reads:
        assert find_revisions(made, serial, count=None, rng=np.random.default_rng()) == ()
    assert (len(reads), set(reads.values())) == (every, {1})


def assert_read_once(reads: Counter[str], every: int, newest: int) -> None:
    """But the first ones of the newest step: whether that has any value is looked at before."""
    assert len(reads) == every
    assert {n for key, n in reads.items() if not key.startswith(f"t/c/{newest}/")} <= {1}
    assert reads[f"t/c/{newest}/0/0"] <= 2


def test_chunks_along_time_that_grow(place: Path) -> None:
    """The last chunk is not full yet when it is first read."""
    write_chunked(hours(range(10)), (7, 4, 12))
    made = captured("r", "s.zarr")
    write_chunked(hours(range(16)), (7, 4, 12))
    with counted() as reads:
        made = capture_new(made)
    assert reads == {"t/c/1/0/0": 1, "t/c/2/0/0": 2}
    assert_history(made, range(16))


def test_few_huge_chunks_are_divided_where_they_divide(place: Path) -> None:
    write_chunked(hours(range(3), cells=4096), (1, 4, 2048))
    made = captured("r", "s.zarr")
    variable = made.settings.variable("t")
    assert variable.grid.size >= 16
    assert 2048 % variable.chunks[1] == 0
    assert sources.bits(history(made)["t"].values) == sources.bits(
        sources.raw("s.zarr")["t"].values
    )


def test_many_tiny_chunks_are_taken_together(place: Path) -> None:
    data = hours(range(3), cells=900)
    write_chunked(data, (1, 1, 9))
    made = captured("r", "s.zarr")
    variable = made.settings.variable("t")
    assert variable.grid.size <= 16  # not 400, the chunks of the source
    assert variable.chunks[1] % 9 == 0
    assert len(list(variable.grid.blocks())) == 1
    stored = [p for p in files_of(place / "r" / "captures") if "/residual/c/" in str(p)]
    assert len(stored) == 3  # one object for each state
    assert sources.bits(history(made)["t"].values) == sources.bits(data["t"].values)


@pytest.mark.parametrize("own", [(3, 11), (2, 67), (4, 100), (1, 13)])
def test_no_chunk_of_ours_lies_across_two_of_the_source(
    place: Path, monkeypatch: pytest.MonkeyPatch, own: tuple[int, int]
) -> None:
    """Damage arrives by the chunks of the source; primes are not divided."""
    shorten(monkeypatch, 2**12)
    write_chunked(hours(range(2), cells=200), (1, *own))
    grid = make_repository("r", "s.zarr").settings.variable("t").grid
    for index in grid.indices():
        for cells, size, chunk in zip(grid.cells(index), grid.shape, own, strict=True):
            within = cells.start // chunk == (cells.stop - 1) // chunk
            whole = cells.start % chunk == 0 and (cells.stop % chunk == 0 or cells.stop == size)
            assert within or whole


def test_zarr_shards_in_the_source(place: Path) -> None:
    """What xarray calls chunks are shards there; each is read by one worker."""
    group = zarr.create_group("s.zarr", zarr_format=3)
    values = hours(range(9)).t.values
    array = group.create_array(
        "t", shape=values.shape, dtype="f4", chunks=(1, 2, 3), shards=(3, 4, 6),
        dimension_names=("time", "y", "x"),
    )  # fmt: skip
    array[...] = values
    time = group.create_array("time", shape=(9,), dtype="i8", dimension_names=("time",))
    time[...] = np.arange(9)
    time.attrs["units"] = "hours since 2000-01-01"
    made = captured("r", "s.zarr")
    assert_history(made, range(9))
