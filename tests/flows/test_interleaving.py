"""What others commit while a run is at work: nothing is lost, done twice, or left stale."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gnomon
from gnomon.flows import checks, steps
from gnomon.flows.due import is_shadowed
from gnomon.flows.report import UpdateReport
from gnomon.storage.care.retention import Policy
from gnomon.storage.errors import Conflict
from gnomon.storage.log.records import Log
from gnomon.tasks.capturing.capture import capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.work import serial
from tests import sources
from tests.cases import HISTORY, Case
from tests.flows.test_cycle import forecasts, kinds
from tests.storage.building import OtherBody

MOMENTS = ("plan", "check_actual", "features", "forecast", "check_prediction")
"""Steps after which the other writer commits: before each that reads or commits."""
LEARNING = MOMENTS[2:]

Other = Callable[[Case], object]


def _tag(case: Case) -> None:
    case.open().tag([3], add=["x"])


def _reject(case: Case) -> None:
    assert case.open().judge("2001-01-20", accept=False) > 0


def _forget(case: Case) -> None:
    assert case.open().forget(Policy(last=12)).steps


def _prune(case: Case) -> None:
    assert case.open().prune().spared >= 0


def _forget_and_prune(case: Case) -> None:
    _forget(case)
    assert case.open().prune().rewritten


def _prune_all(case: Case) -> None:
    from datetime import timedelta

    case.open().prune(grace=timedelta(0))


def _repair(case: Case) -> None:
    case.open().stored.commit(OtherBody("repair", {"objects": {}}), "2020-01-01T00:00:00+00:00")


def _update(case: Case) -> None:
    case.open().update()


OTHERS: dict[str, Other] = {
    "tag": _tag,
    "verdict": _reject,
    "forget": _forget,
    "prune": _prune,
    "forget and prune": _forget_and_prune,
    "prune of all": _prune_all,
    "repair": _repair,
    "update": _update,
}


def meanwhile(
    case: Case, monkeypatch: pytest.MonkeyPatch, moment: str, other: Other, *, always: bool = False
) -> None:
    """Let another writer act after a step, the first time or each time."""
    module = checks if moment.startswith("check") else steps
    true = getattr(module, moment)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if not always:
            monkeypatch.setattr(module, moment, true)
        result = true(*arguments, **options)
        with monkeypatch.context() as patch:
            patch.setattr(module, moment, true)
            other(case)
        return result

    # The runner asks by the function itself whether a step works on chunks.
    if true in steps.ON_CHUNKS:
        monkeypatch.setattr(steps, "ON_CHUNKS", steps.ON_CHUNKS | {interrupted})
    interrupted.__name__ = moment
    monkeypatch.setattr(module, moment, interrupted)


def assert_whole(case: Case, report: UpdateReport) -> None:
    """Every state is there once and exactly, all is sound, and the shadow is of the newest."""
    repository = case.open()
    stored = repository.stored
    instants = [s.instant for s in stored.captured]
    assert len(instants) == len(set(instants)) == HISTORY + 1
    source = sources.raw(case.source)
    history = repository.history(decode=False).load()
    days = history.time.values
    assert days[-1] == HISTORY
    expected = source.sst.values[days]
    assert sources.bits(history.sst.values) == sources.bits(expected)
    assert repository.check(read_data=True).problems == ()
    assert is_shadowed(str(case.place))
    assert stored.shadows[-1].step == stored.timeline[-1].step
    assert repository.update().message == "nothing new in the source"


@pytest.fixture(scope="module")
def undisturbed(_grown: Case, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        case = _grown.copy(folder)
        case.arrive(HISTORY, HISTORY + 1)
        case.open().update()
        return forecasts(case.open())


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    "name", ["verdict", "forget", "forget and prune", "prune of all", "update"]
)
def test_another_writer_commits_in_between(
    grown: Case, undisturbed: Any, monkeypatch: pytest.MonkeyPatch, name: str, moment: str
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    meanwhile(grown, monkeypatch, moment, OTHERS[name])
    report = grown.open().update()
    assert_whole(grown, report)
    again = [text.partition(":")[0] for text in report.repeated]
    if name == "verdict":
        # The capture stands; what a person said of the past is in the shadow.
        assert again == (["shadow"] if moment in LEARNING else [])
        assert kinds(grown.open()).count("capture") == 2
        assert list(report.refit.values()) == ["a verdict changed what was learnt"]
    if name == "forget":
        # What was given up is still there to be read, and far in the past.
        assert again == []
    if name == "update":
        assert kinds(grown.open()).count("capture") == 2
        assert forecasts(grown.open()) == undisturbed
        assert report.captured == ([] if moment not in LEARNING else ["2001-01-25T00:00:00"])


@pytest.mark.parametrize("name", ["tag", "prune", "repair"])
def test_a_busy_neighbour_costs_nothing(
    grown: Case, undisturbed: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever it does after each and every step, as often as it likes."""
    grown.arrive(HISTORY, HISTORY + 1)
    for moment in MOMENTS:
        meanwhile(grown, monkeypatch, moment, OTHERS[name], always=True)
    report = grown.open().update()
    monkeypatch.undo()
    monkeypatch.chdir(grown.folder)
    assert report.repeated == []
    assert_whole(grown, report)
    assert forecasts(grown.open()) == undisturbed


def test_a_neighbour_that_always_undoes_is_not_fought_for_ever(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    meanwhile(grown, monkeypatch, "check_actual", _prune_all, always=True)
    monkeypatch.setattr("gnomon.flows.cycle.ATTEMPTS", 3)
    with pytest.raises(Conflict, match="prune"):
        grown.open().update()
    monkeypatch.undo()
    monkeypatch.chdir(grown.folder)
    assert kinds(grown.open()).count("capture") == 1
    assert_whole(grown, grown.open().update())


def test_a_base_that_was_forgotten_and_pruned_makes_the_capture_begin_again(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest capture is what a new one is coded against; rejected, it may be given up."""
    grown.open().judge("2001-01-24", accept=False)
    grown.open().update()
    grown.arrive(HISTORY, HISTORY + 1)

    def give_up_the_base(case: Case) -> None:
        case.open().forget(captures=[HISTORY - 1])
        case.open().prune()

    meanwhile(grown, monkeypatch, "check_actual", give_up_the_base)
    report = grown.open().update()
    assert [text.partition(":")[0] for text in report.repeated] == ["capture"]
    found = grown.open()
    bases = np.unique(found.stored.captures("sst").rows(HISTORY)[..., 0])
    assert HISTORY - 1 not in bases.tolist()
    assert found.check(read_data=True).problems == ()
    truth = sources.raw(grown.source).sst.values[HISTORY]
    got = found.dataset("2001-01-25", plain=True, decode=False)
    assert sources.bits(got.sst.values[0]) == sources.bits(truth)


def test_a_refit_whose_doubts_meet_a_verdict(
    damaged: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person judges while a refit doubts: that stands, and nothing is counted twice."""
    damaged.open().judge("2001-01-25", accept=True)
    with monkeypatch.context() as patch:
        meanwhile(
            damaged,
            patch,
            "forecast",
            lambda case: case.open().judge("2001-01-20", accept=False),
        )
        report = damaged.open().update(refit=True)
    assert [text.partition(":")[0] for text in report.repeated] == ["shadow"]
    stored = damaged.open().stored
    for captured in stored.captured:
        counted = sum(
            int((stored.captures(v.name).status(captured.step) == 1).sum())
            for v in stored.settings.variables
        )
        assert captured.suspects == counted


# Prune -------------------------------------------------------------------------------------------


def test_a_prune_leaves_alone_what_a_run_is_writing(grown: Case) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    stored = grown.open().stored
    planned = plan_capture(stored)
    assert planned is not None
    capture(stored, planned, serial)
    from datetime import timedelta

    repository = grown.open()
    there = set(stored.location.list(f"captures/{planned.id}/"))
    assert there
    assert repository.prune(dry_run=True).spared > 0
    done = repository.prune()
    assert (done.objects, done.spared > 0) == (0, True)
    assert set(stored.location.list(f"captures/{planned.id}/")) == there
    done = repository.prune(grace=timedelta(0))
    assert done.objects > 0
    assert stored.location.list(f"captures/{planned.id}/") == []
    assert grown.open().stored.records[-1].body == {}


def test_what_a_prune_gave_up_cannot_be_committed(grown: Case) -> None:
    """Also where the prune was stopped before it removed anything."""
    from gnomon.tasks.capturing.capture import commit_capture

    grown.arrive(HISTORY, HISTORY + 1)
    stored = grown.open().stored
    planned = plan_capture(stored)
    assert planned is not None
    found = capture(stored, planned, serial)
    when = "2020-01-01T00:00:00+00:00"
    spared = stored.commit(OtherBody("prune", {"removed": ["00000001-ffffffffffff"]}), when)
    given_up = spared.commit(OtherBody("prune", {"removed": [planned.id]}), when)
    for newest in (stored, spared, given_up):
        with pytest.raises(Conflict, match="prune"):
            commit_capture(newest, found, set(), report={}, committed_at=when)
    assert grown.open().stored.records == given_up.records
    # The next prune completes it, however young the folder is.
    assert grown.open().prune().objects > 0
    assert stored.location.list(f"captures/{planned.id}/") == []


def test_a_prune_is_made_again_where_another_was_first(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown.open().forget(Policy(last=12))
    mine = grown.open()
    from gnomon.storage.care import prune as module

    true = module._abandoned

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(module, "_abandoned", true)
        grown.arrive(HISTORY, HISTORY + 1)
        grown.open().update()
        return true(*arguments)

    monkeypatch.setattr(module, "_abandoned", slow)
    assert mine.prune().objects > 0
    assert kinds(grown.open())[-1] == "prune"
    assert grown.open().check(read_data=True).problems == ()
    assert len(grown.open().stored.timeline) == 13


# The put itself ----------------------------------------------------------------------------------


def test_a_commit_whose_put_is_beaten_time_and_again(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    append = Log.append
    beaten = 0

    def raced(log: Log, records: Any, kind: str, body: Any, committed_at: str) -> Any:
        nonlocal beaten
        if kind == "capture" and beaten < 5:
            beaten += 1
            append(log, records, "tag", {"steps": [1], "add": [f"x{beaten}"]}, committed_at)
        return append(log, records, kind, body, committed_at)

    monkeypatch.setattr(Log, "append", raced)
    report = grown.open().update()
    monkeypatch.undo()
    monkeypatch.chdir(grown.folder)
    assert (beaten, report.repeated) == (5, [])
    assert grown.open().stored.captured[1].tags == ("x1", "x2", "x3", "x4", "x5")
    assert_whole(grown, report)


def test_a_commit_gives_up_in_the_end(grown: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    append = Log.append
    beaten = 0

    def raced(log: Log, records: Any, kind: str, body: Any, committed_at: str) -> Any:
        nonlocal beaten
        if kind == "capture":
            beaten += 1
            append(log, records, "repair", {"objects": {}}, committed_at)
        return append(log, records, kind, body, committed_at)

    monkeypatch.setattr(Log, "append", raced)
    monkeypatch.setattr("gnomon.storage.repository.ATTEMPTS", 3)
    monkeypatch.setattr("gnomon.flows.cycle.ATTEMPTS", 2)
    with pytest.raises(Conflict):
        grown.open().update()
    assert beaten == 6


@pytest.mark.parametrize("change", ["tag", "forget", "judge"])
def test_a_change_of_a_repository_that_others_have_changed(grown: Case, change: str) -> None:
    mine = grown.open()
    grown.arrive(HISTORY, HISTORY + 1)
    gnomon.open(str(grown.place)).update()
    if change == "tag":
        mine.tag([3], add=["y"])
        assert mine.stored.captured[3].tags == ("y",)
    elif change == "forget":
        assert len(mine.forget(Policy(last=10)).steps) == HISTORY + 1 - 10
    else:
        other = grown.open()
        assert other.judge("2001-01-20", accept=False, variable="sst") == 6
        # What was judged meanwhile is no change any more, and is not counted twice.
        assert mine.judge("2001-01-20", accept=False) == 1
        assert mine.stored.captured[19].suspects == 7
    assert mine.stored.records[-1].sequence == grown.open().stored.records[-1].sequence
