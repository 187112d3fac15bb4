"""What a worker believes of a chunk, and what the table decides later, are the same.

Within one commit the worker alone says which chunk is the last trusted one, by which the next is
measured.  So many states in one commit must be judged as if each had one of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gnomon
from gnomon import Check, Chunk, Statistic
from gnomon.flows import checks, steps
from gnomon.flows.settings import Settings
from gnomon.storage.checks.captures import CAPTURE_STATISTICS
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import SUSPECT
from gnomon.tasks.capturing import encoder
from gnomon.tasks.capturing.ledger import read_ledger
from gnomon.tasks.learning import trusted
from gnomon.tasks.work import serial
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

DAYS = 6
STRUCK = slice(3, 5)
"""Days of which a chunk is damaged, alike: the second time it is no news to who believed it."""
CELLS = (slice(0, 4), slice(4, 8))
BY_NAME = {statistic.name: statistic for statistic in CAPTURE_STATISTICS}
COMPARED = ("missing_change", "infinite_count", "was_constant", "change_rms")


def warmest(chunk: Chunk) -> float:
    return float(np.nanmax(chunk.values))


def lose(values: NDArray[Any]) -> None:
    values[:, :3] = np.nan


def lose_little(values: NDArray[Any]) -> None:
    values[:, :1] = np.nan


def overflow(values: NDArray[Any]) -> None:
    values[:, 0, 0] = np.inf


def fill(values: NDArray[Any]) -> None:
    values[:] = 271


def warm(values: NDArray[Any]) -> None:
    values += 100


def bound(name: str, **fields: Any) -> Check:
    return Check("mine", BY_NAME[name], "critical", "why", **fields)


@dataclass(frozen=True)
class Kind:
    """A damage, and the checks by which it is critical."""

    strike: Callable[[NDArray[Any]], None]
    checks: tuple[Check, ...] = ()
    attributes: tuple[tuple[str, float], ...] = ()


KINDS = {
    "not_mostly_lost": Kind(lose),
    "no_new_infinities": Kind(overflow),
    "not_newly_constant": Kind(fill),
    "not_above_range": Kind(warm, attributes=(("valid_max", 350.0),)),
    "a bound on what a worker measures": Kind(lose_little, (bound("missing_change", maximum=0),)),
    "a bound on values": Kind(warm, (bound("mean", maximum=340),)),
    "a measure": Kind(
        warm,
        (
            Check(
                "mine",
                Statistic("warmest", "variable", "largest", measure=warmest),
                "critical",
                "why",
                maximum=350,
            ),
        ),
    ),
}


def judged(
    folder: Path, kind: Kind, stops: Sequence[int], struck: slice = STRUCK
) -> dict[str, NDArray[Any]]:
    """Capture a struck source in one commit for each stop; returns statuses and statistics."""
    folder.mkdir()
    data = sources.temperature(DAYS).copy(deep=True)
    kind.strike(data.sst.values[struck, *CELLS])
    data.sst.attrs |= dict(kind.attributes)
    source, place = folder / "source.zarr", str(folder / "repository")
    sources.write(source, data)
    gnomon.create(place, str(source), chunks={"lat": 4, "lon": 4})
    for stop in stops:
        planned = steps.plan(place, None, steps.last_time(place, f"2001-01-{stop:02}"))
        assert planned is not None
        captured = steps.capture(place, planned, kind.checks, mapper=serial)
        judgement = checks.check_actual(place, captured, Settings())
        steps.keep_capture(place, captured, judgement)
    stored = Repository.open(place)
    variable = stored.settings.variable("sst")
    assert len(stored.captured) == DAYS
    ledgers = [read_ledger(stored, variable, step) for step in range(DAYS)]
    columns = {name: np.stack([ledger[name] for ledger in ledgers]) for name in COMPARED}
    status = [stored.captures("sst").status(step) for step in range(DAYS)]
    return columns | {"status": np.stack(status)}


def assert_alike(tmp_path: Path, kind: Kind, struck: slice = STRUCK) -> NDArray[Any]:
    at_once = judged(tmp_path / "at_once", kind, [DAYS], struck)
    one_by_one = judged(tmp_path / "one_by_one", kind, range(STRUCK.start, DAYS + 1), struck)
    for name, values in one_by_one.items():
        np.testing.assert_array_equal(at_once[name], values, err_msg=name)
    return one_by_one["status"]


@pytest.mark.parametrize("name", KINDS)
def test_states_of_one_commit_are_judged_as_those_of_many(tmp_path: Path, name: str) -> None:
    status = assert_alike(tmp_path, KINDS[name])
    suspect = np.zeros(status.shape, bool)
    suspect[STRUCK, 0, 1] = True
    assert np.array_equal(status != status[0, 0, 0], suspect)


def test_what_is_gone_for_good_is_believed_as_soon_as_over_many_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trusted capture is looked for among so many before, in a commit as in the repository."""
    monkeypatch.setattr(encoder, "SEARCH", 2)
    monkeypatch.setattr(trusted, "SEARCH", 2)
    status = assert_alike(tmp_path, KINDS["not_mostly_lost"], slice(STRUCK.start, None))
    assert (status[:, 0, 1] == SUSPECT).tolist() == [False] * 3 + [True] * 2 + [False]


def test_a_revision_that_is_doubted_is_no_measure_of_a_new_state(grown: Case) -> None:
    data = grown.data.copy(deep=True)
    lose(data.sst.values[HISTORY - 1 : HISTORY + 1, *CELLS])
    sources.write(grown.source, data, 0, HISTORY + 1)
    report = grown.open().update(compare=-1)
    assert (report.revised, report.suspect_chunks) == (1, 2)
    stored = Repository.open(str(grown.place))
    new = next(c.step for c in stored.captured if c.instant == stored.timeline[-1].instant)
    assert stored.captures("sst").status(new)[DAMAGED] == SUSPECT
    ledger = read_ledger(stored, stored.settings.variable("sst"), new)
    assert ledger["missing_change"][DAMAGED] == 0.75
