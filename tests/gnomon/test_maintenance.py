"""What looks after a repository, by the Python API and by the command line."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import gnomon
from gnomon.storage.care.retention import Policy
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.log.location import Location
from tests import sources
from tests.cases import DAMAGED, HISTORY, Case
from tests.gnomon.test_cli import check_refusal, run, strict
from tests.storage.building import files_of, reopened

COMMANDS = ["check", "repair", "captures", "tag", "forget", "prune", "diff", "stats"]
NEXT = "2001-01-25"


def numbers(repository: gnomon.GnomonRepository) -> list[int]:
    present = repository.stored.era
    return [c["capture"] for c in repository.captures() if c["era"] == present]


# A repository that is looked after goes on -------------------------------------------------------


def test_a_repository_that_is_pruned_goes_on(grown: Case) -> None:
    repository = grown.open()
    done = repository.forget(Policy(last=7, weekly=4))
    assert len(done.steps) == 24 - 9
    freed = repository.prune()
    assert freed.objects > 0
    assert numbers(grown.open()) == [6, 13, *range(17, 24)]
    assert grown.open().update(compare=-1).message == "nothing new in the source"
    grown.arrive(HISTORY, HISTORY + 2)
    repository = grown.open()
    report = repository.update()
    assert (len(report.captured), report.late, report.suspect_chunks) == (2, 0, 0)
    assert report.due is not None
    kept = [6, 13, *range(17, 26)]
    assert numbers(repository) == kept
    history, source = repository.history(decode=False), sources.raw(grown.source)
    assert sources.bits(history.sst.values) == sources.bits(source.sst.values[kept])
    assert repository.update(refit=True).refit == {"sst": "asked for"}
    assert repository.check(read_data=True).problems == ()
    with pytest.raises(NotFound, match="there is no state at '2001-01-03'"):
        repository.dataset("2001-01-03")
    assert repository.points("2001-01-14")[0].kind == "captured"


def test_what_was_wrong_with_a_capture_that_is_gone(damaged: Case) -> None:
    """Its incident is told still, and is not open."""
    damaged.arrive(HISTORY + 1, HISTORY + 2)
    damaged.open().update()
    repository = damaged.open()
    assert [a["open"] for a in repository.anomalies()] == [True]
    repository.forget(captures=[NEXT])
    for _ in range(2):
        assert [a["open"] for a in repository.anomalies()] == [False]
        assert repository.status()["open_incidents"] == 0
        repository.prune()
    kinds = {point.kind for point in repository.points(NEXT)}
    assert "forecast" in kinds
    assert kinds.isdisjoint(("captured", "healed", "suspect"))


def test_captures_are_listed_with_versions_and_tags(grown: Case) -> None:
    data = grown.data.isel(time=slice(HISTORY)).copy(deep=True)
    data.sst.values[3, 0, 0] += 1
    sources.overwrite(grown.source, data)
    grown.open().update(compare=-1)
    repository = grown.open()
    repository.tag(["2001-01-02", 4], add=["paper"])
    found = repository.captures()
    assert [c["capture"] for c in found] == [0, 1, 2, 3, 24, *range(4, 24)]
    assert [c["valid_time"] for c in found][2:6] == [
        "2001-01-03T00:00:00",
        "2001-01-04T00:00:00",
        "2001-01-04T00:00:00",
        "2001-01-05T00:00:00",
    ]
    first, second = found[3:5]
    assert (first["current"], first["revises"], first["suspect_chunks"]) == (True, None, 0)
    assert (second["current"], second["revises"], second["suspect_chunks"]) == (False, 3, 1)
    assert [c["capture"] for c in found if c["tags"] == ["paper"]] == [1, 4]
    (sst,) = (d for d in repository.diff(3, 24) if d.variable == "sst")
    assert (sst.changed_cells, sst.changed_chunks) == (1, ("0/0",))
    assert sst.mean == pytest.approx(1.0)


def test_a_number_comes_before_a_year(grown: Case) -> None:
    repository = grown.open()
    repository.tag([7, "2001-01-03"], add=["x"])
    assert [c["capture"] for c in repository.captures() if c["tags"]] == [2, 7]
    with pytest.raises(NotFound):
        repository.tag(["24"], add=["x"])  # the year


def test_another_writer_was_first(grown: Case) -> None:
    mine, other = grown.open(), grown.open()
    other.tag([3], add=["x"])
    mine.forget(Policy(last=5, tags=("x",)))
    # Decided anew from what the other left: the tag is heeded.
    assert 3 in numbers(grown.open())
    assert len(numbers(grown.open())) < HISTORY


# Eras --------------------------------------------------------------------------------------------


@pytest.fixture
def two_eras(damaged: Case) -> Case:
    """The source lost its southern half; the first days of the new era are other days."""
    sources.overwrite(damaged.source, damaged.data.isel(time=slice(26, 32), lat=slice(4)))
    assert len(damaged.open().update(new_era=True).captured) == 6
    return damaged


def test_captures_of_an_older_era_are_named_by_time(two_eras: Case) -> None:
    repository = two_eras.open()
    repository.tag(["2001-01-03"], add=["old"])
    assert repository.stored.in_era(0).captured[2].tags == ("old",)
    assert [(c["era"], c["capture"]) for c in repository.captures() if c["tags"]] == [(0, 2)]
    assert [c["era"] for c in repository.captures()] == [0] * 25 + [1] * 6
    done = repository.forget(captures=["2001-01-03", "2001-01-05"], dry_run=True)
    assert (done.era, done.steps) == (0, (2, 4))
    assert repository.would_free(done) >= 0
    repository.forget(captures=["2001-01-03", "2001-01-05"])
    assert repository.stored.era == 1
    assert numbers(repository) == list(range(6))
    older = reopened(repository.path).in_era(0)
    assert [s.step for s in older.state.kept] == [k for k in range(25) if k not in (2, 4)]
    freed = repository.prune()
    assert freed.rewritten
    assert repository.check(read_data=True).problems == ()
    found = repository.dataset("2001-01-04", decode=False, plain=True)
    assert sources.bits(found.sst.values[0]) == sources.bits(two_eras.data.sst.values[3])


def test_captures_of_several_eras_are_not_mixed(two_eras: Case) -> None:
    repository = two_eras.open()
    before = len(repository.stored.records)
    for act in (repository.tag, repository.forget):
        with pytest.raises(InvalidInput, match="different eras"):
            act(captures=["2001-01-03", "2001-01-28"], **({} if act == repository.forget else X))
    with pytest.raises(InvalidInput, match="different eras"):
        repository.diff("2001-01-03", "2001-01-28")
    assert len(two_eras.open().stored.records) == before
    assert len(repository.diff("2001-01-03", "2001-01-04")) == 2
    assert len(repository.diff(0, 1)) == 2


X: dict[str, Any] = {"add": ["x"]}


def test_incidents_are_told_of_every_era(two_eras: Case) -> None:
    (incident,) = two_eras.open().anomalies()
    assert (incident["valid_time"], incident["open"]) == (f"{NEXT}T00:00:00", True)
    assert two_eras.open().status()["captures"] == 6


# The command line --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = run(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert "--json" in out
    assert f"Usage: gnomon {command}" in out


def test_a_life_in_json(capsys: pytest.CaptureFixture[str], damaged: Case) -> None:
    def call(*arguments: str, code: int = 0) -> Any:
        found, out, err = run(capsys, *arguments, "--json")
        assert (found, err) == (code, ""), err
        return strict(out)

    place = "repository"
    assert len(call("captures", place)) == HISTORY + 1
    tagged = call("tag", place, "--capture", "2001-01-03", "--capture", "4", "--add", "paper")
    assert [c["capture"] for c in tagged] == [2, 4]
    assert [c["capture"] for c in call("tag", place, "--capture", "4", "--remove", "paper")] == [2]

    rules = ("--keep-last", "3", "--keep-weekly", "1", "--keep-within", "4d", "--keep-tag", "paper")
    planned = call("forget", place, *rules, "--dry-run")
    assert planned["would_free"] > 0
    assert len(call("captures", place)) == HISTORY + 1
    done = call("forget", place, *rules)
    assert {n: done[n] for n in ("forgotten", "lost", "kept")} == {
        n: planned[n] for n in ("forgotten", "lost", "kept")
    }
    kept = {c["capture"]: c["reasons"] for c in done["kept"]}
    assert kept.keys() == {2, *range(21, 25)}
    assert kept[2] == ["tag paper"]
    assert "last trusted capture" in kept[HISTORY]
    planned = call("prune", place, "--dry-run")
    assert planned["dry_run"] is True
    pruned = call("prune", place)
    assert pruned["objects"] >= planned["objects"] > 0
    assert pruned["rewritten"] == planned["rewritten"]
    assert call("prune", place)["objects"] == 0

    (bounds, sst) = sorted(
        call("diff", place, "2001-01-24", NEXT), key=lambda d: d["variable"], reverse=True
    )
    assert (bounds["variable"], bounds["changed_cells"], bounds["mean"]) == ("time_bnds", 2, 1.0)
    assert (sst["chunks"], sst["where"]["lat"]) == (6, [0, 7])
    found = call("stats", place)
    assert found["captures"] == 5
    assert found["nbytes"] == sum(p.stat().st_size for p in files_of(damaged.place))
    assert call("check", place, "--read-data-subset", "50%")["problems"] == []
    report = call("check", place, "--read-data")
    assert (report["problems"], report["data_read"]) == ([], True)
    done = call("repair", place)
    assert (done["mended"], done["left"]) == ({}, {})
    done = call("forget", place, "--capture", "2", "--prune")
    assert (done["forgotten"], done["pruned"]["dry_run"]) == ([2], False)


def test_what_people_see(capsys: pytest.CaptureFixture[str], damaged: Case) -> None:
    place = "repository"
    for arguments, expected in [
        (("captures", place), ("valid time", "2001-01-24T00:00:00", "revises")),
        (("tag", place, "--capture", "5", "--add", "paper"), ("2001-01-06T00:00:00", "paper")),
        (("check", place), ("no problems", "not read", "--read-data")),
        (("check", place, "--read-data"), ("all stored bytes read", "chunks decoded")),
        (("check", place, "--read-data-subset", "1/2"), ("of stored bytes read",)),
        (("repair", place), ("nothing is damaged",)),
        (("diff", place, "22", "2001-01-24"), ("5 of 6", "lat 0..7", "K")),
        (("stats", place), ("bits/value", "25 captures, 0 forgotten, 2 shadows", "unchanged")),
        (("forget", place, "--keep-last", "8", "--dry-run"), (
            "keep", "last trusted capture", "17 captures forgotten, 17 restore points lost",
            "nothing was done (--dry-run); a prune would then free",
        )),
        (("forget", place, "--keep-last", "8"), ("'gnomon prune' frees their bytes",)),
        (("prune", place, "--dry-run"), ("would be removed", "must be stored anew")),
        (("prune", place), ("objects removed", "KiB", "were stored anew: they depended")),
        (("forget", place, "--keep-last", "6", "--prune"), ("2 captures forgotten", "removed")),
        (("forget", place, "--keep-last", "6"), ("0 captures forgotten, 0 restore points lost",)),
        (("prune", place), ("0 objects removed, 0 B",)),
    ]:  # fmt: skip
        code, out, err = run(capsys, *arguments)
        assert (code, err) == (0, "")
        for text in expected:
            assert text in out, (arguments, text, out)


# Mistakes: arguments, exit code, and what the line says. -----------------------------------------

R = "repository"
MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "nothing to tag with": (["tag", R, "--capture", "3"], 2, "--add NAME"),
    "nothing to tag": (["tag", R, "--add", "x"], 2, "--capture"),
    "no tag": (["tag", R, "--capture", "3", "--add", "two words"], 2, "is not a tag"),
    "tag no capture": (["tag", R, "--capture", "24", "--add", "x"], 3, "'24'"),
    "tag no time": (["tag", R, "--capture", "soon", "--add", "x"], 2, "soon"),
    "tag many": (["tag", R, "--capture", "2001-01", "--add", "x"], 2, "name one"),
    "tag a forecast": (["tag", R, "--capture", NEXT, "--add", "x"], 3, "was not captured"),
    "no policy": (["forget", R], 2, "--keep-last"),
    "no policy to prune by": (["forget", R, "--prune"], 2, "--keep-last"),
    "policy and captures": (["forget", R, "--keep-last", "3", "--capture", "3"], 2, "not both"),
    "below all": (["forget", R, "--keep-last", "-2"], 2, "--keep-last"),
    "keep some": (["forget", R, "--keep-daily", "some"], 2, "--keep-daily"),
    "keep within what": (["forget", R, "--keep-within", "a while"], 2, "2y5m7d3h"),
    "keep within nothing": (["forget", R, "--keep-within", "0d"], 2, "2y5m7d3h"),
    "keep within twice": (["forget", R, "--keep-within", "1d2d"], 2, "at most once"),
    "keep no tag": (["forget", R, "--keep-tag", ""], 2, "tag"),
    "forget no number": (["forget", R, "--capture", "99"], 3, "'99'"),
    "forget a negative": (["forget", R, "--capture", "-1"], 2, "-1"),
    "forget no time": (["forget", R, "--capture", "1999-01-01"], 3, "24 captures"),
    "forget many": (["forget", R, "--capture", "2001"], 2, "name one"),
    "forget what is needed": (["forget", R, "--capture", "23"], 2, "cannot be given up"),
    "forget and what is needed": (
        ["forget", R, "--capture", "2", "--capture", "2001-01-24"],
        2,
        "capture 23 cannot be given up",
    ),
    "diff with nothing": (["diff", R, "3"], 2, "second"),
    "diff with no capture": (["diff", R, "3", "77"], 3, "'77'"),
    "diff with a forecast": (["diff", R, NEXT, "3"], 3, "was not captured"),
    "two ways to read": (["check", R, "--read-data", "--read-data-subset", "5%"], 2, "not both"),
    "no subset": (["check", R, "--read-data-subset", "most"], 2, "most"),
    "an empty subset": (["check", R, "--read-data-subset", "0%"], 2, "0%"),
    "more than all": (["check", R, "--read-data-subset", "120%"], 2, "120%"),
    "a part of none": (["check", R, "--read-data-subset", "3/0"], 2, "3/0"),
    "a part beyond": (["check", R, "--read-data-subset", "5/4"], 2, "5/4"),
    "compare what": (["update", R, "--compare", "-2"], 2, "--compare"),
    "a new era of the same": (["update", R, "--new-era"], 2, "no new era is needed"),
    "stats of a file": (["stats", "notes.txt"], 3, "gnomon init"),
    **{f"{c} nowhere": ([c, "nowhere", *more], 3, "gnomon init") for c, more in {
        "check": [], "repair": [], "captures": [], "prune": [], "stats": [], "diff": ["1", "2"],
        "forget": ["--keep-last", "1"], "tag": ["--capture", "1", "--add", "x"],
    }.items()},
    **{f"{c} of a source": ([c, "source.zarr"], 3, "not a Gnomon repository") for c in
       ("check", "repair", "captures", "prune", "stats")},
}  # fmt: skip


@pytest.fixture(scope="module")
def mistaken(_grown: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("mistaken")
    (folder / "notes.txt").write_text("mine")
    return _grown.copy(folder)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(
    capsys: pytest.CaptureFixture[str],
    mistaken: Case,
    mistake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments, code, text = MISTAKES[mistake]
    monkeypatch.chdir(mistaken.folder)
    check_refusal(capsys, mistaken.folder, arguments, code, text)


def damage(case: Case, capture: int) -> Path:
    """Change a byte of a capture's own; returns the file."""
    stored = case.open().stored
    path = case.place / stored.captures("sst").file(capture, DAMAGED)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def test_damage_has_an_exit_code(capsys: pytest.CaptureFixture[str], grown: Case) -> None:
    path = damage(grown, 9)
    name = str(path.relative_to(grown.place))
    code, out, err = run(capsys, "check", R, "--read-data")
    assert (code, err) == (5, "")
    assert f"damaged: {name}" in out
    code, out, _ = run(capsys, "check", R, "--read-data", "--json")
    assert (code, [p["file"] for p in strict(out)["problems"]]) == (5, [name])
    assert run(capsys, "check", R)[0] == 0  # it reads no values
    check_refusal(capsys, grown.folder, ["diff", R, "9", "20"], 5, name)
    # The source still has it.
    code, out, err = run(capsys, "repair", R, "--dry-run")
    assert (code, err) == (0, "")
    assert f"can be mended: {name}" in out
    code, out, _ = run(capsys, "repair", R, "--json")
    assert (code, list(strict(out)["mended"])) == (0, [name])
    assert run(capsys, "check", R, "--read-data")[0] == 0


def test_damage_that_cannot_be_mended(capsys: pytest.CaptureFixture[str], grown: Case) -> None:
    path = damage(grown, 9)
    sources.overwrite(grown.source, grown.data.isel(time=slice(20, HISTORY)))
    name = str(path.relative_to(grown.place))
    code, out, err = run(capsys, "repair", R)
    assert (code, err) == (5, "")
    assert f"still damaged: {name}" in out
    code, out, _ = run(capsys, "repair", R, "--json")
    assert (code, list(strict(out)["left"])) == (5, [name])
    # What would have to be stored anew cannot be; nothing goes.
    assert run(capsys, "forget", R, "--capture", "8")[0] == 0
    residuals = {p for p in files_of(grown.place / "captures") if "/residual/c/" in str(p)}
    code, out, err = run(capsys, "prune", R)
    assert (code, out, err.count("\n")) == (5, "", 1)
    assert name in err
    assert residuals <= set(files_of(grown.place))


@pytest.mark.parametrize(
    "arguments",
    [
        ["tag", R, "--capture", "3", "--add", "x"],
        ["forget", R, "--keep-last", "3"],
        ["prune", R],
        ["forget", R, "--keep-last", "3", "--prune"],
    ],
    ids=" ".join,
)
def test_a_repository_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str],
    grown: Case,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Location, "_create_durable", refuse)
    check_refusal(capsys, grown.folder, arguments, 6, "permission denied")
    for reading in (["captures", R], ["stats", R], ["diff", R, "1", "2"], ["check", R]):
        assert run(capsys, *reading)[0] == 0


def test_a_source_with_another_grid_by_the_command_line(
    capsys: pytest.CaptureFixture[str], grown: Case
) -> None:
    sources.overwrite(grown.source, grown.data.isel(time=slice(HISTORY + 1), lat=slice(4)))
    check_refusal(capsys, grown.folder, ["update", R], 2, "--new-era")
    code, out, err = run(capsys, "update", R, "--new-era", "--json")
    assert (code, err) == (0, "")
    assert len(strict(out)["captured"]) == HISTORY + 1
    listed = strict(run(capsys, "captures", R, "--json")[1])
    assert [c["era"] for c in listed] == [0] * HISTORY + [1] * (HISTORY + 1)
    assert run(capsys, "check", R, "--read-data")[0] == 0
    xr.testing.assert_identical(
        grown.open().history(decode=False)["sst"].load(), sources.raw(grown.source)["sst"]
    )


@pytest.mark.parametrize("grace", [timedelta(hours=-1), timedelta.max])
def test_a_grace_that_no_run_can_need_is_refused(grown: Case, grace: timedelta) -> None:
    with pytest.raises(InvalidInput, match="grace is"):
        grown.open().prune(grace=grace)
