from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.values.times import SECOND, format_instant
from gnomon.tasks.restoring.locate import Match, find_instant, locate, match_of
from gnomon.tasks.restoring.points import points
from tests import sources
from tests.cases import HISTORY, Case

DAY = 86400 * SECOND


def state_source(path: Path, value: float) -> None:
    cells = np.random.default_rng(int(value)).normal(value, 1, (4, 4)).astype("f4")
    xr.Dataset({"t": (("y", "x"), cells, {"units": "K"})}).to_netcdf(path)


def captured_at(folder: Path, times: list[str]) -> GnomonRepository:
    """Return a repository of a field that was captured at these times."""
    repository: GnomonRepository | None = None
    for k, time in enumerate(times):
        state_source(folder / "s.nc", k)
        if repository is None:
            repository = gnomon.create(str(folder / "r"), str(folder / "s.nc"), kind="state")
        repository.update(time)
    assert repository is not None
    return repository


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2001-01-10", 9),
        ("2001-01-10T00", 9),
        ("2001-01-10T00:00:00", 9),
        ("2001-01-25", HISTORY),
        ("2001-01-30T00:00", HISTORY + 5),
        ("2001-01-10T00:00:00Z", 9),
        ("2001-01-10T02:00+02:00", 9),
        ("2001-01-09T20:30:00-0330", 9),
        ("latest", HISTORY - 1),
        ("latest~0", HISTORY - 1),
        ("latest~2", HISTORY - 3),
    ],
)
def test_a_time_names_the_one_state_in_its_period(grown: Case, text: str, day: int) -> None:
    stored = grown.open().stored
    assert find_instant(stored, text) == stored.captured[0].instant + day * DAY


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("2001-01-10T13", "2001-01-10T00:00:00 (captured)", "2001-01-11T00:00:00 (captured)"),
        ("2001-01-09T20", "2001-01-09T00:00:00 (captured)", "2001-01-10T00:00:00 (captured)"),
        ("2001-01-10T00:00:01", "2001-01-10T00:00:00", "2001-01-11T00:00:00"),
        ("2001-01-09T23:59:59", "2001-01-09T00:00:00", "2001-01-10T00:00:00"),
        ("2001-01-24T13", "2001-01-24T00:00:00 (captured)", "2001-01-25T00:00:00 (predicted)"),
        ("2001-01-26T01", "2001-01-26T00:00:00 (predicted)", "2001-01-27T00:00:00 (predicted)"),
        ("2000", "none is before", "2001-01-01T00:00:00 (captured)"),
        ("2050-01-01", "2001-01-30T00:00:00 (predicted)", "none is after"),
    ],
)
def test_a_time_between_states_names_none_and_its_neighbours_are_told(
    grown: Case, text: str, before: str, after: str
) -> None:
    """Unless an estimate is accepted."""
    repository = grown.open()
    for ask in (repository.dataset, lambda at: repository.restore(at, "x.zarr")):
        with pytest.raises(NotFound) as refusal:
            ask(text)
        assert not Path("x.zarr").exists()
        told = str(refusal.value)
        assert before in told
        assert after in told
        assert "--before" in told
        assert "--nearest" in told
        assert "24 captures from 2001-01-01T00:00:00" in told
    with pytest.raises(NotFound, match="there is no state"):
        repository.judge(text, accept=True)
    with pytest.raises(NotFound, match="there is no state"):
        repository.tag([text], add=["x"])


def test_there_are_only_so_many_captures(grown: Case) -> None:
    stored = grown.open().stored
    assert find_instant(stored, f"latest~{HISTORY - 1}") == stored.captured[0].instant
    with pytest.raises(NotFound, match=f"there are {HISTORY} captures"):
        find_instant(stored, f"latest~{HISTORY}")


def test_no_time_between_states_ever_gets_one(grown: Case) -> None:
    """Wherever it lies: a state is handed out only for its own time."""
    repository = grown.open()
    stored = repository.stored
    times = [s.instant for s in stored.timeline] + list(stored.shadows[-1].instants)
    rng = np.random.default_rng(3)
    for instant in map(int, rng.integers(times[0], times[-1], 60)):
        text = format_instant(instant // SECOND * SECOND, "standard")
        if instant // SECOND * SECOND in times:
            continue
        with pytest.raises(NotFound):
            locate(stored, text)
        if instant % 5 == 0:
            assert {"interpolated", "forecast"} & {p.kind for p in repository.points(text)}
        nearest = locate(stored, text, match="nearest")[1]
        before = locate(stored, text, match="before")[1]
        assert abs(nearest - instant) == pytest.approx(
            min(abs(t - instant) for t in times), abs=SECOND
        )
        assert before == max(t for t in times if t <= instant)


@pytest.mark.parametrize(
    ("text", "match", "expected"),
    [
        ("2001-01-10T13", "nearest", "2001-01-11T00:00:00"),
        ("2001-01-10T13", "before", "2001-01-10T00:00:00"),
        ("2001-01-10T11", "nearest", "2001-01-10T00:00:00"),
        ("2001-01-10T12:00:00", "nearest", "2001-01-10T00:00:00"),
        ("2001-01-10T12", "nearest", "2001-01-10T00:00:00"),
        ("2001-01-10", "nearest", "2001-01-10T00:00:00"),
        ("2001-01-10", "before", "2001-01-10T00:00:00"),
        ("2000", "nearest", "2001-01-01T00:00:00"),
        ("2050", "before", "2001-01-30T00:00:00"),
    ],
)
def test_another_state_is_taken_when_it_is_asked_for(
    grown: Case, text: str, match: Match, expected: str
) -> None:
    repository = grown.open()
    assert (
        repository.points(text, match=match)[0].instant
        == locate(repository.stored, text, match=match)[1]
    )
    assert repository.explain(text, match=match).valid_time == expected
    shown = repository.dataset(text, match=match, accept_predicted=True, marks=True)
    assert str(shown.time.values[0])[:19] == expected
    assert shown.attrs["gnomon_valid_time"] == expected


def test_what_cannot_be_matched_is_refused(grown: Case) -> None:
    stored = grown.open().stored
    with pytest.raises(NotFound, match=r"before '2000'.*after it 2001-01-01"):
        locate(stored, "2000", match="before")
    with pytest.raises(InvalidInput, match="exact, nearest, before"):
        locate(stored, "2001-01-10", match="later")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="--nearest and --before"):
        match_of(nearest=True, before=True)
    for match in ("exact", "nearest", "before"):
        with pytest.raises(InvalidInput, match=r"names 30 states, from 2001-01-01.* to 2001-01-30"):
            locate(stored, "2001-01", match=match)


@pytest.mark.parametrize("text", ["", "yesterday", "2001-13-01", "2001-02-30", "10.01.2001"])
def test_what_is_no_time_is_refused(grown: Case, text: str) -> None:
    with pytest.raises(InvalidInput):
        find_instant(grown.open().stored, text)


def test_captures_off_the_grid_are_told_by_their_own_times(tmp_path: Path) -> None:
    """A run is a few seconds late: its slot was predicted for the full hour."""
    times = [f"2001-01-01T{h:02d}:00:0{h % 4}" for h in range(8)]
    repository = captured_at(tmp_path, times)
    stored = repository.stored
    for time in times:
        best, *_ = repository.points(time)
        assert (best.kind, best.valid_time) == ("captured", time)
        assert repository.points(time[:13])[0].valid_time == time
    for point in repository.points(times[7])[1:]:
        # The forecast of its slot says which time it is of; so does the capture before.
        assert point.valid_time != times[7]
        assert point.instant == find_instant_of(point.valid_time)
    grid = format_instant(stored.shadows[-2].instants[0], "standard")
    assert grid != times[7]
    with pytest.raises(NotFound, match=f"{times[7]}"):
        repository.dataset(grid)
    times_told = {p.kind: p.valid_time for p in repository.points(grid)}
    assert times_told["forecast"] == grid


def find_instant_of(text: str) -> int:
    from gnomon.storage.values.times import parse

    return parse(text, "proleptic_gregorian")


def test_a_slot_that_was_skipped_is_estimated_at_its_own_time_only(tmp_path: Path) -> None:
    repository = captured_at(
        tmp_path, [*(f"2001-01-0{d}" for d in range(1, 6)), "2001-01-08", "2001-01-09"]
    )
    kinds = {p.kind: p for p in repository.points("2001-01-06")}
    assert {"forecast", "interpolated"} <= set(kinds)
    for time in ("2001-01-06T09:00", "2001-01-05T23", "2001-01-07T00:00:01"):
        with pytest.raises(NotFound, match=r"before it is .* after it"):
            repository.dataset(time)
        assert repository.explain(time).valid_time.startswith(time)
    nearest = repository.points("2001-01-06T09:00", match="nearest")[0]
    assert nearest.valid_time == "2001-01-06T00:00:00"


def test_states_within_one_second_can_all_be_named(tmp_path: Path) -> None:
    times = [f"2001-01-01T00:00:00.{k}" for k in (0, 25, 5, 75)]
    repository = captured_at(tmp_path, times)
    for step in repository.stored.timeline:
        named = format_instant(step.instant, "standard")
        assert find_instant(repository.stored, named) == step.instant


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "standard"])
def test_partial_times_of_any_calendar(tmp_path: Path, calendar: str) -> None:
    data = sources.temperature(24, land=False)[["sst"]]
    attributes = {"units": "months since 2000-01-01", "calendar": calendar}
    if calendar != "360_day":
        attributes["units"] = "days since 2000-01-01"
    months = np.arange(24) if calendar == "360_day" else 15 + 31 * np.arange(24)
    data = data.assign_coords(time=("time", months.astype("i8"), attributes))
    sources.write(tmp_path / "s.zarr", data)
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"))
    repository.update()
    stored = repository.stored
    for step in stored.timeline:
        text = format_instant(step.instant, calendar)
        assert find_instant(stored, text[:10]) == step.instant
        assert find_instant(stored, text) == step.instant
    with pytest.raises(InvalidInput, match="names"):
        find_instant(stored, "2000")
    with pytest.raises(NotFound, match="before it is"):
        find_instant(stored, format_instant(stored.timeline[3].instant + DAY, calendar))


def test_eras_are_one_history(grown: Case) -> None:
    repository = grown.open()
    coarse = grown.data.isel(lat=slice(0, 4))
    sources.overwrite(grown.source, coarse.isel(time=slice(HISTORY, HISTORY + 4)))
    repository.update(new_era=True)
    stored = repository.stored
    assert stored.era == 1
    old, instant = locate(stored, "2001-01-10")
    assert (old.era, instant) == (0, stored.in_era(0).captured[9].instant)
    with pytest.raises(NotFound, match=r"before it is 2001-01-24.*after it 2001-01-25"):
        locate(stored, "2001-01-24T13")
    assert locate(stored, "2001-01-24T13", match="before")[0].era == 0
    assert locate(stored, "2001-01-24T13", match="nearest")[0].era == 1
    with pytest.raises(InvalidInput, match="from 2001-01-01"):
        locate(stored, "2001-01")
    # What the first era predicted of days that were captured in the second is no state.
    assert points(*locate(stored, "2001-01-26"))[0].kind == "captured"
