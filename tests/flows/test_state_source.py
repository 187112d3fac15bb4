"""The cycle on a source without time, overwritten in place."""

from pathlib import Path

import numpy as np
import pytest

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.tasks.restoring.suspected import suspects
from tests import sources

DAYS = 12
DATA = sources.temperature(DAYS + 4, seed=3)


def put(source: Path, day: int, shift: float = 0) -> None:
    """Overwrite the source with the state of a day, one chunk of it shifted."""
    state = DATA[["sst"]].isel(time=day, drop=True).copy(deep=True)
    state.sst.values[:4, :4] += np.float32(shift)
    sources.overwrite(source, state)


def date(day: int) -> str:
    return f"2001-01-{day + 1:02d}"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GnomonRepository]:
    """A repository with a state a day, the last of them damaged."""
    folder = tmp_path_factory.mktemp("state")
    source = folder / "source.zarr"
    put(source, 0)
    made = gnomon.create(str(folder / "r"), str(source), chunks={"lat": 4, "lon": 4}, leads=3)
    for day in range(DAYS):
        put(source, day)
        made.update(date(day))
    put(source, DAYS, shift=25)
    made.update(date(DAYS))
    return source, gnomon.open(str(folder / "r"))


def test_kind_is_found(case: tuple[Path, GnomonRepository]) -> None:
    status = case[1].status()
    assert (status["kind"], status["captures"]) == ("state", DAYS + 1)
    assert (status["first"], status["last"]) == ("2001-01-01T00:00:00", "2001-01-13T00:00:00")


def test_every_old_state_comes_back_exactly(
    case: tuple[Path, GnomonRepository], tmp_path: Path
) -> None:
    for day in (0, 7, DAYS - 1):
        found = case[1].dataset(date(day), decode=False)
        assert found.sst.dims == ("lat", "lon")
        assert sources.bits(found.sst.values) == sources.bits(DATA.sst.values[day])
    for ending in (".zarr", ".nc"):
        case[1].restore(date(4), str(tmp_path / f"x{ending}"), plain=True)
        found = sources.raw(tmp_path / f"x{ending}")
        assert sources.bits(found.sst.values) == sources.bits(DATA.sst.values[4])
        assert sources.bits(found.lat.values) == sources.bits(DATA.lat.values)
        assert set(found.variables) == {"sst", "lat", "lon"}


def test_damage_is_found_and_healed(case: tuple[Path, GnomonRepository]) -> None:
    repository = case[1]
    assert suspects(repository.stored, DAYS) == {"sst": [(0, 0)]}
    assert [p.kind for p in repository.points(date(DAYS))] == [
        "healed",
        "forecast",
        "last_capture",
        "suspect",
    ]
    healed = repository.dataset(date(DAYS), accept_predicted=True).sst.values
    truth = DATA.sst.values[DAYS]
    assert np.abs(healed[:4, :4] - truth[:4, :4]).max() < 8
    intact = np.ones(sources.SHAPE, bool)
    intact[:4, :4] = False
    assert sources.bits(healed[intact]) == sources.bits(truth[intact])


def test_the_next_state_is_forecast(case: tuple[Path, GnomonRepository], tmp_path: Path) -> None:
    (forecast, last) = case[1].points(date(DAYS + 1))
    assert (forecast.kind, forecast.lead, last.kind) == ("forecast", 1, "last_capture")
    case[1].restore(date(DAYS + 1), str(tmp_path / "x.zarr"), accept_predicted=True)
    found = sources.raw(tmp_path / "x.zarr")
    known = np.isfinite(DATA.sst.values[0])
    assert (found.sst_provenance.values[known] == 3).all()
    departure = found.sst.values - DATA.sst.values[DAYS + 1]
    assert np.abs(departure[known] / found.sst_standard_error.values[known]).max() < 6


def test_a_time_is_captured_once(case: tuple[Path, GnomonRepository]) -> None:
    before = sources.listing(case[0].parent)
    for at in (date(3), date(DAYS)):
        with pytest.raises(InvalidInput, match="captured already"):
            gnomon.open(case[1].path).update(at)
    with pytest.raises(InvalidInput, match="nothing to backfill"):
        gnomon.open(case[1].path).backfill()
    with pytest.raises(NotFound):
        case[1].points("2001-03-01")
    assert sources.listing(case[0].parent) == before


def test_a_run_that_dies_is_completed_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gnomon.flows import steps

    source = tmp_path / "source.zarr"
    put(source, 0)
    made = gnomon.create(str(tmp_path / "r"), str(source), leads=2)
    for day in range(2):
        put(source, day)
        made.update(date(day))
    put(source, 2)

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(steps, "keep_shadow", die)
        with pytest.raises(KeyboardInterrupt):
            made.update(date(2))
    report = made.update(date(2))
    assert report.captured == []
    assert report.refit == {"sst": "first forecast"}
    assert len(made.stored.captured) == 3
    # Now that it is complete, the same time is an error again, not a capture left out in silence.
    with pytest.raises(InvalidInput, match="captured already"):
        made.update(date(2))
