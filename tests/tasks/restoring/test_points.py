import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gnomon
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.values.times import SECOND, parse
from gnomon.tasks.learning.cadence import Cadence
from gnomon.tasks.restoring.choice import choose
from gnomon.tasks.restoring.locate import find_instant
from gnomon.tasks.restoring.points import _shadow_for, points
from gnomon.tasks.restoring.restore_point import RestorePoint
from gnomon.tasks.restoring.suspected import suspects
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

DAY = 86400 * SECOND
NEXT = "2001-01-25"
"""The day after the history: predicted in `grown`, captured with damage in `damaged`."""


def kinds(case: Case, at: str) -> list[str]:
    stored = case.open().stored
    return [p.kind for p in points(stored, find_instant(stored, at))]


def test_captured_comes_first(grown: Case) -> None:
    stored = grown.open().stored
    found = points(stored, parse("2001-01-10", "standard"))
    assert [p.kind for p in found] == ["captured", "last_capture"]
    exact, before = found
    assert (exact.step, exact.lead, exact.predicted, exact.confidence) == (9, 0, False, 1.0)
    assert exact.expected_error == {"sst": 0.0}
    assert (before.step, before.valid_time) == (8, "2001-01-09T00:00:00")


def test_the_first_capture_has_nothing_before(grown: Case) -> None:
    assert kinds(grown, "2001-01-01") == ["captured"]


def test_beyond_the_last_capture_is_forecast(grown: Case) -> None:
    stored = grown.open().stored
    for lead in range(1, 7):
        instant = parse(NEXT, "standard") + (lead - 1) * DAY
        by_kind = {p.kind: p for p in points(stored, instant)}
        assert set(by_kind) == {"forecast", "last_capture"}
        forecast, last = by_kind["forecast"], by_kind["last_capture"]
        assert (forecast.kind, forecast.lead, forecast.predicted) == ("forecast", lead, True)
        assert forecast.instant == instant
        assert forecast.confidence is not None
        assert 0 <= forecast.confidence <= 1
        error = forecast.expected_error["sst"]
        assert error is not None
        assert 0.1 < error < 3
        assert forecast.reference_time == "2001-01-24T00:00:00"
        assert (last.kind, last.lead, last.step) == ("last_capture", lead, HISTORY - 1)


def shadow(reference: int, *leads: int) -> Any:
    """A shadow as far as its times go."""
    return SimpleNamespace(reference=reference, instants=leads)


CADENCES: dict[str, Cadence | None] = {
    "daily": Cadence("standard", 0, DAY),
    "monthly": Cadence("noleap", 0, 365 * DAY // 12, months=1, fraction=0.5),
    "none": None,
}


@pytest.mark.parametrize("name", CADENCES)
def test_the_newest_shadow_that_holds_a_time_answers(name: str) -> None:
    """Also where references, leads and intervals changed between the shadows."""
    cadence, draws = CADENCES[name], np.random.default_rng(0)
    shadows: list[Any] = []
    for _ in range(60):
        reference, step = (int(n) for n in draws.integers((1, DAY // 2), (900 * DAY, 40 * DAY)))
        drift = draws.integers(-DAY // 4, DAY // 4, 6)
        shadows.append(shadow(reference, *(reference + step * np.arange(1, 7) + drift).tolist()))
    repository: Any = SimpleNamespace(shadows=shadows)
    answered = 0
    for instant in [*draws.integers(0, 1000 * DAY, 300).tolist(), *shadows[7].instants]:
        expected = next(
            (
                (s, k)
                for s in reversed(shadows)
                if s.reference < instant
                for k, predicted in enumerate(s.instants, start=1)
                if predicted == instant
                or (cadence is not None and cadence.slot(predicted) == cadence.slot(instant))
            ),
            (None, 0),
        )
        assert _shadow_for(repository, instant, cadence) == expected
        answered += expected[0] is not None
    assert answered >= 6


def test_a_time_without_a_forecast_costs_no_more_with_many_shadows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a slot is takes long to tell of months; so it is not asked of every shadow."""
    cadence = CADENCES["monthly"]
    assert cadence is not None
    repository: Any = SimpleNamespace(
        shadows=[shadow(*map(cadence.instant, range(k, k + 7))) for k in range(300)]
    )
    asked, slot = 0, Cadence.slot

    def counted(self: Cadence, instant: int) -> int:
        nonlocal asked
        asked += 1
        return slot(self, instant)

    monkeypatch.setattr(Cadence, "slot", counted)
    for place, answer in ((400, 0), (150, 1), (5, 1)):
        asked = 0
        assert _shadow_for(repository, cadence.instant(place) + 1, cadence)[1] == answer
        assert asked <= 20


def test_a_suspect_capture_is_healed_first(damaged: Case) -> None:
    stored = damaged.open().stored
    found = points(stored, parse(NEXT, "standard"))
    assert [p.kind for p in found] == ["healed", "forecast", "last_capture", "suspect"]
    assert suspects(stored, HISTORY) == {"sst": [DAMAGED]}
    assert [p.suspect_chunks for p in found] == [1, 0, 0, 1]
    assert [p.predicted for p in found] == [True, True, False, False]
    assert [p.estimated_share for p in found] == [1 / 6, 1.0, 0.0, 0.0]
    # A shadow that knew the damaged capture must not answer for it.
    assert found[1].shadow == stored.shadows[0].id
    assert (found[3].confidence, found[3].expected_error) == (None, {"sst": None})


def test_a_suspect_last_capture_has_no_error_to_expect(damaged: Case) -> None:
    stored = damaged.open().stored
    forecast, last = points(stored, parse("2001-01-26", "standard"))
    assert (forecast.kind, last.kind, last.suspect_chunks) == ("forecast", "last_capture", 1)
    assert last.expected_error == {"sst": None}


def test_the_next_forecast_comes_from_the_newest_shadow(damaged: Case) -> None:
    stored = damaged.open().stored
    found = points(stored, parse("2001-01-26", "standard"))[0]
    assert (found.kind, found.lead, found.shadow) == ("forecast", 1, stored.shadows[-1].id)


def test_a_slot_that_was_skipped_is_answered_by_an_older_shadow(grown: Case) -> None:
    grown.arrive(HISTORY + 2, HISTORY + 3)
    grown.open().update()
    stored = grown.open().stored
    assert [s.instant // DAY for s in stored.captured[-2:]] == [11346, 11349]
    found = points(stored, find_instant(stored, NEXT))
    by_kind = {p.kind: p for p in found}
    assert {(p.kind, p.lead) for p in found} == {
        ("interpolated", 0),
        ("forecast", 1),
        ("last_capture", 1),
    }
    assert by_kind["forecast"].shadow == stored.shadows[0].id
    skipped = points(stored, find_instant(stored, "2001-01-26"))
    assert {(p.kind, p.lead) for p in skipped} == {
        ("interpolated", 0),
        ("forecast", 2),
        ("last_capture", 2),
    }


def test_the_last_capture_has_the_error_that_was_measured(tmp_path: Path) -> None:
    """Whatever the user tolerates, restoring the state before is off by what changes since."""
    data = sources.temperature(60, land=False)
    changes = [
        float(np.sqrt(np.mean((data.sst.values[k:] - data.sst.values[:-k]) ** 2)))
        for k in range(1, 7)
    ]
    told = []
    for name, tolerance in (("tight", 0.01), ("wide", 50.0)):
        source = tmp_path / f"{name}.zarr"
        sources.write(source, data)
        place = str(tmp_path / name)
        repository = gnomon.create(place, str(source), tolerances={"sst": tolerance})
        repository.update()
        stored = repository.stored
        errors = []
        for instant in stored.shadows[-1].instants:
            (last,) = (p for p in points(stored, instant) if p.kind == "last_capture")
            errors.append(last.expected_error["sst"])
        told.append(np.array(errors, float))
        assert last.tolerances == {"sst": tolerance}
        findings = stored.records[-1].body["report"]["findings"]
        assert [f for f in findings if f["expectation"] == "usual_change"] == []
    assert np.array_equal(told[0], told[1])
    assert np.all(told[0] / changes > 0.7)
    assert np.all(told[0] / changes < 1.4)
    assert told[0][-1] > 1.3 * told[0][0]


def test_a_forecast_that_is_the_last_capture_has_its_error(tmp_path: Path) -> None:
    source = tmp_path / "source.zarr"
    sources.write(source, sources.temperature(4))
    repository = gnomon.create(str(tmp_path / "r"), str(source), tolerances={"sst": 0.1})
    repository.update()
    stored = repository.stored
    for instant in stored.shadows[-1].instants:
        forecast, last = points(stored, instant)
        assert (forecast.kind, last.kind) == ("forecast", "last_capture")
        assert forecast.expected_error == last.expected_error
        assert forecast.expected_error["sst"] > 0.1  # type: ignore[operator]


def test_the_command_line_and_python_tell_the_same(damaged: Case) -> None:
    repository = damaged.open()
    healed = repository.points(NEXT)[0]
    assert replace(healed, reason="") == repository.explain(NEXT)
    assert healed.confidence is not None
    assert healed.expected_error["sst"] is not None
    restored = repository.restore(NEXT, str(damaged.folder / "x.zarr"), accept_predicted=True)
    assert restored.point == replace(healed, age_s=None, anomalies=(), reason="")
    command = [sys.executable, "-m", "gnomon", "points", str(damaged.place), "--at", NEXT, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(
        json.dumps([p.to_json() for p in repository.points(NEXT)])
    )


def test_damage_of_what_was_learnt_takes_nothing_away_in_silence(grown: Case) -> None:
    before = grown.open().points(NEXT)
    outlooks = [p for p in (grown.place / "forecaster").rglob("*") if "outlook" in p.parts[-3:]]
    for path in outlooks:
        if path.is_file():
            path.write_bytes(b"\0" * len(path.read_bytes()))
    after = grown.open().points(NEXT)
    assert [replace(p, notes=()) for p in after] == list(before)
    assert all(p.notes for p in after if p.kind in ("forecast", "last_capture"))


def point(kind: str) -> RestorePoint:
    made = RestorePoint("captured", "t", 0, 0, None, 0, {}, None, 0, False)
    return replace(made, kind=kind, predicted=kind in ("healed", "forecast"))  # type: ignore[arg-type]


def test_choose_takes_the_best_that_is_accepted() -> None:
    captured, last = point("captured"), point("last_capture")
    healed, suspect, forecast = point("healed"), point("suspect"), point("forecast")
    assert choose((captured, last), None, accept_predicted=False) is captured
    everything = (healed, suspect, forecast, last)
    assert choose(everything, None, accept_predicted=True) is healed
    with pytest.raises(InvalidInput, match="--accept-predicted"):
        choose(everything, None, accept_predicted=False)
    assert choose(everything, "forecast", accept_predicted=True) is forecast
    with pytest.raises(InvalidInput, match="--accept-predicted"):
        choose(everything, "forecast", accept_predicted=False)


def test_a_capture_that_is_of_another_kind_is_refused() -> None:
    """Whoever asks for the forecast is not given the capture."""
    there = (point("captured"), point("forecast"))
    with pytest.raises(InvalidInput, match="kind 'captured', not 'forecast'"):
        choose(there, "forecast", capture=0, accept_predicted=True)
    assert choose(there, "captured", capture=0, accept_predicted=False) is there[0]
    assert choose(there, None, capture=0, accept_predicted=False) is there[0]


def test_a_suspect_or_stale_state_is_only_taken_by_name() -> None:
    suspect, last = point("suspect"), point("last_capture")
    with pytest.raises(NotFound, match="suspect, last_capture"):
        choose((suspect, last), None, accept_predicted=True)
    assert choose((suspect, last), "suspect", accept_predicted=False) is suspect
    assert choose((suspect, last), "last_capture", accept_predicted=False) is last
    with pytest.raises(NotFound, match="there is suspect, last_capture"):
        choose((suspect, last), "captured", accept_predicted=False)
    with pytest.raises(NotFound, match="there is nothing"):
        choose((), "captured", accept_predicted=False)


def test_points_as_json(damaged: Case) -> None:
    stored = damaged.open().stored
    for found in points(stored, parse(NEXT, "standard")):
        data = found.to_json()
        assert data["kind"] == found.kind
        assert data["valid_time"] in ("2001-01-25T00:00:00", "2001-01-24T00:00:00")
        numbers = [e for e in found.expected_error.values() if e is not None]
        assert np.isfinite(numbers).all()
