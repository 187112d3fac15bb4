import numpy as np
import pytest

from gnomon.repository import GnomonRepository
from gnomon.storage.grid import Index
from gnomon.storage.view import PROVENANCE
from gnomon.tasks.heal import Healed, chance_within, heal
from gnomon.tasks.points import suspects
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

NEXT = "2001-01-25"
LAND: Index = (1, 2)
PARTLY_LAND: Index = (1, 1)


def healed(repository: GnomonRepository, chunks: dict[str, list[Index]]) -> Healed:
    return heal(repository.stored, HISTORY, repository.stored.shadows[0], 1, chunks)


def truth(case: Case, index: Index) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    lat, lon = (slice(4 * i, 4 * i + 4) for i in index)
    return np.asarray(case.data.sst.values[HISTORY, lat, lon], np.float64)


def test_only_what_was_asked_for_is_estimated(damaged: Case) -> None:
    found = healed(damaged.open(), {"sst": [DAMAGED]})
    assert list(found.patches) == [("sst", DAMAGED)]
    patch = found.patches["sst", DAMAGED]
    assert np.isfinite(patch.values).all()
    assert (patch.standard_error > 0).all()
    assert (patch.provenance != PROVENANCE["captured"]).all()
    departure = patch.values - truth(damaged, DAMAGED)
    assert np.abs(departure / patch.standard_error).max() < 6


def test_intact_neighbours_help(damaged: Case) -> None:
    """The common part of the noise is seen by the neighbours, and not by the forecast."""
    repository = damaged.open()
    shadow = repository.stored.shadows[0]
    forecast, _ = repository.stored.shadow("sst", shadow).chunk(1, DAMAGED)
    patch = healed(repository, {"sst": [DAMAGED]}).patches["sst", DAMAGED]
    error = np.sqrt(np.mean((patch.values - truth(damaged, DAMAGED)) ** 2))
    unaided = np.sqrt(np.mean((forecast - truth(damaged, DAMAGED)) ** 2))
    assert error < 1.1 * unaided


def test_land_stays_missing(damaged: Case) -> None:
    found = healed(damaged.open(), {"sst": [LAND, PARTLY_LAND]})
    land = found.patches["sst", LAND]
    assert np.isnan(land.values).all()
    assert (land.provenance == PROVENANCE["missing"]).all()
    partly = found.patches["sst", PARTLY_LAND]
    expected = np.isnan(truth(damaged, PARTLY_LAND))
    assert expected.any()
    assert (np.isnan(partly.values) == expected).all()
    assert ((partly.provenance == PROVENANCE["missing"]) == expected).all()


def test_what_is_not_forecast_becomes_missing(damaged: Case) -> None:
    found = healed(damaged.open(), {"time_bnds": [(0,)], "sst": [DAMAGED]})
    bounds = found.patches["time_bnds", (0,)]
    assert np.isnan(bounds.values).all()
    assert (bounds.provenance == PROVENANCE["missing"]).all()
    assert set(found.expected_error) == {"sst"}


def test_a_state_rejected_as_a_whole_is_forecast(damaged: Case) -> None:
    repository = damaged.open()
    assert repository.judge(NEXT, accept=False) == 6
    assert len(suspects(repository.stored, HISTORY)["sst"]) == 6
    found = repository.dataset(NEXT, accept_predicted=True, decode=False).load()
    provenance = found.sst_provenance.values
    ocean = ~np.isnan(damaged.data.sst.values[HISTORY])
    assert (provenance[0][ocean] == PROVENANCE["forecast"]).all()
    assert (provenance[0][~ocean] == PROVENANCE["missing"]).all()
    shadow = repository.stored.shadows[0]
    expected, _ = repository.stored.shadow("sst", shadow).chunk(1, (0, 0))
    assert found.sst.values[0, :4, :4] == pytest.approx(expected, abs=1e-3)


def test_confidence_is_of_the_estimated_chunks_alone(damaged: Case) -> None:
    few = healed(damaged.open(), {"sst": [DAMAGED]})
    many = healed(damaged.open(), {"sst": [DAMAGED, (0, 0), (1, 0), (0, 2)]})
    tolerance = damaged.open().stored.shadows[0].variables["sst"]["tolerance"]
    squares = few.patches["sst", DAMAGED].standard_error ** 2
    assert few.confidence == chance_within(squares, tolerance)
    assert (few.estimated_share, many.estimated_share) == (1 / 6, 4 / 6)
    assert few.expected_error["sst"] > 0


def test_healing_twice_gives_the_same_bits(damaged: Case) -> None:
    first, second = (healed(damaged.open(), {"sst": [DAMAGED]}) for _ in range(2))
    for name in ("values", "standard_error", "provenance"):
        one, other = (getattr(h.patches["sst", DAMAGED], name) for h in (first, second))
        assert sources.bits(one) == sources.bits(other)
