"""Forecasting models that a user chooses: in hindcasts, and in what a repository learns."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr
from dask.utils import funcname

import gnomon
from gnomon.flows.cluster import Workers
from gnomon.flows.report import UpdateReport
from gnomon.flows.settings import Settings
from gnomon.flows.summary import sentence
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.tasks.forecasting import CANDIDATES, Specification, guarded, registry
from gnomon.tasks.forecasting.candidate import CellPast, CellRecord
from gnomon.tasks.forecasting.guarded import Telling
from gnomon.tasks.learning.expectation import specification_of
from gnomon.tasks.learning.features import features
from gnomon.tasks.work import serial
from tests import sources
from tests.cases import HISTORY, Case
from tests.gnomon.test_cli import run, strict
from tests.gnomon.test_hindcast import red, write


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Leave no candidate behind, and say failures anew."""
    guarded._told.clear()
    yield
    registry._registered.clear()


class Mine:
    """A model of the user's own: one degree more than the last value."""

    per: Literal["cell"] = "cell"
    name = "mine"
    cost_s = 0.1

    def lags(self, spec: Specification) -> int:
        return 5

    def fit(self, record: CellRecord, before: Any) -> Any:
        return np.array([1.0])

    def predict(self, parameters: Any, past: CellPast) -> Any:
        return np.broadcast_to(past.last + parameters[0], past.season.shape)


def used(case: Case) -> tuple[str, ...]:
    """The candidates that the newest forecaster was learnt with."""
    found = specification_of(case.open()._repository, "sst")
    assert found is not None
    return found.candidates


def is_whole(case: Case, at: str) -> bool:
    """Whether a state is predicted wherever the source has values."""
    with xr.open_dataset("repository", engine="gnomon", at=at, accept_predicted=True) as made:
        predicted = np.isfinite(made.sst.values[0])
    return bool((predicted == np.isfinite(case.data.sst.values[HISTORY])).all())


def test_a_hindcast_has_a_row_for_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = write(tmp_path / "s.zarr", red())
    given = "hindcast", source, "--variable", "v", "--origins", "4", "--json"
    code, out, _ = run(capsys, *given, "--candidate", "ridge")
    found = strict(out)
    assert code == 0
    assert list(found["ratio_to"]) == [*CANDIDATES, "ridge"]
    assert list(found["weights"]) == [*CANDIDATES, "ridge"]
    assert found["specification"]["candidates"] == ["ridge"]
    assert 0.7 < found["ratio_to"]["ridge"] < 1.3
    assert list(strict(run(capsys, *given)[1])["ratio_to"]) == list(CANDIDATES)


def test_an_object_is_as_good_as_a_name(tmp_path: Path) -> None:
    source = write(tmp_path / "s.zarr", red())
    report = gnomon.hindcast(source, "v", origins=3, candidates=[Mine(), "ridge"])
    assert list(report.ratio_to) == [*CANDIDATES, "mine", "ridge"]


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("nothing", 3, "there is no candidate 'nothing' here, found boosting"), ("arima", 2, "leave")],
)
def test_a_name_that_is_none_is_told(
    capsys: pytest.CaptureFixture[str], grown: Case, name: str, code: int, said: str
) -> None:
    for command in (["hindcast", "source.zarr", "--variable", "sst"], ["rules", "repository"]):
        found, _, error = run(capsys, *command, "--candidate", name)
        assert found == code
        assert said in error
        assert len(error.splitlines()) == 1


def test_a_repository_learns_with_what_was_chosen(
    capsys: pytest.CaptureFixture[str], grown: Case
) -> None:
    repository = grown.open()
    before = repository.rules()
    assert run(capsys, "rules", "repository", "--candidate", "ridge")[0] == 0
    assert used(grown) == ()  # until it learns
    grown.arrive(HISTORY, HISTORY + 1)
    grown.open().update()
    assert used(grown) == ("ridge",)
    # Another rule leaves it alone, and a roll keeps it.
    rules = grown.open().rules(revisable="10d")
    assert rules == before | {"revisable_days": 10.0, "candidates": ["ridge"]}
    grown.arrive(HISTORY + 1, HISTORY + 2)
    done = grown.open().update()
    assert used(grown) == ("ridge",)
    assert not done.to_json().get("failed")
    _, out, _ = run(capsys, "rules", "repository")
    assert "forecasts: the built-in candidates, and ridge" in " ".join(out.split())
    assert is_whole(grown, "2001-01-28")
    assert run(capsys, "check", "repository")[0] == 0
    assert run(capsys, "rules", "repository", "--candidate", "none")[0] == 0
    grown.arrive(HISTORY + 2, HISTORY + 3)
    grown.open().update()
    assert used(grown) == ()


def test_one_that_is_not_here_stops_nothing(grown: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Another machine has not what this one had: it is told, and learnt anew without it."""
    grown.open().rules(candidates=[Mine(), "ridge"])
    grown.arrive(HISTORY, HISTORY + 1)
    grown.open().update()
    assert used(grown) == ("mine", "ridge")
    grown.arrive(HISTORY + 1, HISTORY + 2)
    command = [sys.executable, "-m", "gnomon", "update", "repository"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "the candidate 'mine' failed" in done.stderr
    assert used(grown) == ("ridge",)
    assert grown.open().rules()["candidates"] == ["mine", "ridge"]
    # Each later update tells of it, too.
    registry._registered.clear()
    grown.arrive(HISTORY + 2, HISTORY + 3)
    report = grown.open().update()
    assert list(report.failed_candidates) == ["mine"]
    assert "there is no candidate 'mine' here" in report.failed_candidates["mine"]
    assert "1 candidate FAILED (mine)" in sentence(report)


def test_one_that_fails_later_stops_nothing(
    grown: Case, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown.open().rules(candidates=[Mine()])
    grown.arrive(HISTORY, HISTORY + 1)
    grown.open().update()

    def fail(*_given: object) -> Any:
        raise MemoryError("too much")

    monkeypatch.setattr(Mine, "predict", fail)
    grown.arrive(HISTORY + 1, HISTORY + 2)
    with caplog.at_level(logging.WARNING):
        report = grown.open().update()
    assert "the candidate 'mine' failed, and is left out: MemoryError: too much" in caplog.text
    assert report.failed_candidates == {"mine": "MemoryError: too much"}
    assert is_whole(grown, "2001-01-28")


def test_what_another_version_left_behind_is_not_predicted_from(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers may mean something else: it is fitted anew."""
    monkeypatch.setattr(Mine, "version", 2, raising=False)
    grown.open().rules(candidates=[Mine()])
    grown.arrive(HISTORY, HISTORY + 1)
    assert grown.open().update().failed_candidates == {}
    monkeypatch.setattr(Mine, "version", 3)
    before = specification_of(grown.open()._repository, "sst")
    assert before is not None
    assert before.versions == (2,)
    [absent] = guarded.chosen(before)
    with pytest.raises(NotFound, match="version 2 was fitted, but version 3 is installed"):
        absent.predict(np.array([1.0]), None)  # type: ignore[arg-type,call-arg]
    grown.arrive(HISTORY + 1, HISTORY + 2)
    report = grown.open().update()
    assert report.refit == {"sst": "other candidates were chosen"}
    assert report.failed_candidates == {}
    after = specification_of(grown.open()._repository, "sst")
    assert after is not None
    assert after.versions == (3,)


def test_workers_say_the_same_and_tell_what_they_lack(grown: Case) -> None:
    """What is installed is there in every process; an object is known to this one alone."""
    grown.open().rules(candidates=["ridge", Mine()])
    repository = grown.open().stored
    with Workers(Settings(workers=1)) as workers:
        for mapper, missing in ((serial, set()), (workers.mapper, {"mine"})):
            learnt = features(repository, refit="as a test", mapper=mapper)
            assert set(learnt["sst"].failed_candidates) == missing
            assert learnt["sst"].specification.candidates == ("ridge", "mine")[: 2 - len(missing)]
        grown.open().rules(candidates=["ridge"])
        repository = grown.open().stored
        outlooks = [
            features(repository, refit="as a test", mapper=mapper)["sst"].outlook.pack()
            for mapper in (serial, workers.mapper)
        ]
        assert outlooks[0].tobytes() == outlooks[1].tobytes()
        assert funcname(Telling(partial(np.sum, axis=0))) == "sum"


def test_a_damaged_state_is_healed_with_one(grown: Case) -> None:
    """The forecast that it starts from is the one with the candidate."""
    grown.open().rules(candidates=["ridge"])
    grown.arrive(HISTORY, HISTORY + 1)
    grown.open().update()
    data = grown.data.copy(deep=True)
    data.sst.values[HISTORY + 1, :4, :4] += np.float32(20)
    sources.write(grown.source, data, HISTORY + 1, HISTORY + 2)
    assert grown.open().update().suspect_chunks == 1
    healed = grown.open().dataset("2001-01-26", kind="healed", accept_predicted=True)
    truth = grown.data.sst.values[HISTORY + 1, :4, :4]
    error = healed.sst.values[0, :4, :4] - truth
    bar = healed.sst_standard_error.values[0, :4, :4]
    assert np.isfinite(bar[np.isfinite(truth)]).all()
    assert np.nanmax(np.abs(error)) < 5.0
    assert np.nanmean(np.abs(error) < 3.0 * bar) > 0.9


def test_one_that_cannot_be_fitted_is_told_at_every_update(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mine, "fit", lambda *_: np.array([np.nan]))
    grown.open().rules(candidates=[Mine()])
    for slot, reason in ((HISTORY, "some not finite"), (HISTORY + 1, "at the last refit")):
        grown.arrive(slot, slot + 1)
        report = grown.open().update() if slot == HISTORY else roll(grown, monkeypatch)
        assert reason in report.failed_candidates["mine"]


def roll(case: Case, monkeypatch: pytest.MonkeyPatch) -> UpdateReport:
    """Update without a refit."""
    monkeypatch.setenv("GNOMON_REFIT_SHARE", "0")
    report = case.open().update()
    assert report.refit == {}
    return report


def test_rules_that_others_have_set_stand(grown: Case) -> None:
    """Each handle sets what it is asked to, however old what it has seen."""
    one, other = grown.open(), grown.open()
    one.rules(candidates=["ridge"])
    rule = {"errors": {"sst": 0.5}, "confidence": 0.9}
    other.rules(auto_heal={"sst": 0.5}, auto_heal_confidence=0.9)
    standing = {"revisable_days": 10.0, "candidates": ["ridge"], "auto_heal": rule}
    assert other.rules(revisable="10d") == standing
    one.rules(candidates=[])
    assert grown.open().rules() == standing | {"candidates": []}


def test_what_a_hindcast_tries_is_not_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "s.zarr", red())
    gnomon.hindcast(source, "v", origins=2, candidates=[Mine()])
    with pytest.raises(NotFound):
        registry.find("mine")


def test_one_alone_need_not_be_in_a_list(grown: Case) -> None:
    assert grown.open().rules(candidates="ridge")["candidates"] == ["ridge"]
    assert grown.open().rules(candidates=Mine())["candidates"] == ["mine"]  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"Mine is a class; give one of it: Mine\(\)"):
        grown.open().rules(candidates=[Mine])  # type: ignore[list-item]


def test_what_is_no_candidate_is_refused(grown: Case) -> None:
    with pytest.raises(InvalidInput, match="small letters"):
        grown.open().rules(candidates=[object()])  # type: ignore[list-item]
    with pytest.raises(NotFound):
        grown.open().rules(candidates=["ridge", "nothing"])
    assert grown.open().rules()["candidates"] == []
