"""Times are data: what is missing, wrong or twice in a source's time axis."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gnomon
from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.believable import DAY, are_fresh, clock_or_none, doubtful, misplaced
from gnomon.storage.values.times import parse

HOUR = DAY // 24
YEAR = 365 * DAY
START = 54 * YEAR
NOW = START + 2 * YEAR


def at(hours: Sequence[float] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array([START + round(h * HOUR) for h in hours], np.int64)


def apart(instants: NDArray[np.int64], now: int | None = NOW) -> list[int]:
    return np.flatnonzero(doubtful(instants, now=now)).tolist()


# What is believed ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 30, 3000])
@pytest.mark.parametrize("wrong", [-54 * YEAR, -YEAR, 180 * YEAR, 2**62])
def test_a_time_far_from_all_others_is_doubted(count: int, wrong: int) -> None:
    times = np.sort(np.append(at(range(count)), START + wrong))
    assert [int(times[k]) for k in apart(times)] == [START + wrong]
    assert apart(times, None) == apart(times)


@pytest.mark.parametrize(
    "times",
    [
        at([0, 1]),
        at([*range(30), *range(80, 90)]),
        at([*range(30), *range(9000, 9003)]),  # a year later it goes on
        at([*range(30), 120]),
        at([k * 24 * 30.4 for k in range(40)]),
        at([*range(24), *range(24, 72, 3), *range(72, 200, 6)]),
        at([h for event in range(0, 90000, 1000) for h in (event, event + 1)]),  # events
    ],
)
def test_gaps_are_no_reason_to_doubt(times: NDArray[np.int64]) -> None:
    assert apart(times) == []


def test_what_goes_on_from_the_present_may_lie_ahead_of_the_clock() -> None:
    forecasts = at(np.arange(-100, 200)) - START + NOW
    assert apart(forecasts) == []
    projections = np.arange(80, dtype=np.int64) * YEAR + NOW - 10 * YEAR
    assert apart(projections) == []
    assert apart(np.append(at(np.arange(-100, 0)) - START + NOW, NOW + 9 * DAY)) == [100]


def test_what_was_captured_as_it_came_is_believed_after_any_pause() -> None:
    times = at([*range(50), 4000])
    assert apart(times) == [50]
    assert not doubtful(times, now=NOW, fresh=lambda k: np.ones(k.shape, bool)).any()
    of_one_day = doubtful(times, now=NOW, fresh=lambda k: k == 50)  # others came years later
    assert np.flatnonzero(of_one_day).tolist() == [50]


@given(st.integers(6, 60), st.data())
def test_a_time_in_the_place_of_another_is_found(count: int, data: st.DataObject) -> None:
    times = at(range(count))
    place = data.draw(st.integers(1, count - 2))
    times[place] = START + data.draw(st.sampled_from([-50 * YEAR, 90 * DAY + HOUR // 2, YEAR]))
    assert np.flatnonzero(misplaced(times)).tolist() == [place]
    assert np.flatnonzero(misplaced(times[::-1])).tolist() == [count - 1 - place]


@given(st.permutations(range(14)))
def test_an_order_of_its_own_is_no_reason_to_doubt(order: list[int]) -> None:
    assert not misplaced(at(order)).any()


# Through the product ------------------------------------------------------------------------------

UNITS = "hours since 2024-03-01"


def field(number: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(number).standard_normal((4, 6))
    return np.asarray(10 + np.cos(number / 4) + 0.1 * noise, "f4")


def write(path: Path, times: Sequence[float], numbers: Sequence[int], **attributes: object) -> None:
    """Write a source: the time that is told of each step, and which field it really holds."""
    raw = np.array(times, "f8" if any(isinstance(t, float) for t in times) else "i8")
    dataset = xr.Dataset(
        {"t": (("time", "y", "x"), np.stack([field(k) for k in numbers]))},
        coords={"time": ("time", raw, {"units": UNITS, **attributes})},
    )
    dataset.to_zarr(path, mode="w", zarr_format=2, encoding={"t": {"chunks": (1, 4, 6)}})


def trusted(repository: gnomon.GnomonRepository) -> dict[int, NDArray[np.generic]]:
    """Return what is served as captured and true, by hour."""
    history = repository.history(decode=False).load()
    return dict(zip(history.time.values.tolist(), history.t.values, strict=True))


def assert_true(repository: gnomon.GnomonRepository, hours: Sequence[int]) -> None:
    found = trusted(repository)
    assert sorted(found) == sorted(hours)
    for hour, values in found.items():
        np.testing.assert_array_equal(values, field(int(hour)))


hostile = st.sampled_from(
    ["nan", "fill", "epoch", "past", "future", "twice", "other", "unreadable"]
)


@settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.data())
def test_nothing_wrong_is_trusted_and_nothing_good_lost(data: st.DataObject) -> None:
    """Steps whose times are wrong, anywhere, in one update or several; then they are mended.

    In between the source may tell its times in other units, and its steps in another order.
    """
    count = data.draw(st.integers(8, 24))
    start = data.draw(st.sampled_from([1, 7, 4000]))
    hours = [start + k for k in range(count)]
    bad = data.draw(st.dictionaries(st.integers(0, count - 1), hostile, max_size=2))
    told: list[float] = [float(h) for h in hours]
    for place, kind in bad.items():
        told[place] = {
            "nan": np.nan,
            "fill": -9999.0,
            "epoch": -473352.0,  # 1970
            "past": -88000.0,
            "future": 1577880.0,  # 2204
            "twice": told[place],
            "other": told[place],
            "unreadable": 1e30,
        }[kind]
    wrong = {hours[k] for k, kind in bad.items() if kind not in ("twice", "other")}
    steps, fields = list(told), list(hours)
    for place, kind in bad.items():
        if kind in ("twice", "other"):
            steps.append(told[place])
            fields.append(hours[place] if kind == "twice" else 999)
    with TemporaryDirectory() as folder:
        source = Path(folder, "s.zarr")
        write(source, told, hours, _FillValue=-9999.0)
        repository = gnomon.create(str(Path(folder, "r")), str(source))
        first = data.draw(st.integers(max(4, count // 2), count))
        write(source, told[:first], hours[:first], _FillValue=-9999.0)
        repository.update()
        order = list(range(len(steps)))
        if "other" not in bad.values():  # of two versions the first one is the one that is trusted
            orders = st.sampled_from([order, order[::-1]]) | st.permutations(order)
            order = data.draw(orders)
        steps, fields = [steps[k] for k in order], [fields[k] for k in order]
        units = {}
        if data.draw(st.booleans()):
            units = {"units": UNITS.replace("hours", "minutes")}
            steps = [60 * t if t != -9999.0 else t for t in steps]
        write(source, steps, fields, _FillValue=-9999.0, **units)
        report = repository.update()
        assert_true(repository, [h for h in hours if h not in wrong])
        assert sum(step["count"] for step in report.left_out) == len(wrong)
        assert report.revised == sum(kind == "other" for kind in bad.values())
        write(source, [float(h) for h in hours], hours, _FillValue=-9999.0)
        assert repository.update().left_out == []
        assert_true(repository, hours)


def test_steps_that_are_laid_out_without_times_are_left_for_later(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    write(source, [5, 6, 7, 8, 0, 0, 0], [5, 6, 7, 8, 9, 10, 11])
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    (left,) = repository.update().left_out
    assert (left["positions"], left["count"]) == ([4, 5, 6], 3)
    assert "step 4 and 2 more" in left["text"]
    write(source, [5, 6, 7, 8, 9, 0, 0], [5, 6, 7, 8, 9, 10, 11])
    assert len(repository.update().captured) == 1
    assert_true(repository, [5, 6, 7, 8, 9])


@pytest.mark.parametrize("attributes", [{"missing_value": "n/a"}, {"missing_value": [-1, 2**40]}])
def test_fill_values_of_any_form_are_no_crash(attributes: Any, tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", [0, 1, 2, 3], range(4), **attributes)
    repository = gnomon.create(str(tmp_path / "r"), str(tmp_path / "s.zarr"))
    assert len(repository.update().captured) == 4


def test_a_series_may_begin_at_zero_and_count_down_to_it(tmp_path: Path) -> None:
    for name, numbers in (("up", [0, 1, 2, 3]), ("down", [3, 2, 1, 0])):
        source = tmp_path / f"{name}.zarr"
        write(source, numbers, numbers, _FillValue=0)
        repository = gnomon.create(str(tmp_path / name), str(source))
        assert repository.update().left_out == []
        assert_true(repository, numbers)


def test_units_that_are_none_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    write(source, [1, 2, 3], [1, 2, 3], units="hours since never")
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        gnomon.create(str(tmp_path / "r"), str(source))


# What was captured under a wrong time -------------------------------------------------------------


@pytest.fixture
def misled(tmp_path: Path) -> tuple[Path, gnomon.GnomonRepository]:
    """A repository that captured a step of 2204 before it could know better."""
    source = tmp_path / "s.zarr"
    write(source, [0, 1577880], [0, 1])
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    assert len(repository.update().captured) == 2
    write(source, list(range(12)), list(range(12)))
    repository.update()
    return source, repository


def test_nothing_hangs_on_a_doubted_time(misled: tuple[Path, gnomon.GnomonRepository]) -> None:
    _, repository = misled
    assert_true(repository, range(12))
    status = repository.status()
    assert (status["captures"], status["last"]) == (12, "2024-03-01T11:00:00")
    assert status["shadow"][0] == "2024-03-01T12:00:00"
    assert status["due"]["valid_time"].startswith("2024-03-01")
    (incident,) = repository.anomalies()
    assert incident["open"]
    assert incident["expectations"] == ["believable_time"]
    assert "180 years after 2024-03-01T11:00:00" in incident["suspected_cause"]
    (point,) = [p for p in repository.points("2204-03-03") if p.kind == "captured"]
    assert any("not believed" in note for note in point.notes)
    assert [c["doubted"] for c in repository.captures()] == [False] * 12 + [True]


def test_rules_of_retention_pass_a_doubted_time_over(
    misled: tuple[Path, gnomon.GnomonRepository],
) -> None:
    from gnomon.storage.care.retention import Policy, parse_duration

    _, repository = misled
    for policy in (Policy(last=3), Policy(within=parse_duration("3h")), Policy(hourly=3)):
        done = repository.forget(policy, dry_run=True)
        kept = {done.times[d.step]: d.reasons for d in done.decisions if d.keep}
        assert kept.pop("2204-03-03T00:00:00") == ("doubted time",)
        assert {"2024-03-01T09:00:00", "2024-03-01T10:00:00", "2024-03-01T11:00:00"} <= set(kept)


def test_one_command_puts_it_right(misled: tuple[Path, gnomon.GnomonRepository]) -> None:
    _, repository = misled
    done = repository.forget(captures=["2204"])
    assert done.lost == ("2204-03-03T00:00:00",)
    assert repository.anomalies() == []
    repository.update()
    assert_true(repository, range(12))


def test_a_person_may_hold_a_time_for_true(misled: tuple[Path, gnomon.GnomonRepository]) -> None:
    source, repository = misled
    far = 9000
    write(source, [*range(12), far], [*range(12), far])
    (left,) = repository.update().left_out
    assert left["valid_time"] == "2025-03-11T00:00:00"
    assert "left out" in left["text"]
    assert "step 12" in left["text"]
    assert repository.judging("2025-03-11", accept=True).times == ("2025-03-11T00:00:00",)
    assert repository.judge("2025-03-11", accept=True) == 1
    assert repository.judge("2025-03-11", accept=True) == 0
    report = repository.update()
    assert (report.captured, report.left_out) == (["2025-03-11T00:00:00"], [])
    assert_true(repository, [*range(12), far])
    repository.judge("2025-03-11T00", accept=False)
    assert_true(repository, range(12))


def test_a_person_may_hold_a_time_ahead_of_the_clock_for_true(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    since = datetime.now(UTC) - datetime(2024, 3, 1, tzinfo=UTC)
    last = int(since.total_seconds() // 3600)
    hours = [*range(last - 19, last + 1), last + 60]  # no more than 100 intervals from the others
    write(source, hours, range(21))
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    (left,) = repository.update().left_out
    assert left["positions"] == [20]
    assert repository.judging(left["valid_time"], accept=True).times == (left["valid_time"],)
    assert repository.judge(left["valid_time"], accept=True) == 1
    report = repository.update()
    assert (report.captured, report.left_out) == ([left["valid_time"]], [])


def test_a_state_may_be_told_late_and_one_of_the_clock_locks_nothing_out(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    repository = None
    for number, time in enumerate([None, *(f"2024-05-01T{hour:02d}" for hour in range(8))]):
        values = xr.Dataset({"t": (("y", "x"), field(number))})
        values.to_zarr(source, mode="w", zarr_format=2)
        repository = repository or gnomon.create(str(tmp_path / "r"), str(source))
        assert len(repository.update(time=time).captured) == 1
    assert repository is not None
    assert repository.status()["last"] == "2024-05-01T07:00:00"
    assert repository.status()["shadow"][0] == "2024-05-01T08:00:00"
    assert [a["expectations"] for a in repository.anomalies()] == [["believable_time"]]
    with pytest.raises(InvalidInput, match="captured already"):
        repository.update(time="2024-05-01T03")


def test_a_source_that_ends_before_what_was_captured_is_told(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    write(source, range(12), range(12))
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    assert repository.update().notes == []
    write(source, range(3, 12), range(3, 12))  # a window that rolls
    assert repository.update().notes == []
    write(source, range(5), range(5))
    (note,) = repository.update().notes
    assert "ends at 2024-03-01T04:00:00: 7 captured times up to 2024-03-01T11:00:00" in note
    assert_true(repository, range(12))


def test_a_state_that_tells_another_time_is_told(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    time = ((), np.int64(5), {"units": UNITS, "standard_name": "time"})
    state = xr.Dataset({"t": (("y", "x"), field(0))}, coords={"time": time})
    state.to_zarr(source, mode="w", zarr_format=2)
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    assert repository.update(time="2024-03-01T05").notes == []
    (note,) = repository.update().notes
    assert "'time' of the source is 2024-03-01T05:00:00" in note
    assert "--time" in note


def test_a_first_time_that_is_none_keeps_nobody_out(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    write(source, [1e30, 6.0, 7.0, 8.0], [5, 6, 7, 8])
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    (left,) = repository.update().left_out
    assert left["positions"] == [0]
    assert_true(repository, [6, 7, 8])


@pytest.mark.parametrize("text", ["", "soon", "2024-02-xx", "zzzz-zz-zzTzz"])
def test_a_wall_clock_that_is_none_is_no_time(text: str) -> None:
    assert clock_or_none(text, "standard") is None
    assert not are_fresh(at([0.0]), [text], "standard", np.array([0])).any()
    assert clock_or_none("2024-12-31T05:00:00+00:00", "360_day") == parse(
        "2024-12-30T05", "360_day"
    )
