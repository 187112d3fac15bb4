"""Variables that seldom or never change, beside one that does: flags, constants, counters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import gnomon
from gnomon.repository import GnomonRepository
from tests import sources

SHAPE = (8, 12)
Field = Callable[[int], NDArray[Any]]


def smooth(count: int) -> NDArray[np.float64]:
    """Return a field that a forecast is good at."""
    hours = np.arange(count)
    daily = 6 * np.cos(2 * np.pi * hours / 24)[:, None, None]
    return 290 + daily + 0.1 * sources.noise(count, SHAPE, 5)


def half() -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[:, 6:] = True
    return mask


def flipping(k: int) -> NDArray[np.bool_]:
    """Return a mask of which one cell in 96 is another at each capture."""
    mask = half()
    mask.flat[(37 * k) % mask.size] ^= True
    return mask


FLAGS = {"flag_values": np.array([0, 1], "i1"), "flag_meanings": "land ice"}
FIELDS: dict[str, tuple[Field, dict[str, Any]]] = {
    "mask of bytes": (lambda k: flipping(k).astype("i1"), {}),
    "constant mask of bytes": (lambda k: half().astype("i1"), {}),
    "mask of floats": (lambda k: flipping(k).astype("f4"), {}),
    "constant mask of floats": (lambda k: half().astype("f4"), {}),
    "flags": (lambda k: flipping(k).astype("i1"), FLAGS),
    "constant flags": (lambda k: half().astype("i1"), FLAGS),
    "true and false": (flipping, {}),
    "never true": (lambda k: np.zeros(SHAPE, bool), {}),
    "orography": (lambda k: np.linspace(0, 2000, 96).reshape(SHAPE).astype("f4"), {"units": "m"}),
    "zero": (lambda k: np.zeros(SHAPE, "f4"), {"units": "m"}),
    "one value": (lambda k: np.full(SHAPE, 7, "i2"), {}),
}


def grown(
    folder: Path,
    field: Field,
    attributes: dict[str, Any],
    count: int = 40,
    updates: int = 1,
    **options: Any,
) -> GnomonRepository:
    """Return a repository of a smooth field and another one, the last of it captured singly."""
    source = folder / "source.zarr"
    values = np.stack([field(k) for k in range(count)])
    data = xr.Dataset(
        {
            "t": (("time", "y", "x"), smooth(count).astype("f4"), {"units": "K"}),
            "other": (("time", "y", "x"), values, attributes),
        },
        coords={"time": ("time", np.arange(count), {"units": "hours since 2001-01-01"})},
    )
    first = count - updates
    sources.write(source, data, 0, first)
    repository = gnomon.create(str(folder / "r"), str(source), chunks={"y": 8, "x": 6}, **options)
    repository.update()
    for k in range(first, count):
        sources.write(source, data, k, k + 1)
        repository.update()
    return repository


@pytest.mark.parametrize("name", FIELDS)
def test_it_has_a_tolerance_to_live_with_and_delays_nothing(tmp_path: Path, name: str) -> None:
    beside = grown(tmp_path, *FIELDS[name])
    status = beside.status()
    other = status["variables"]["other"]
    if name not in ("zero", "orography"):
        assert other["tolerance"] >= 1e-3
    assert min(other["confidence"]) > 0.5
    assert other["confidence"][0] > 0.8
    assert max(other["confidence"]) < 1, "40 captures do not make certain"
    moving = np.array(status["variables"]["t"]["confidence"])
    assert status["due"]["lead"] == (moving >= 0.8).cumprod().sum() > 1
    report = beside.stored.records[-1].body["report"]
    assert [f for f in report["findings"] if f["variable"] == "other"] == []


def test_few_captures_claim_little(tmp_path: Path) -> None:
    for count in (4, 10):
        folder = tmp_path / str(count)
        folder.mkdir()
        for name in ("constant flags", "orography"):
            (folder / name).mkdir()
            repository = grown(folder / name, *FIELDS[name], count=count, updates=0)
            sure = np.array(repository.status()["variables"]["other"]["confidence"])
            assert np.all(np.diff(sure) <= 0)
            assert sure[0] == pytest.approx((count - 0.5) / count)
            assert sure[-1] <= (count - 0.5) / count


def test_confidence_in_flags_is_the_share_of_captures_within_tolerance(tmp_path: Path) -> None:
    """Every second hour a tenth of the cells changes: more than is tolerated."""

    def field(k: int) -> NDArray[Any]:
        draws = np.random.default_rng(k // 2)
        return (draws.random(SHAPE) < 0.1).astype("i1")

    repository = grown(tmp_path, field, FLAGS, count=60)
    other = repository.status()["variables"]["other"]
    assert other["usual_change"] == pytest.approx(0.09, abs=0.02)
    assert other["tolerance"] == other["usual_change"]
    (point, *_) = repository.points(repository.status()["shadow"][0])
    assert point.units == {"t": "K", "other": "1"}
    now, later = (np.stack([field(k + n) for k in range(58)]) for n in (0, 1))
    share = float((now != later).mean())
    assert point.expected_error["other"] == pytest.approx(share, abs=0.03)
    within = [
        (a[:, x : x + 6] != b[:, x : x + 6]).mean() <= other["tolerance"]
        for a, b in zip(now, later, strict=True)
        for x in (0, 6)
    ]
    assert other["confidence"][0] == pytest.approx(np.mean(within), abs=0.08)
    shown = repository.dataset(repository.status()["shadow"][0], accept_predicted=True)
    assert np.array_equal(shown.other.values[0], field(59))
    assert shown.other_standard_error.values.max() < 1


def test_what_was_constant_is_learnt_anew_when_it_changes(tmp_path: Path) -> None:
    def field(k: int) -> NDArray[Any]:
        return half().astype("f4") + np.float32(0.5 * max(0, k - 34) ** 0.5)

    repository = grown(tmp_path, field, {"units": "m"}, count=35)
    assert repository.status()["variables"]["other"]["usual_change"] == 0
    later = tmp_path / "later"
    later.mkdir()
    repository = grown(later, field, {"units": "m"}, count=37, updates=3)
    other = repository.status()["variables"]["other"]
    refits = [
        r.body["forecaster"]["other"]["refit"]
        for r in repository.stored.records
        if r.kind == "shadow"
    ]
    assert "it changed for the first time" in refits
    assert other["usual_change"] > 0
    assert other["tolerance"] > 1e-3


def test_a_counter_is_forecast_as_a_number(tmp_path: Path) -> None:
    def field(k: int) -> NDArray[Any]:
        return np.full(SHAPE, 3 * k, "i4")

    repository = grown(tmp_path, field, {}, count=45)
    other = repository.status()["variables"]["other"]
    assert (other["usual_change"], other["tolerance"]) == (3.0, 3.0)
    assert other["confidence"][0] > 0.9
    point, *_ = repository.points(repository.status()["shadow"][0])
    assert point.kind == "forecast"
    shown = repository.dataset(point.valid_time, accept_predicted=True)
    # It goes on beyond the greatest value that there was: that is no bound.
    assert shown.other.values.min() > 132
    assert np.abs(shown.other.values - 135).max() < 3


def test_a_user_who_tolerates_a_share_of_flags_gets_it(tmp_path: Path) -> None:
    repository = grown(tmp_path, *FIELDS["flags"], tolerances={"other": 0.5})
    other = repository.status()["variables"]["other"]
    assert other["tolerance"] == 0.5
    assert other["confidence"][0] > 0.95


def every_second(values: NDArray[Any], damage: float) -> NDArray[Any]:
    """Return captures of which no two in a row are as they should be."""
    values[1::2] = damage
    return values


@pytest.mark.parametrize("damage", [-999.0, np.nan])
@pytest.mark.parametrize("updates", [0, 4])
def test_noise_that_is_known_every_second_time_is_not_constant(
    tmp_path: Path, damage: float, updates: int
) -> None:
    """Nothing says how it changes over one interval, and it is as wrong as noise is."""
    noise = 10 + np.random.default_rng(0).standard_normal((17, *SHAPE))
    seen = every_second(noise[:-1].copy(), damage)
    repository = grown(tmp_path, lambda k: seen[k], {}, count=len(seen), updates=updates)
    other = repository.status()["variables"]["other"]
    assert other["usual_change"] is None
    # Of white noise a change is as large over two intervals.
    assert other["tolerance"] == pytest.approx(2**0.5, rel=0.25)
    (point, *_) = repository.points(repository.status()["shadow"][0])
    shown = repository.dataset(point.valid_time, kind="forecast", accept_predicted=True)
    wrong = float(np.sqrt(np.nanmean((shown.other.values[0] - noise[-1]) ** 2)))
    assert wrong < 2 * other["tolerance"]
    error = point.expected_error["other"]
    assert error is not None
    assert 0.5 * wrong < error < 2 * wrong


def test_flags_that_are_known_every_second_time_are_not_constant(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    seen = every_second((draws.random((16, *SHAPE)) < 0.5).astype("f4"), np.nan)
    repository = grown(tmp_path, lambda k: seen[k], FLAGS, count=16, updates=0)
    other = repository.status()["variables"]["other"]
    assert other["usual_change"] is None
    assert other["tolerance"] == pytest.approx(0.5, abs=0.1)
    assert other["confidence"][0] == 0.5, "it was never compared over one interval"
    assert other["expected_rmse"][0] >= 0.5


@pytest.mark.parametrize("kind", ["orography", "constant flags"])
def test_only_what_was_compared_counts_for_what_never_changed(tmp_path: Path, kind: str) -> None:
    """Of 40 captures ten are known, nine times two in a row."""
    field, about = FIELDS[kind]
    still = field(0).astype("f4")
    repository = grown(
        tmp_path,
        lambda k: still if k < 9 or k == 39 else np.full(SHAPE, np.nan, "f4"),
        about,
        updates=0,
    )
    other = repository.status()["variables"]["other"]
    assert other["usual_change"] == 0
    assert other["confidence"][0] == pytest.approx(8.5 / 9)


@pytest.mark.parametrize("kind", ["orography", "constant flags"])
def test_a_change_behind_a_gap_is_a_change(tmp_path: Path, kind: str) -> None:
    field, about = FIELDS[kind]
    still = field(0).astype("f4")

    def seen(k: int) -> NDArray[Any]:
        if k in (31, 32):
            return np.full(SHAPE, np.nan, "f4")
        moved = still.copy()
        moved[:, ::4] += 1 if k > 32 else 0
        return moved

    repository = grown(tmp_path, seen, about, count=34, updates=4)
    refits = [
        r.body["forecaster"]["other"]["refit"]
        for r in repository.stored.records
        if r.kind == "shadow"
    ]
    assert refits[-1] == "it changed for the first time"
    assert repository.status()["variables"]["other"]["usual_change"] is None
