"""Checks beside the built-in ones: given to an update, or registered by an installed package."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from gnomon import Check, Chunk, Statistic
from gnomon.cli import app
from gnomon.flows.registered import checks_in_use
from gnomon.storage.arrays.tables import Slab
from gnomon.storage.care.check import check as check_repository
from gnomon.storage.checks.captures import CAPTURE_STATISTICS
from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import SUSPECT, TRUSTED
from gnomon.tasks.capturing.ledger import read_ledger
from gnomon.tasks.capturing.statistics import STATISTICS
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

DAY = "2001-01-25"
REPEATING = (slice(0, 4), slice(4, 8))
"""Cells of the chunk `DAMAGED`."""


def repeated(chunk: Chunk) -> float:
    """Return the largest share of the cells with a value that have the same one."""
    known = chunk.values[np.isfinite(chunk.values)]
    if known.size < 4:
        return np.nan
    return float(np.unique(known, return_counts=True)[1].max() / known.size)


SHARE = Statistic("repeated", "1", "share of the commonest value", measure=repeated)
NOT_REPEATED = Check(
    "not_repeated",
    SHARE,
    "critical",
    "One value stands in many cells.",
    maximum=0.4,
    cause="repeated value: cells were filled with one",
)


def check_of(measure: Callable[[Chunk], Any], name: str = "odd", **fields: Any) -> Check:
    statistic = Statistic(name, "1", "a number", measure=measure)
    return Check(f"not_{name}", statistic, **({"severity": "critical", "reason": "why"} | fields))


def arrive(case: Case, change: Callable[[NDArray[np.float32]], None], days: int = 1) -> None:
    """Let days arrive, changed; the data of the case is that of all tests."""
    data = case.data.copy(deep=True)
    change(data.sst.values)
    sources.write(case.source, data, HISTORY, HISTORY + days)


def repeating(case: Case, days: int = 1) -> None:
    """Let days arrive in which half of a chunk has one value, which no built-in check minds."""

    def repeat(values: NDArray[np.float32]) -> None:
        for day in range(HISTORY, HISTORY + days):
            cells = values[day, *REPEATING]
            cells[:2] = np.sort(cells, axis=None)[8]

    arrive(case, repeat, days)


def column(repository: Repository, step: int, name: str) -> NDArray[np.float64]:
    """Return what the ledger has of a captured step."""
    captured = repository.captured[step]
    body = repository.records[captured.sequence].body
    key = f"actual-{repository.settings.variable('sst').folder}"
    entry = {key: body["variables"]["sst"]["ledger"]}
    slab = Slab(repository.location, f"ledger/{body['id']}", entry)
    return np.asarray(slab.by_name(key)[name][captured.local], np.float64)


def test_a_critical_check_makes_a_chunk_suspect_as_a_built_in_one_does(grown: Case) -> None:
    repeating(grown)
    report = grown.open().update(checks=[NOT_REPEATED])
    (incident,) = report.incidents
    assert (incident["chunks"], incident["expectations"]) == (["0/1"], ["not_repeated"])
    assert (incident["severity"], incident["suspected_cause"]) == ("critical", NOT_REPEATED.cause)
    stored = Repository.open(str(grown.place))
    status = stored.captures("sst").status(HISTORY)
    assert status[DAMAGED] == SUSPECT
    assert (status == SUSPECT).sum() == 1
    # kept as it is, served by name only, and estimated instead
    source = sources.raw(grown.source).sst.values[HISTORY, *REPEATING]
    assert sources.bits(stored.captures("sst").chunk(HISTORY, DAMAGED)) == sources.bits(source)
    kinds = [point.kind for point in grown.open().points(DAY)]
    assert kinds[0] == "healed"
    assert "suspect" in kinds
    healed = grown.open().dataset(DAY, accept_predicted=True).sst.values[0, *REPEATING]
    assert np.unique(healed).size > 8
    assert report.due is not None
    assert "suspect" in report.due["reason"]


def test_what_it_doubts_is_no_measure_of_what_comes_next(grown: Case) -> None:
    """In one commit as over several: what is critical is not the last trusted capture."""
    before: dict[int, NDArray[np.float64]] = {}

    def noted(chunk: Chunk) -> float:
        if chunk.variable == "sst" and chunk.index == DAMAGED:
            assert chunk.before is not None
            before[len(before)] = chunk.before.copy()
        return 0.0

    repeating(grown, days=3)
    grown.open().update(checks=[NOT_REPEATED, check_of(noted, maximum=1)])
    last = sources.raw(grown.source).sst.values[HISTORY - 1, *REPEATING].astype(float)
    assert [np.array_equal(values, last) for values in before.values()] == [True] * 3


def test_a_warning_only_tells(grown: Case) -> None:
    repeating(grown)
    told = check_of(repeated, "repeated", severity="warning", maximum=0.4)
    report = grown.open().update(checks=[told])
    assert (report.suspect_chunks, len(report.incidents)) == (0, 1)
    assert report.incidents[0]["suspected_cause"] == "why"
    assert (Repository.open(str(grown.place)).captures("sst").status(HISTORY) == TRUSTED).all()


def test_two_checks_may_be_about_one_statistic(grown: Case) -> None:
    repeating(grown)
    stricter = Check("hardly_repeated", SHARE, "warning", "Some cells are alike.", maximum=0.3)
    report = grown.open().update(checks=[NOT_REPEATED, stricter])
    names = [i["expectations"] for i in report.incidents]
    assert names == [["hardly_repeated", "not_repeated"]]


def test_a_bound_of_ones_own_on_a_built_in_statistic(grown: Case) -> None:
    missing = next(s for s in CAPTURE_STATISTICS if s.name == "missing_change")

    def lose(values: NDArray[np.float32]) -> None:
        values[HISTORY, 0, 0] = np.nan

    arrive(grown, lose)
    none_lost = Check("none_lost", missing, "critical", "Every station reports.", maximum=0)
    report = grown.open().update(checks=[none_lost])
    assert [(i["chunks"], i["expectations"]) for i in report.incidents] == [
        (["0/0"], ["none_lost"])
    ]


def test_other_statistics_and_bytes_are_as_without_it(
    grown: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeating(grown)
    (tmp_path / "other").mkdir()
    other = grown.copy(tmp_path / "other")
    grown.open().update(checks=[check_of(repeated, maximum=1)])
    monkeypatch.chdir(other.folder)
    other.open().update()
    monkeypatch.chdir(grown.folder)
    found = [Repository.open(str(case.place)) for case in (grown, other)]
    ledgers = [read_ledger(s, s.settings.variable("sst"), HISTORY) for s in found]
    for name in STATISTICS:
        assert sources.bits(ledgers[0][name]) == sources.bits(ledgers[1][name])
    roots = [s.records[s.captured[HISTORY].sequence].body["variables"]["sst"] for s in found]
    assert roots[0]["root"] == roots[1]["root"]
    assert column(found[0], HISTORY, "odd")[DAMAGED] == 9 / 16
    with pytest.raises(KeyError):
        column(found[1], HISTORY, "odd")


def test_what_a_check_is_given(grown: Case) -> None:
    seen: dict[tuple[str, tuple[int, ...]], Chunk] = {}

    def look(chunk: Chunk) -> float:
        seen[chunk.variable, chunk.index] = chunk
        return np.nan

    grown.arrive(HISTORY, HISTORY + 1)
    report = grown.open().update(checks=[check_of(look, maximum=1)])
    assert report.failed_checks == {}
    source = sources.raw(grown.source).sst.values
    chunk = seen["sst", (0, 1)]
    assert (chunk.dims, chunk.units) == (("lat", "lon"), "K")
    assert chunk.values.dtype == np.float64
    assert np.array_equal(chunk.values, source[HISTORY, *REPEATING])
    assert chunk.before is not None
    assert np.array_equal(chunk.before, source[HISTORY - 1, *REPEATING])
    assert not chunk.values.flags.writeable
    assert not chunk.before.flags.writeable
    assert np.isfinite([chunk.statistics["p_value"], chunk.statistics["change_rms"]]).all()
    assert ("time_bnds", (0,)) in seen


def test_a_chunk_that_did_not_change_is_measured_too(grown: Case) -> None:
    def stay(values: NDArray[np.float32]) -> None:
        values[HISTORY, :4, :4] = values[HISTORY - 1, :4, :4]

    arrive(grown, stay)
    grown.open().update(checks=[check_of(lambda chunk: float(chunk.before is not None), minimum=0)])
    assert (column(Repository.open(str(grown.place)), HISTORY, "odd") == 1).all()


def test_one_that_fails_stops_nothing(grown: Case, caplog: pytest.LogCaptureFixture) -> None:
    def broken(chunk: Chunk) -> Any:
        if chunk.variable == "sst" and chunk.index == DAMAGED:
            raise ValueError("token=abcdef\nin two lines")
        return "text" if chunk.index == (0, 0) else 3.0

    def spoiling(chunk: Chunk) -> float:
        chunk.values[...] = 0
        return 0.0

    repeating(grown, days=2)
    checks = [
        check_of(broken, "broken", severity="warning", maximum=9),
        NOT_REPEATED,
        check_of(spoiling, "spoiling", maximum=1),
    ]
    with caplog.at_level(logging.WARNING):
        report = grown.open().update(checks=checks)
    assert len(report.captured) == 2
    assert {tuple(i["expectations"]) for i in report.incidents} == {("not_repeated",)}
    assert list(report.failed_checks) == ["not_broken", "not_spoiling"]
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("check failed")]
    assert len(told) == 2
    assert all(len(text.splitlines()) == 1 and "abcdef" not in text for text in told)
    stored = Repository.open(str(grown.place))
    numbers = column(stored, HISTORY, "broken")
    assert np.isnan(numbers[DAMAGED])
    assert np.isnan(numbers[0, 0])
    assert (numbers.ravel()[2:] == 3).all()
    source = sources.raw(grown.source).sst.values[HISTORY, *REPEATING]
    assert sources.bits(stored.captures("sst").chunk(HISTORY, DAMAGED)) == sources.bits(source)


def test_one_that_insists_on_writing_changes_nothing(
    grown: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def insist(chunk: Chunk) -> float:
        for values in (chunk.values, chunk.before):
            base: Any = values
            while isinstance(base, np.ndarray):
                base.flags.writeable = True
                base[...] = 0
                base = base.base
        return 0.0

    grown.arrive(HISTORY, HISTORY + 2)
    (tmp_path / "other").mkdir()
    other = grown.copy(tmp_path / "other")
    report = grown.open().update(checks=[check_of(insist, maximum=1)])
    assert list(report.failed_checks) == ["not_odd"]
    assert report.suspect_chunks == 0
    monkeypatch.chdir(other.folder)
    other.open().update()
    monkeypatch.chdir(grown.folder)
    stored = [Repository.open(str(case.place)) for case in (grown, other)]
    ledgers = [read_ledger(s, s.settings.variable("sst"), HISTORY + 1) for s in stored]
    assert sources.bits(ledgers[0]["change_rms"]) == sources.bits(ledgers[1]["change_rms"])


def test_a_check_that_is_gone_leaves_its_incidents(grown: Case) -> None:
    repeating(grown)
    grown.open().update(checks=[NOT_REPEATED])
    grown.arrive(HISTORY + 1, HISTORY + 2)
    repository = grown.open()
    assert repository.update().suspect_chunks == 0
    (incident,) = repository.anomalies()
    assert incident["open"]
    assert check_repository(repository.stored, read_data=True).problems == ()
    printed = CliRunner().invoke(app, ["anomalies", str(grown.place)]).output
    assert "not_repeated" in printed
    assert "repeated value" in printed
    done = CliRunner().invoke(app, ["anomalies", str(grown.place), "--accept", DAY])
    assert done.exit_code == 0, done.output
    assert not grown.open().anomalies()[0]["open"]
    assert grown.open().points(DAY)[0].kind == "captured"
    # and it may come back, to ledgers that do not know it
    grown.arrive(HISTORY + 2, HISTORY + 3)
    assert grown.open().update(checks=[NOT_REPEATED]).suspect_chunks == 0


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ([check_of(repeated, maximum=1)] * 2, None),
        (["not a check"], "a str is no check"),
        ([Check("odd", Statistic("odd", "1", "m"), "warning", "r", maximum=1)], "nothing fills"),
        ([Check("plausible", SHARE, "warning", "r", maximum=1)], "a check plausible already"),
        ([Check("finite", SHARE, "warning", "r", maximum=1)], "a check finite already"),
        ([NOT_REPEATED, Check("not_repeated", SHARE, "warning", "r", maximum=1)], "already"),
        *(
            ([check_of(repeated, name, maximum=1)], f"a statistic {name} already")
            for name in ("p_value", "q_value", "stalled", "chunk", "lead", "small", "completed")
        ),
        (
            [
                check_of(repeated, maximum=1),
                Check(
                    "b",
                    Statistic("odd", "1", "m", measure=lambda _: 1.0),
                    "warning",
                    "r",
                    maximum=1,
                ),
            ],
            "a statistic odd already",
        ),
    ],
)
def test_a_name_that_is_taken_is_refused(checks: list[Any], message: str | None) -> None:
    if message is None:
        assert len(checks_in_use(checks).checks) == 1
        return
    with pytest.raises(InvalidInput, match=message) as caught:
        checks_in_use(checks)
    assert len(str(caught.value).splitlines()) == 1


def test_a_refused_check_is_refused_before_any_work(grown: Case) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    with pytest.raises(InvalidInput, match="no check"):
        grown.open().update(checks=["odd"])  # type: ignore[list-item]
    assert len(grown.open().stored.captured) == HISTORY
