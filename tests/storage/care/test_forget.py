"""Forgetting: what a policy gives up, what is guarded, and that nothing else changes."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.care.forget import forget, guards, tag
from gnomon.storage.care.retention import Policy, parse_duration
from gnomon.storage.changes.era import begin_era
from gnomon.storage.errors import Conflict, InvalidInput, NotFound
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import SUSPECT, TRUSTED
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.capturing.revisions import find_revisions
from gnomon.tasks.work import serial
from tests import sources
from tests.storage.building import (
    WHEN,
    OtherBody,
    capture_new,
    captured,
    copy_of,
    history,
    reopened,
    weather,
    write_zarr,
)

STEPS = 8
LAST = STEPS - 1


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of eight hourly captures of two chunks; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_zarr(weather(STEPS)[["t"]], folder / "s.zarr")
        captured(folder / "r", "s.zarr", chunks={"y": 3, "x": 10})
    return folder


@pytest.fixture
def made(_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    copy_of(_made / "r", tmp_path / "r")
    copy_of(_made / "s.zarr", tmp_path / "s.zarr")
    monkeypatch.chdir(tmp_path)
    return reopened(tmp_path / "r")


def grow(repository: Repository, steps: int, suspect: Collection[tuple[int, int]] = ()) -> Any:
    """Let hours arrive and capture them; `suspect` are (position, first chunk index)."""
    sources.overwrite("s.zarr", weather(steps)[["t"]])
    plan = plan_capture(repository)
    assert plan is not None
    refused: set[tuple[str, int, tuple[int, ...]]] = {
        ("t", position, (chunk, 0)) for position, chunk in suspect
    }
    found = capture(repository, plan, serial)
    return commit_capture(repository, found, refused, report={}, committed_at=WHEN)


def revise(repository: Repository, step: int) -> Repository:
    """Change a captured hour in the source, and capture it again."""
    data = sources.raw("s.zarr")
    data["t"].values[step, 4, 4] += 1
    sources.overwrite("s.zarr", data)
    plan = plan_capture(repository, revised=find_revisions(repository, serial, **ALL))
    assert plan is not None
    assert plan.revises == (step,)
    found = capture(repository, plan, serial)
    return commit_capture(repository, found, set(), report={}, committed_at=WHEN)


def shadowed(repository: Repository) -> Repository:
    """Commit a shadow that says what it is counted from, and nothing else."""
    last = repository.timeline[-1]
    body = {
        "id": "00000000-shadow",
        "step": last.step,
        "reference": last.instant,
        "instants": [last.instant + 1],
        "bases": [last.step],
        "variables": {},
        "forecaster": {},
    }
    return repository.commit(OtherBody("shadow", body), WHEN)


ALL: dict[str, Any] = {"count": None, "rng": np.random.default_rng(0)}


def apply(repository: Repository, **options: Any) -> Any:
    return forget(repository, committed_at=WHEN, **options)


def kept(repository: Repository) -> list[int]:
    return [s.step for s in repository.state.kept]


def test_a_policy_keeps_what_it_says_and_tells_why(made: Repository) -> None:
    after, done = apply(made, policy=Policy(last=2, daily=1))
    assert done.steps == (0, 1, 2, 3, 4, 5)
    assert done.lost == tuple(f"2000-01-01T0{hour}:00:00" for hour in range(6))
    assert [(d.step, d.reasons) for d in done.decisions if d.keep] == [
        (6, ("last",)),
        (7, ("last", "daily", "last trusted capture")),
    ]
    assert done.times == {hour: f"2000-01-01T0{hour}:00:00" for hour in range(8)}
    assert done.to_json() == {
        "forgotten": [0, 1, 2, 3, 4, 5],
        "lost": list(done.lost),
        "kept": [
            {"capture": 6, "reasons": ["last"]},
            {"capture": 7, "reasons": ["last", "daily", "last trusted capture"]},
        ],
    }
    for repository in (after, reopened(made.location.url)):
        assert kept(repository) == [6, 7]
        assert len(repository.captured) == STEPS  # the numbers stay
        assert repository.records[-1].kind == "forget"
        assert history(repository)["time"].values.tolist() == [6, 7]
    assert kept(made) == list(range(8))  # a reader keeps what it was opened with


def test_bytes_stay_until_a_prune(made: Repository, tmp_path: Path) -> None:
    before = sources.listing(tmp_path / "r" / "captures")
    after, _ = apply(made, policy=Policy(last=1))
    assert sources.listing(tmp_path / "r" / "captures") == before
    assert after.captures("t").chunk(0, (0, 0)).shape == (3, 10)


def test_a_policy_that_keeps_nothing_is_refused(made: Repository) -> None:
    for policy in (None, Policy()):
        with pytest.raises(InvalidInput, match="--keep-last"):
            apply(made, policy=policy)
    assert len(reopened(made.location.url).records) == len(made.records)


def test_a_policy_that_keeps_all_leaves_no_record(made: Repository) -> None:
    after, done = apply(made, policy=Policy(last=-1))
    assert (done.steps, done.lost) == ((), ())
    assert after is made


def test_within_runs_back_from_the_newest(made: Repository) -> None:
    after, _ = apply(made, policy=Policy(within=parse_duration("3h")))
    assert kept(after) == [5, 6, 7]


def test_a_dry_run_changes_nothing(made: Repository, tmp_path: Path) -> None:
    before = sources.listing(tmp_path)
    after, done = apply(made, policy=Policy(last=3), dry_run=True)
    assert done.steps == (0, 1, 2, 3, 4)
    assert after is made
    assert sources.listing(tmp_path) == before


# Guards ----------------------------------------------------------------------------------------


def test_the_last_trusted_capture_of_every_chunk_is_guarded(made: Repository) -> None:
    # The two newest captures are doubted in one chunk, the newest of them in both.
    made = grow(made, 10, suspect=[(0, 0), (1, 0), (1, 1)])
    assert guards(made) == {8: "last trusted capture", LAST: "last trusted capture"}
    after, done = apply(made, policy=Policy(last=1))
    assert kept(after) == [LAST, 8, 9]
    assert {d.step: d.reasons for d in done.decisions if d.keep} == {
        LAST: ("last trusted capture",),
        8: ("last trusted capture",),
        9: ("last",),
    }


def test_a_chunk_that_was_never_trusted_guards_nothing(tmp_path: Path) -> None:
    source = write_zarr(weather(3)[["t"]], tmp_path / "s.zarr")
    made = captured(tmp_path / "r", source, chunks={"y": 3, "x": 10})
    body = {
        "chunks": [
            {"variable": "t", "step": step, "chunk": [0, 0], "status": SUSPECT} for step in range(3)
        ],
        "reason": "a test",
    }
    made = made.commit(OtherBody("verdict", body), WHEN)
    assert guards(made) == {2: "last trusted capture"}  # for the other chunk
    assert kept(apply(made, policy=Policy(last=1))[0]) == [2]


def test_a_verdict_moves_the_guard(made: Repository) -> None:
    entry = {"variable": "t", "step": LAST, "chunk": [1, 0]}
    made = made.commit(
        OtherBody("verdict", {"chunks": [entry | {"status": SUSPECT}], "reason": ""}), WHEN
    )
    assert set(guards(made)) == {6, LAST}
    made = made.commit(
        OtherBody("verdict", {"chunks": [entry | {"status": TRUSTED}], "reason": ""}), WHEN
    )
    assert set(guards(made)) == {LAST}


def test_bases_of_the_newest_shadow_are_guarded(made: Repository) -> None:
    made = grow(shadowed(made), 10)
    assert guards(made) == {LAST: "base of the newest shadow", 9: "last trusted capture"}
    after, _ = apply(made, policy=Policy(last=1))
    assert kept(after) == [LAST, 9]
    # A newer shadow needs other captures.
    assert kept(apply(shadowed(after), policy=Policy(last=1))[0]) == [9]


# By number -------------------------------------------------------------------------------------


def test_captures_are_given_up_by_number(made: Repository) -> None:
    after, done = apply(made, captures=[5, 2])
    assert (sorted(done.steps), kept(after)) == ([2, 5], [0, 1, 3, 4, 6, 7])
    assert done.lost == ("2000-01-01T02:00:00", "2000-01-01T05:00:00")
    assert after.records[-1].body["reason"] == "named"


@pytest.mark.parametrize("number", [-1, 8, 99])
def test_a_capture_that_is_not_there_cannot_be_given_up(made: Repository, number: int) -> None:
    with pytest.raises(NotFound, match=f"no capture {number}"):
        apply(made, captures=[2, number])
    assert len(reopened(made.location.url).records) == len(made.records)


def test_a_capture_cannot_be_given_up_twice(made: Repository) -> None:
    after, _ = apply(made, captures=[2])
    with pytest.raises(NotFound, match="no capture 2"):
        apply(after, captures=[2])


def test_a_guarded_capture_cannot_be_given_up(made: Repository) -> None:
    with pytest.raises(InvalidInput, match="capture 7 cannot be given up: last trusted"):
        apply(made, captures=[3, LAST])
    assert len(reopened(made.location.url).records) == len(made.records)


# Versions and tags -----------------------------------------------------------------------------


def test_versions_of_one_time_go_together(made: Repository) -> None:
    made = revise(made, 3)
    assert [s.step for s in made.state.versions(made.captured[3].instant)] == [8, 3]
    _, done = apply(made, policy=Policy(last=2), dry_run=True)
    assert set(done.steps) == {0, 1, 2, 3, 4, 5, 8}
    assert len(done.lost) == 6
    after, done = apply(made, policy=Policy(last=5))
    assert kept(after) == [3, 8, 4, 5, 6, 7]
    assert {d.step: d.reasons for d in done.decisions if d.keep}[3] == ("last",)


def test_one_version_may_be_given_up_by_number(made: Repository) -> None:
    made = revise(made, 3)
    after, done = apply(made, captures=[8])
    assert (done.steps, done.lost) == ((8,), ())  # its time can still be restored
    assert [s.step for s in after.timeline] == list(range(8))


def test_a_guard_of_one_version_protects_the_others(made: Repository) -> None:
    made = revise(shadowed(made), LAST)
    assert guards(made) == {LAST: "base of the newest shadow", 8: "last trusted capture"}
    after, _ = apply(made, policy=Policy(yearly=1))
    assert kept(after) == [LAST, 8]


def test_tags_are_given_kept_and_taken_away(made: Repository) -> None:
    made = tag(made, [1, 2], add=["storm", "paper"], committed_at=WHEN)
    made = tag(made, [2], remove=["storm", "unknown"], committed_at=WHEN)
    made = reopened(made.location.url)
    assert [made.captured[k].tags for k in range(3)] == [(), ("storm", "paper"), ("paper",)]
    after, done = apply(made, policy=Policy(tags=("storm",)))
    assert kept(after) == [1, LAST]
    assert {d.step: d.reasons for d in done.decisions if d.keep}[1] == ("tag storm",)


def test_a_tag_of_any_version_keeps_them_all(made: Repository) -> None:
    made = tag(revise(made, 3), [3], add=["first"], committed_at=WHEN)
    after, _ = apply(made, policy=Policy(tags=("first",)))
    assert kept(after) == [3, 8, LAST]


@pytest.mark.parametrize("name", ["", "two words", "a,b", " a", "a\n"])
def test_what_is_no_tag_is_refused(made: Repository, name: str) -> None:
    with pytest.raises(InvalidInput, match="is not a tag"):
        tag(made, [1], add=[name], committed_at=WHEN)


def test_a_forgotten_capture_cannot_be_tagged(made: Repository) -> None:
    made, _ = apply(made, captures=[2])
    for number in (2, 8, -1):
        with pytest.raises(NotFound, match="gnomon captures"):
            tag(made, [1, number], add=["x"], committed_at=WHEN)
    assert tag(made, [1], committed_at=WHEN) is made


# What comes after ------------------------------------------------------------------------------


def test_forgotten_times_are_not_captured_again(made: Repository) -> None:
    made, _ = apply(made, policy=Policy(last=2))
    assert plan_capture(made) is None
    assert find_revisions(made, serial, **ALL) == ()
    made = grow(made, 10)
    assert kept(made) == [6, 7, 8, 9]
    xr.testing.assert_identical(
        history(made)["t"].load(), sources.raw("s.zarr")["t"].isel(time=slice(6, 10))
    )


def test_another_writer_was_first(made: Repository) -> None:
    grow(made, 9)
    with pytest.raises(Conflict):
        apply(made, policy=Policy(last=2))
    assert kept(reopened(made.location.url)) == list(range(9))


def test_each_era_has_captures_of_its_own(made: Repository) -> None:
    sources.overwrite("s.zarr", weather(STEPS)[["t"]].isel(x=slice(6)))
    made = capture_new(begin_era(made, WHEN))
    made, done = apply(made, policy=Policy(last=3))
    assert done.steps == (0, 1, 2, 3, 4)
    assert (kept(made), kept(made.in_era(0))) == ([5, 6, 7], list(range(8)))
    older, done = apply(made.in_era(0), captures=[1])
    assert (older.era, kept(older)) == (0, [0, 2, 3, 4, 5, 6, 7])
    found = reopened(made.location.url)
    assert (kept(found), kept(found.in_era(0))) == ([5, 6, 7], [0, 2, 3, 4, 5, 6, 7])
