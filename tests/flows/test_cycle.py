"""The cycle on an append source: what it captures, learns, predicts, and never does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.flows import checks, steps
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.model import SUSPECT, TRUSTED
from gnomon.tasks.capturing import plan
from gnomon.tasks.forecasting import pack
from gnomon.tasks.learning.expectation import forecaster_of
from gnomon.tasks.restoring.suspected import suspects
from gnomon.tasks.work import serial
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case

NEXT = "2001-01-25"


def captures(repository: GnomonRepository) -> bytes:
    """Every captured bit, with times, order and status."""
    stored = repository.stored
    found = b""
    for variable in stored.settings.variables:
        stack = stored.captures(variable.name)
        for step in stored.captured:
            found += sources.bits(np.array(step.instant)) + sources.bits(stack.status(step.step))
            found += sources.bits(stack.rows(step.step))
            found += b"".join(
                sources.bits(stack.chunk(step.step, i)) for i in variable.grid.indices()
            )
    return found


def states(repository: GnomonRepository) -> dict[tuple[int, ...], bytes]:
    """The newest forecaster state of every chunk."""
    found = forecaster_of(repository.stored, "sst")
    assert found is not None
    indices = list(repository.stored.settings.variable("sst").grid.indices())
    return {
        index: b"".join(sources.bits(part) for part in pack(found.specification, state))
        for index, state in found.states(indices).items()
    }


def forecasts(repository: GnomonRepository, shadow: int = -1) -> dict[tuple[int, ...], bytes]:
    """Predictions and standard errors of every chunk in one shadow."""
    stored = repository.stored
    made = stored.shadows[shadow]
    opened = stored.shadow("sst", made)
    return {
        index: b"".join(
            sources.bits(part)
            for lead in range(1, len(made.instants) + 1)
            for part in opened.chunk(lead, index)
        )
        for index in opened.variable.grid.indices()
    }


def kinds(repository: GnomonRepository) -> list[str]:
    return [r.kind for r in repository.stored.records]


def test_captures_are_the_source_bit_for_bit(grown: Case) -> None:
    history, source = grown.open().history(decode=False).load(), sources.raw(grown.source)
    for name, variable in source.variables.items():
        assert sources.bits(history[name].values) == sources.bits(variable.values), name
    assert grown.open().check(read_data=True).problems == ()


def test_one_update_or_many_come_to_the_same(grown: Case, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = grown.copy(tmp_path / "other")
    grown.arrive(HISTORY, HISTORY + 3)
    together = grown.open()
    report = together.update()
    assert len(report.captured) == 3
    assert report.suspect_chunks == 0
    assert report.refit == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(other.folder)
        for day in range(HISTORY, HISTORY + 3):
            other.arrive(day, day + 1)
            assert len(other.open().update().captured) == 1
        one_by_one = other.open()
    assert captures(together) == captures(one_by_one)
    assert states(together) == states(one_by_one)
    assert forecasts(together) == forecasts(one_by_one)


def test_an_update_without_news_changes_nothing(grown: Case) -> None:
    before = sources.listing(grown.folder)
    for _ in range(2):
        report = grown.open().update()
        assert (report.captured, report.message) == ([], "nothing new in the source")
    assert sources.listing(grown.folder) == before


def test_refit_when_asked_for(grown: Case) -> None:
    before = forecasts(grown.open())
    assert grown.open().update(refit=True).refit == {"sst": "asked for"}
    assert kinds(grown.open()) == ["init", "capture", "shadow", "shadow"]
    # Learnt anew from the same captures.
    assert forecasts(grown.open()) == before


MOMENTS = [
    ("capture", "after"),
    ("keep_capture", "before"),
    ("keep_capture", "after"),
    ("forecast", "after"),
    ("keep_doubts", "after"),
    ("materialize", "after"),
    ("keep_shadow", "before"),
    ("keep_shadow", "after"),
]
"""When a run dies: around all that writes."""


@pytest.fixture(scope="module")
def undisturbed(_grown: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        case = _grown.copy(folder)
        case.arrive(HISTORY, HISTORY + 1)
        case.open().update()
        return captures(case.open()), forecasts(case.open())


@pytest.mark.parametrize(("name", "moment"), MOMENTS)
def test_a_run_that_dies_is_completed_by_the_next(
    grown: Case,
    undisturbed: tuple[bytes, Any],
    name: str,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = getattr(steps, name)

    def die(*arguments: Any, **options: Any) -> Any:
        if moment == "after":
            options |= {} if name.startswith("keep_") else {"mapper": serial}
            true(*arguments, **options)
        raise KeyboardInterrupt

    grown.arrive(HISTORY, HISTORY + 1)
    with monkeypatch.context() as patch:
        patch.setattr(steps, name, die)
        with pytest.raises(KeyboardInterrupt):
            grown.open().update()
    assert grown.open().check(read_data=True).problems == ()
    grown.open().update()
    repository = grown.open()
    assert len(repository.stored.captured) == HISTORY + 1
    assert kinds(repository) == ["init", "capture", "shadow", "capture", "shadow"]
    assert (captures(repository), forecasts(repository)) == undisturbed


def test_two_writers_do_not_mix(grown: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    true = checks.check_actual

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(checks, "check_actual", true)
        grown.open().update()
        return true(*arguments)

    monkeypatch.setattr(checks, "check_actual", slow)
    report = grown.open().update()
    assert (report.captured, report.message) == ([], "another run has made the shadow")
    assert kinds(grown.open()) == ["init", "capture", "shadow", "capture", "shadow"]


def test_a_verdict_during_an_update_is_not_overlooked(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    true = checks.check_prediction

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(checks, "check_prediction", true)
        grown.open().judge("2001-01-20", accept=False)
        return true(*arguments)

    monkeypatch.setattr(checks, "check_prediction", slow)
    report = grown.open().update()
    assert len(report.captured) == len(report.repeated) == 1
    assert report.refit == {"sst": "a verdict changed what was learnt"}


def test_a_suspect_chunk_is_reported_and_kept_as_it_came(damaged: Case) -> None:
    repository = damaged.open()
    assert suspects(repository.stored, HISTORY) == {"sst": [DAMAGED]}
    (incident,) = repository.anomalies()
    assert (incident["variable"], incident["chunks"]) == ("sst", ["0/1"])
    assert (incident["severity"], incident["open"]) == ("critical", True)
    status = repository.status()
    assert status["open_incidents"] == 1
    assert status["due"]["reason"] == "1 chunk is suspect in the newest capture"
    source = sources.raw(damaged.source)
    history = repository.history(decode=False)
    assert sources.bits(history.sst.values) == sources.bits(source.sst.values)


def test_a_suspect_chunk_is_never_learnt(damaged: Case, grown_twin: Case) -> None:
    """Damage leaves the forecaster as if the chunk had been missing."""
    data = grown_twin.data.copy(deep=True)
    data.sst.values[HISTORY, :4, 4:8] = np.nan
    sources.write(grown_twin.source, data, HISTORY, HISTORY + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(grown_twin.folder)
        grown_twin.open().update()
        missing = grown_twin.open()
    assert states(damaged.open()) == states(missing)
    assert forecasts(damaged.open()) == forecasts(missing)


@pytest.fixture
def grown_twin(_grown: Case, tmp_path: Path) -> Case:
    (tmp_path / "twin").mkdir()
    return _grown.copy(tmp_path / "twin")


def test_a_suspect_chunk_is_not_learnt_at_a_refit_either(damaged: Case) -> None:
    damaged.open().update(refit=True)
    shadow = damaged.open().stored.shadows[-1]
    values, _ = damaged.open().stored.shadow("sst", shadow).chunk(1, DAMAGED)
    expected = damaged.data.sst.values[HISTORY + 1, :4, 4:8]
    assert np.abs(values - expected).max() < 8


def test_accepting_makes_the_next_update_learn(damaged: Case) -> None:
    before = forecasts(damaged.open())
    assert damaged.open().judge(NEXT, accept=True) == 1
    repository = damaged.open()
    assert repository.anomalies()[0]["open"] is False
    assert (repository.stored.captures("sst").status(HISTORY) == TRUSTED).all()
    report = repository.update()
    assert report.refit == {"sst": "a verdict changed what was learnt"}
    after = forecasts(damaged.open())
    # What a person accepted is not called into question again.
    assert report.doubted == 0
    assert (damaged.open().stored.captures("sst").status(HISTORY) == TRUSTED).all()
    assert before[DAMAGED] != after[DAMAGED]
    assert damaged.open().points(NEXT)[0].kind == "captured"
    assert damaged.open().update().message == "nothing new in the source"


def test_rejecting_makes_the_next_update_forget(grown: Case) -> None:
    before = forecasts(grown.open())
    assert grown.open().judge("2001-01-24", accept=False, variable="sst") == 6
    assert (grown.open().stored.captures("sst").status(HISTORY - 1) == SUSPECT).all()
    assert grown.open().update().refit == {"sst": "a verdict changed what was learnt"}
    assert forecasts(grown.open())[0, 0] != before[0, 0]
    assert grown.open().judge("2001-01-24", accept=True, variable="sst") == 6
    grown.open().update()
    assert forecasts(grown.open())[0, 0] == before[0, 0]


def test_the_future_does_not_leak_into_forecasts_made_before(grown: Case, grown_twin: Case) -> None:
    """Two sources that agree until a day have the same forecasts until that day."""
    other = grown_twin.data.copy(deep=True)
    other.sst.values[HISTORY + 2 :] += np.float32(0.7)
    found = []
    for case, data in ((grown, grown.data), (grown_twin, other)):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(case.folder)
            # All of it is in the source already; the updates take it bit by bit.
            sources.write(case.source, data, HISTORY, HISTORY + 4)
            for until in ("2001-01-25", "2001-01-26", "2001-01-28"):
                case.open().update(until=until)
            found.append(case.open())
    one, twin = found
    assert [forecasts(one, k) == forecasts(twin, k) for k in range(4)] == [True] * 3 + [False]


def test_a_history_of_many_commits(grown: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_STEPS", 7)
    place = str(grown.folder / "small-steps")
    made = gnomon.create(place, "source.zarr", chunks={"lat": 4, "lon": 4})
    report = made.backfill()
    assert len(report.captured) == HISTORY
    assert kinds(made) == ["init", *["capture"] * 4, "shadow"]
    assert captures(made) == captures(grown.open())
    assert forecasts(made) == forecasts(grown.open())


def test_backfill_until(grown: Case) -> None:
    made = gnomon.create(str(grown.folder / "partial"), "source.zarr")
    assert made.backfill("2001-01-02").captured[-1] == "2001-01-02T00:00:00"
    assert made.backfill("2001-01").captured[-1] == "2001-01-24T00:00:00"


def test_late_steps_are_captured_in_their_place(grown: Case) -> None:
    place = str(grown.folder / "late")
    data = grown.data.isel(time=slice(0, 12))
    sources.overwrite(grown.source, data.drop_isel(time=[4, 5]))
    made = gnomon.create(place, "source.zarr")
    assert len(made.backfill().captured) == 10
    sources.overwrite(grown.source, data)
    report = made.update()
    assert report.captured == ["2001-01-05T00:00:00", "2001-01-06T00:00:00"]
    assert (report.late, report.revised, report.suspect_chunks) == (2, 0, 0)
    assert report.due is not None
    assert report.due["valid_time"] > "2001-01-12"
    sources.overwrite(grown.source, grown.data.isel(time=slice(0, 13)))
    report = made.update()
    assert (report.captured, report.late) == (["2001-01-13T00:00:00"], 0)
    history = made.history(decode=False).load()
    assert history.time.values.tolist() == list(range(13))
    assert sources.bits(history.sst.values) == sources.bits(grown.data.sst.values[:13])
    assert [s.step for s in made.stored.timeline] == [*range(4), 10, 11, *range(4, 10), 12]


def test_a_source_out_of_order_is_captured_in_order(grown: Case) -> None:
    order = np.random.default_rng(0).permutation(12)
    sources.overwrite(grown.source, grown.data.isel(time=order))
    made = gnomon.create(str(grown.folder / "shuffled"), "source.zarr")
    made.backfill()
    history = made.history(decode=False).load()
    assert history.time.values.tolist() == list(range(12))
    assert sources.bits(history.sst.values) == sources.bits(grown.data.sst.values[:12])


def test_a_time_twice_with_the_same_data_is_captured_once(grown: Case) -> None:
    sources.overwrite(grown.source, grown.data.isel(time=[0, 1, 2, 2, 3]))
    made = gnomon.create(str(grown.folder / "twice"), "source.zarr")
    report = made.backfill()
    assert (len(report.captured), report.revised) == (4, 0)
    assert made.backfill().captured == []


def test_two_captures_in_one_slot(grown: Case) -> None:
    """The second is kept exactly, and not learnt."""
    data = grown.data.isel(time=slice(0, HISTORY + 2)).copy(deep=True)
    hours = np.r_[np.arange(HISTORY) * 24, HISTORY * 24 - 20, HISTORY * 24]
    data = data.assign_coords(
        time=("time", hours, dict(data.time.attrs, units="hours since 2001-01-01"))
    )
    sources.overwrite(grown.source, data.isel(time=slice(0, HISTORY)))
    made = gnomon.create(str(grown.folder / "twofold"), "source.zarr")
    made.backfill()
    before = states(made)
    sources.overwrite(grown.source, data.isel(time=slice(0, HISTORY + 1)))
    assert made.update().captured == ["2001-01-24T04:00:00"]
    assert states(made) == before
    sources.overwrite(grown.source, data)
    assert made.update().captured == ["2001-01-25T00:00:00"]
    assert states(made) != before
    for at in ("2001-01-24T00", "2001-01-24T04"):
        assert made.points(at)[0].kind == "captured"
    with pytest.raises(InvalidInput, match="names 2 states"):
        made.points("2001-01-24")
    history = made.history(decode=False)
    assert sources.bits(history.sst.values) == sources.bits(data.sst.values)


def test_a_gap_in_the_captures(grown: Case) -> None:
    grown.arrive(HISTORY + 3, HISTORY + 5)
    report = grown.open().update()
    assert report.captured == ["2001-01-28T00:00:00", "2001-01-29T00:00:00"]
    shadow = grown.open().stored.shadows[-1]
    values, errors = grown.open().stored.shadow("sst", shadow).chunk(1, (0, 0))
    truth = grown.data.sst.values[HISTORY + 5, :4, :4]
    assert np.abs((values - truth) / errors).max() < 6


def test_a_changed_attribute_is_suspect(grown: Case) -> None:
    metadata = grown.source / "sst" / "zarr.json"
    data = json.loads(metadata.read_text())
    data["attributes"]["units"] = "degC"
    grown.arrive(HISTORY, HISTORY + 1)
    metadata.write_text(json.dumps(data | {"shape": [HISTORY + 1, 8, 12]}))
    (grown.source / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}})
    )
    report = grown.open().update()
    assert report.suspect_chunks == 6
    assert "metadata" in report.incidents[0]["suspected_cause"]


def test_an_old_day_served_again_is_suspect(grown: Case) -> None:
    data = grown.data.copy(deep=True)
    data.sst.values[HISTORY] = data.sst.values[7]
    sources.write(grown.source, data, HISTORY, HISTORY + 1)
    report = grown.open().update()
    assert report.suspect_chunks == 5  # all but the land
    assert "replay" in report.incidents[0]["suspected_cause"]


def test_a_frozen_source_is_a_warning(grown: Case) -> None:
    data = grown.data.copy(deep=True)
    data.sst.values[HISTORY] = data.sst.values[HISTORY - 1]
    sources.write(grown.source, data, HISTORY, HISTORY + 1)
    report = grown.open().update()
    assert {i["severity"] for i in report.incidents} == {"warning"}
    assert report.suspect_chunks == 0


def test_alerts_and_docs_are_written(
    grown: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from gnomon.flows.settings import Settings

    data = grown.data.copy(deep=True)
    data.sst.values[HISTORY, :4, :4] = 0
    sources.write(grown.source, data, HISTORY, HISTORY + 1)
    monkeypatch.setenv("GNOMON_ALERTS", str(tmp_path / "alerts.jsonl"))
    monkeypatch.setenv("GNOMON_DOCS", str(tmp_path / "docs"))
    grown.open().update(settings=Settings())
    (line,) = (tmp_path / "alerts.jsonl").read_text().splitlines()
    assert "sst" in json.loads(line)["title"]
    assert list((tmp_path / "docs").rglob("*.html"))


def test_too_few_captures_make_no_forecast(tmp_path: Path) -> None:
    data = sources.temperature(4)
    source = tmp_path / "source.zarr"
    sources.write(source, data, 0, 1)
    made = gnomon.create(str(tmp_path / "r"), str(source))
    assert made.update().message == "no forecast yet: 1 capture, at least 3 are needed"
    sources.write(source, data, 1, 2)
    assert made.update().message == "no forecast yet: 2 captures, at least 3 are needed"
    assert made.status()["shadow"] == []
    sources.write(source, data, 2, 3)
    report = made.update()
    assert report.refit == {"sst": "first forecast"}
    assert report.due is not None
    with xr.open_dataset(source, decode_cf=False) as found:
        assert found.sizes["time"] == 3


def test_a_time_says_nothing_of_an_append_source(grown: Case) -> None:
    report = grown.open().update(time="2001-01-05")
    assert (report.captured, report.message) == ([], "nothing new in the source")
    assert any("brings its own times" in note for note in report.notes)
