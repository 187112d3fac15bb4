"""Leads of old shadows go once newer ones have predicted their times; nothing else is lost."""

from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from gnomon.flows.settings import Settings
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import Conflict, NotFound
from gnomon.storage.log.location import Location
from gnomon.storage.log.steps import Shadow
from tests.cases import HISTORY, Case

ROLLING = Settings(refit_share=0.0, compare=0)


def update(case: Case, *days: int) -> GnomonRepository:
    """Capture some more days with one update."""
    case.arrive(days[0], days[-1] + 1)
    repository = case.open()
    assert len(repository.update(settings=ROLLING).captured) == len(days)
    return case.open()


def stored(case: Case, shadow: Shadow) -> set[str]:
    """The arrays of predictions that have an object."""
    folder = case.place / "shadows" / shadow.id / "v-sst"
    tables = {"index", "score"}
    return {p.relative_to(folder).parts[0] for p in folder.rglob("c/**/*") if p.is_file()} - tables


def time_of(case: Case, day: int) -> str:
    """The valid time of a day."""
    return str(xr.decode_cf(case.data).time.values[day])[:10]


def everything(repository: GnomonRepository, shadow: Shadow) -> dict[Any, bytes]:
    """All values and error bars that a shadow has."""
    stack = repository.stored.shadow("sst", shadow)
    return {
        (shadow.reference, lead, index): b"".join(
            part.tobytes() for part in stack.chunk(lead, index)
        )
        for lead in range(1, len(shadow.instants) + 1)
        for index in stack.variable.grid.indices()
    }


def test_of_a_shadow_two_updates_old_only_the_lead_that_nothing_else_predicts_is_left(
    grown: Case,
) -> None:
    made: dict[Any, bytes] = {}
    for day in range(HISTORY, HISTORY + 4):
        repository = update(grown, day)
        made |= everything(repository, repository.stored.shadows[-1])
    *old, before, newest = repository.stored.shadows
    assert len(old) == 3
    for shadow in old:
        assert len(shadow.instants) == 1
        assert stored(grown, shadow) == {"change", "error"}
    for shadow in (before, newest):
        assert len(shadow.instants) == shadow.leads > 1
        assert stored(grown, shadow) == {"change", "error", "change_later", "error_later"}
    for shadow in (*old[1:], before, newest):
        assert everything(repository, shadow).items() <= made.items()
    assert repository.check(read_data=True).problems == ()


def test_every_captured_time_is_still_forecast_from_the_nearest_capture(grown: Case) -> None:
    for day in range(HISTORY, HISTORY + 4):
        told = update(grown, day).points(time_of(grown, day))
        (forecast,) = (p for p in told if p.kind == "forecast")
        assert forecast.lead == 1
    repository = grown.open()
    for day in range(HISTORY, HISTORY + 4):
        told = repository.points(time_of(grown, day))
        (forecast,) = (p for p in told if p.kind == "forecast")
        assert forecast.lead == 1
        assert forecast.shadow == repository.stored.shadows[day - HISTORY].id


def test_updates_of_several_captures_keep_what_the_next_one_comes_too_late_for(
    grown: Case,
) -> None:
    for days in ((HISTORY, HISTORY + 1), (HISTORY + 2, HISTORY + 3), (HISTORY + 4,)):
        update(grown, *days)
    repository = update(grown, HISTORY + 5)
    first, second, third, *_ = repository.stored.shadows
    # Made with one day in mind; two came, which nothing else predicts.
    assert (first.lasting, len(first.instants)) == (1, first.leads)
    assert (second.lasting, len(second.instants)) == (2, 2)
    # One more than is needed: one day came sooner than was expected.
    assert (third.lasting, len(third.instants)) == (2, 2)
    assert repository.check(read_data=True).problems == ()


def test_a_lead_that_is_gone_is_not_found_and_the_message_says_what_is_there(grown: Case) -> None:
    for day in range(HISTORY, HISTORY + 2):
        repository = update(grown, day)
    stack = repository.stored.shadow("sst", repository.stored.shadows[0])
    with pytest.raises(NotFound, match="the shadow has no lead 2; its leads are 1 to 1"):
        stack.chunk(2, (0, 0))


def test_a_forecast_that_was_opened_before_says_what_has_become_of_it(grown: Case) -> None:
    opened = grown.open().shadow_dataset()
    for day in range(HISTORY, HISTORY + 2):
        update(grown, day)
    opened.sst.isel(lead=0).load()
    with pytest.raises(Conflict, match=r"at lead 2 is no longer there.*open it anew"):
        opened.sst.isel(lead=1).load()


def test_a_check_beside_an_update_finds_no_damage(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(grown, HISTORY)
    sizes, begun = Location.sizes, [False]

    def and_meanwhile(location: Location, *where: Any, **options: Any) -> dict[str, int]:
        if not begun[0]:
            begun[0] = True
            update(grown, HISTORY + 1)
        return sizes(location, *where, **options)

    monkeypatch.setattr(Location, "sizes", and_meanwhile)
    assert grown.open().check(read_data=True).problems == ()
    assert begun[0]


def test_what_a_killed_run_leaves_of_them_goes_with_a_prune(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("gnomon.storage.repository.remove_later_leads", lambda *_: None)
        for day in range(HISTORY, HISTORY + 2):
            repository = update(grown, day)
    oldest = repository.stored.shadows[0]
    assert "change_later" in stored(grown, oldest)
    assert repository.check(read_data=True).problems == ()
    repository.prune()
    assert stored(grown, oldest) == {"change", "error"}
    assert grown.open().check(read_data=True).problems == ()


def test_a_capture_that_is_rejected_later_is_healed_as_with_all_leads(
    grown: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole = grown.copy(tmp_path / "whole")
    rejected = time_of(grown, HISTORY + 1)

    def healed(case: Case) -> xr.Dataset:
        monkeypatch.chdir(case.folder)
        for day in range(HISTORY, HISTORY + 5):
            update(case, day)
        repository = case.open()
        assert repository.judge(rejected, accept=False)
        assert repository.points(rejected)[0].kind == "healed"
        return repository.dataset(rejected, accept_predicted=True).load()

    found = healed(grown)
    assert not grown.open().stored.shadows[1].is_whole
    with monkeypatch.context() as patch:
        patch.setattr(Shadow, "superseded_by", lambda shadow, _: shadow)
        expected = healed(whole)
    xr.testing.assert_identical(found, expected)
