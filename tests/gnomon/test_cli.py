"""The command line: every command, and every mistake in one line that changes nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from obstore.exceptions import GenericError

from gnomon import cli
from tests import sources
from tests.cases import HISTORY, Case

NEXT = "2001-01-25"
COMMANDS = [
    "init",
    "update",
    "backfill",
    "status",
    "points",
    "restore",
    "check",
    "anomalies",
    "demo",
]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process; returns exit code, output and errors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gnomon", *arguments])
        # As a script: under `python -m pytest` the program would be named that.
        patch.setattr(sys.modules["__main__"], "__package__", "", raising=False)
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def strict(text: str) -> Any:
    """Read JSON, and refuse what is none: NaN, Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_whole_life(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = sources.temperature(14)
    data.sst.values[13, :4, :4] += 30
    source, place = str(tmp_path / "source.zarr"), str(tmp_path / "r")
    sources.write(source, data, 0, 12)

    def call(*arguments: str) -> Any:
        code, out, err = run(capsys, *arguments, "--json")
        assert (code, err) == (0, ""), err
        return strict(out)

    chunks = ("--chunk", "lat=4", "--chunk", "lon=4")
    made = call("init", place, source, *chunks, "--leads", "3", "--tolerance", "sst=0.5")
    assert (made["captures"], made["due"]) == (0, None)
    assert len(call("backfill", place, "--until", "2001-01-11")["captured"]) == 11
    assert call("update", place)["captured"] == ["2001-01-12T00:00:00"]
    sources.write(source, data, 12, 14)
    report = call("update", place, "--docs", str(tmp_path / "docs"))
    assert report["suspect_chunks"] == 1
    assert call("status", place)["variables"]["sst"]["tolerance"] == 0.5
    found = call("points", place, "--at", "2001-01-14")
    kinds = [p["kind"] for p in found]
    assert (kinds[0], kinds[-1], len(kinds)) == ("healed", "suspect", 4)
    errors = [p["expected_error"]["sst"] for p in found[1:3]]
    assert errors == sorted(errors)
    assert found[0]["confidence"] is not None
    target = str(tmp_path / "x.nc")
    done = call("restore", place, "--at", "2001-01-14", "--to", target, "--accept-predicted")
    assert (done["point"]["kind"], done["target"]) == ("healed", target)
    assert call("check", place, "--read-data")["problems"] == []
    assert call("anomalies", place)["anomalies"][0]["open"] is True
    assert call("anomalies", place, "--accept", "2001-01-14")["judged"] == 1
    assert call("update", place)["refit"] == {"sst": "a verdict changed what was learnt"}


def test_what_people_see(capsys: pytest.CaptureFixture[str], damaged: Case) -> None:
    for arguments, expected in {
        ("status", "repository"): ("25, 2001-01-01T00:00:00 to 2001-01-25T00:00:00", "sst"),
        ("points", "repository", "--at", NEXT): ("healed", "suspect", "--accept-predicted"),
        ("check", "repository"): ("no problems", "--read-data"),
        ("anomalies", "repository"): ("open", "chunks 0/1"),
        ("anomalies", "repository", "--reject", "2001-01-24", "--variable", "sst"): ("6 chunks",),
        ("restore", "repository", "--at", "2001-01-05", "--to", "x.zarr"): ("7 chunks verified",),
        ("update", "repository"): ("learnt sst anew", "next update due"),
    }.items():
        code, out, err = run(capsys, *arguments)
        assert (code, err) == (0, "")
        for text in expected:
            assert text in out, (arguments, text, out)


@pytest.mark.parametrize(
    ("option", "day"), [("--nearest", "2001-01-11"), ("--before", "2001-01-10")]
)
def test_another_time_is_taken_and_said(
    capsys: pytest.CaptureFixture[str], grown: Case, option: str, day: str
) -> None:
    asked = ("--at", "2001-01-10T13:00", option)
    _, out, _ = run(capsys, "points", "repository", *asked, "--json")
    assert strict(out)[0]["valid_time"] == f"{day}T00:00:00"
    code, out, _ = run(capsys, "points", "repository", *asked)
    assert (code, f"no state has the time 2001-01-10T13:00; these have {day}T00:00:00" in out) == (
        0,
        True,
    )
    code, out, _ = run(capsys, "restore", "repository", *asked, "--to", "x.zarr")
    assert code == 0
    assert f"captured state of {day}T00:00:00, exact; 7 chunks verified" in out


def test_what_is_restored_is_said_with_its_error(
    capsys: pytest.CaptureFixture[str], damaged: Case
) -> None:
    arguments = ("--at", NEXT, "--to", "x.zarr")
    code, _, refusal = run(capsys, "restore", "repository", *arguments)
    assert (code, refusal.count("\n")) == (2, 1)
    assert "allow that with --accept-predicted" in refusal
    code, out, _ = run(capsys, "restore", "repository", *arguments, "--accept-predicted")
    assert code == 0
    point = damaged.open().points(NEXT)[0]
    error, sure = point.expected_error["sst"], point.confidence
    assert error is not None
    assert sure is not None
    for text in (
        "healed state of 2001-01-25T00:00:00",
        "made at 2001-01-24T00:00:00 (lead 1)",
        "16.67%",
        f"sst {error:.3g} K",
        f"confidence {sure:.2f}",
    ):
        assert text in out
        assert text in refusal


@pytest.mark.parametrize("years", [(-9, 3), (900, 1000), (9998, 10001)])
def test_years_are_ordered_as_numbers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, years: tuple[int, int]
) -> None:
    data = sources.temperature(years[1] - years[0] + 1, land=False)[["sst"]]
    first = f"{years[0]:05d}" if years[0] < 0 else f"{years[0]:04d}"
    time = np.arange(data.sizes["time"]) * 360
    attributes = {"units": f"days since {first}-01-01", "calendar": "360_day"}
    data = data.assign_coords(time=("time", time.astype("i8"), attributes))
    sources.write(tmp_path / "s.zarr", data.isel(time=[0, 1, -2, -1]))
    place = str(tmp_path / "r")
    assert run(capsys, "init", place, str(tmp_path / "s.zarr"))[0] == 0
    assert run(capsys, "update", place)[0] == 0
    _, out, _ = run(capsys, "status", place, "--json")
    status = strict(out)
    assert [int(status[n][: -len("-01-01T00:00:00")]) for n in ("first", "last")] == list(years)
    for name in ("first", "last"):
        _, out, _ = run(capsys, "points", place, "--at", status[name], "--json")
        assert strict(out)[0]["kind"] == "captured"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = run(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert "--json" in out


def test_help_lists_the_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)
    assert "Exit codes" in out


def printed_by(program: str) -> list[str]:
    """Return the lines that a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return done.stdout.splitlines()


AT_ONCE = ("points", "status", "captures", "anomalies", "check")
"""Commands that tell of a repository, and read no data of it."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([command, "repository", "--json"] for command in AT_ONCE),
        ["update", "repository", "--if-due", "--json"],
        ["run", "repository", "--json"],
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(grown: Case, arguments: list[str]) -> None:
    heavy = ["prefect", "great_expectations", "distributed", "pmdarima", "matplotlib"]
    heavy += ["xarray", "zarr", "pandas", "scipy", "dask", "numba", "fsspec"]
    program = (
        f"import sys; from gnomon import cli; sys.argv = {['gnomon', *arguments]}\n"
        "try: cli.start()\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', [m for m in {heavy} if m in sys.modules])"
    )
    done = printed_by(program)
    assert len(done) > 1
    assert done[-1] == "HEAVY []"


def test_an_update_imports_of_great_expectations_what_it_needs(grown: Case) -> None:
    program = (
        "import atexit, runpy, sys; sys.argv = ['gnomon', 'update', 'repository', '--refit']\n"
        "unneeded = ['sqlalchemy', 'great_expectations.datasource.fluent.pandas_datasource']\n"
        "def tell():\n"
        "    print([m for m in ['great_expectations', *unneeded] if m in sys.modules])\n"
        "atexit.register(tell)\n"
        "runpy.run_module('gnomon')"
    )
    done = printed_by(program)
    assert any("learnt sst anew" in line for line in done)
    assert done[-1] == "['great_expectations']"


# Mistakes: arguments, exit code, and what the line says. ---------------------------------------

MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "no source": (["init", "new", "nowhere.zarr"], 3, "does not exist"),
    "a file that is no dataset": (["init", "new", "notes.txt"], 3, "a text file"),
    "an empty folder": (["init", "new", "empty"], 3, "an empty folder"),
    "a repository as source": (["init", "new", "repository"], 2, "is a Gnomon repository"),
    "a place that is not empty": (["init", "full", "source.zarr"], 4, "not empty"),
    "a repository there already": (["init", "repository", "source.zarr"], 4, "not empty"),
    "a source inside the repository": (["init", ".", "source.zarr"], 4, "not empty"),
    "a repository inside the source": (["init", "source.zarr/r", "source.zarr"], 2, "inside"),
    "no such variable": (["init", "new", "source.zarr", "--variable", "salt"], 3, "sst"),
    "text": (["init", "new", "text.zarr", "--variable", "name"], 2, "name"),
    "nothing numeric": (["init", "new", "text.zarr"], 2, "no numeric variable"),
    "all missing": (["init", "new", "missing.zarr"], 2, "only missing values"),
    "units of time": (["init", "new", "units.zarr"], 2, "units"),
    "no time": (["init", "new", "notime.zarr", "--kind", "append"], 2, "--time"),
    "no such time": (["init", "new", "source.zarr", "--time", "t"], 3, "'t'"),
    "kind": (["init", "new", "source.zarr", "--kind", "stream"], 2, "append or state"),
    "engine": (["init", "new", "source.zarr", "--engine", "nonsense"], 3, "engine"),
    "group": (["init", "new", "source.zarr", "--group", "no/such"], 3, "source.zarr"),
    "chunk": (["init", "new", "source.zarr", "--chunk", "lat"], 2, "NAME=NUMBER"),
    "chunk number": (["init", "new", "source.zarr", "--chunk", "lat=many"], 2, "NAME=NUMBER"),
    "chunk of nothing": (["init", "new", "source.zarr", "--chunk", "depth=3"], 2, "depth"),
    "chunk of zero": (["init", "new", "source.zarr", "--chunk", "lat=0"], 2, "at least 1"),
    "leads": (["init", "new", "source.zarr", "--leads", "0"], 2, "leads"),
    "leads in words": (["init", "new", "source.zarr", "--leads", "some"], 2, "leads"),
    "interval": (["init", "new", "source.zarr", "--interval", "0"], 2, "interval"),
    "interval in words": (["init", "new", "source.zarr", "--interval", "1 moon"], 2, "1h, 30min"),
    "start of told times": (["init", "new", "source.zarr", "--start", "2001"], 2, "--start"),
    "period": (["init", "new", "source.zarr", "--period", "-3"], 2, "period"),
    "tolerance": (["init", "new", "source.zarr", "--tolerance", "sst=-1"], 2, "above 0"),
    "tolerance of nothing": (["init", "new", "source.zarr", "--tolerance", "x=1"], 3, "'x'"),
    "not a number": (["init", "new", "source.zarr", "--tolerance", "sst=nan"], 2, "above 0"),
    "tolerance of everything": (["init", "new", "source.zarr", "--tolerance", "sst=inf"], 2, "fin"),
    **{
        f"{command[0]} {option} {value}": ([*command, option, value], 2, text)
        for command in (
            ["init", "new", "source.zarr"],
            ["hindcast", "source.zarr", "--variable=sst"],
        )
        for option, values, text in (
            ("--interval", ("nan", "inf", "1e300", "1e12", "1e-300"), "interval is"),
            ("--interval", ("5e8",), "leads of") if command[0] == "init" else ("--period", (), ""),
            ("--period", ("nan", "inf", "1e300", "1e-300"), "period is"),
            ("--leads", ("100000", "99999999999999999999"), "leads is"),
        )
        for value in values
    },
    **{
        f"grace {value}": (["prune", "repository", "--grace", value], 2, "--grace")
        for value in ("inf", "1e300", "nan", "-1", "90000")
    },
    "no repository": (["status", "nowhere"], 3, "gnomon init"),
    "a source as repository": (["update", "source.zarr"], 3, "gnomon init"),
    "a newer format": (["status", "newer"], 7, "upgrade"),
    "a damaged log": (["status", "broken"], 5, "log"),
    "a time that is none": (["update", "repository", "--time", "soon"], 2, "'soon'"),
    "until": (["backfill", "repository", "--until", "soon"], 2, "soon"),
    "at": (["points", "repository", "--at", "yesterday"], 2, "yesterday"),
    "at no date": (["points", "repository", "--at", "2001-02-31"], 2, "2001-02-31"),
    "at many": (["points", "repository", "--at", "2001"], 2, "name one"),
    "at nothing": (["points", "repository", "--at", "1999-01-01"], 3, "24 captures"),
    "at between": (
        ["restore", "repository", "--at", "2001-01-10T13:00", "--to", "x.zarr"],
        3,
        "before it is 2001-01-10T00:00:00 (captured), after it 2001-01-11T00:00:00 (captured)",
    ),
    "verify all": (["points", "repository", "--verify"], 2, "name it with --at"),
    "restore between": (
        ["restore", "repository", "--at", "2001-01-10T13:00", "--to", "x.zarr"],
        3,
        "--before and --nearest",
    ),
    "nearest and before": (
        ["points", "repository", "--at", "2001-01-10", "--nearest", "--before"],
        2,
        "--nearest and --before",
    ),
    "before the first": (
        ["points", "repository", "--at", "2000", "--before"],
        3,
        "after it 2001-01-01T00:00:00",
    ),
    "accept between": (["anomalies", "repository", "--accept", "2001-01-10T13"], 3, "no state"),
    "restore nothing": (["restore", "repository", "--at", "2030", "--to", "x.zarr"], 3, "no state"),
    "restore onto": (["restore", "repository", "--at", "2001-01-05", "--to", "full"], 2, ".zarr"),
    "target exists": (
        ["restore", "repository", "--at", "2001-01-05", "--to", "source.zarr"],
        4,
        "exists",
    ),
    "predicted": (
        ["restore", "repository", "--at", NEXT, "--to", "x.zarr"],
        2,
        "the best answer is the forecast of 2001-01-25T00:00:00 made at 2001-01-24T00:00:00 (lead "
        "1), expected error sst 0.6",
    ),
    "predicted and plain": (
        ["restore", "repository", "--at", NEXT, "--to", "x.nc", "--accept-predicted", "--plain"],
        2,
        "plain",
    ),
    "no such kind": (
        ["restore", "repository", "--at", "2001-01-05", "--to", "x.nc", "--kind", "magic"],
        3,
        "magic",
    ),
    "judge what was not captured": (["anomalies", "repository", "--accept", NEXT], 3, "captured"),
    "judge no variable": (
        ["anomalies", "repository", "--accept", "2001-01-05", "--variable", "salt"],
        3,
        "salt",
    ),
    "no argument": (["update"], 2, "REPOSITORY"),
    "no such option": (["status", "repository", "--verbose"], 2, "--verbose"),
    "no such command": (["destroy", "repository"], 2, "destroy"),
}


@pytest.fixture(scope="module")
def mistaken(_grown: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A folder with a good repository and much that is not."""
    folder = tmp_path_factory.mktemp("mistaken")
    case = _grown.copy(folder)
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").write_text("mine")
    (folder / "notes.txt").write_text("hello")
    data = _grown.data.isel(time=slice(0, 4))
    names = np.array(["a", "b", "c", "d"], dtype="U1")
    sources.overwrite(folder / "text.zarr", xr.Dataset({"name": ("time", names)}, data.coords))
    lacking = data[["sst"]].assign(other=data.sst * np.nan)
    sources.overwrite(folder / "missing.zarr", lacking)
    time = ("time", data.time.values, {"units": "moons since the flood"})
    sources.overwrite(folder / "units.zarr", data[["sst"]].assign_coords(time=time))
    sources.overwrite(folder / "notime.zarr", data[["sst"]].isel(time=0, drop=True))
    for name in ("newer", "broken"):
        _grown.copy(folder / name)
        (folder / name / "repository").rename(folder / f"{name}.r")
        (folder / f"{name}.r").rename(folder / name / "r")
    for kept in ("", "copies"):
        settings = folder / "newer" / "r" / kept / "gnomon.json"
        settings.write_text(settings.read_text().replace('"format": 2', '"format": 3'))
        record = sorted((folder / "broken" / "r" / kept / "log").iterdir())[1]
        record.write_text(record.read_text().replace("capture", "captive", 1))
    return case


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(
    capsys: pytest.CaptureFixture[str],
    mistaken: Case,
    mistake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments, expected, text = MISTAKES[mistake]
    moved = [f"{a}/r" if a in ("newer", "broken") else a for a in arguments]
    monkeypatch.chdir(mistaken.folder)
    check_refusal(capsys, mistaken.folder, moved, expected, text)


def check_refusal(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    arguments: list[str],
    expected: int,
    text: str,
) -> None:
    before = sources.listing(folder)
    code, out, err = run(capsys, *arguments)
    assert err.startswith("gnomon: error: "), err
    assert err.count("\n") == 1, err
    assert text in err
    assert code == expected, err
    assert out == ""
    assert sources.listing(folder) == before


def _other_grid(data: xr.Dataset) -> xr.Dataset:
    return data.isel(lat=slice(0, 6))


def _other_type(data: xr.Dataset) -> xr.Dataset:
    return data.assign(sst=data.sst.astype("f8"))


def _other_coordinate(data: xr.Dataset) -> xr.Dataset:
    return data.assign_coords(lat=data.lat + 1)


def _no_variable(data: xr.Dataset) -> xr.Dataset:
    return data.drop_vars("sst")


def _no_time(data: xr.Dataset) -> xr.Dataset:
    return data.isel(time=0, drop=True)


def _other_calendar(data: xr.Dataset) -> xr.Dataset:
    attributes = dict(data.time.attrs, calendar="360_day")
    return data.assign_coords(time=("time", data.time.values, attributes))


def _other_order(data: xr.Dataset) -> xr.Dataset:
    return data.transpose("lat", "time", "lon", ...)


CHANGES: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {
    "grid": (_other_grid, "shape"),
    "type": (_other_type, "type"),
    "coordinate": (_other_coordinate, "'lat'"),
    "variable": (_no_variable, "'sst'"),
    "time": (_no_time, "time"),
    "calendar": (_other_calendar, "calendar"),
    "order": (_other_order, "sst"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_changed_is_refused(
    capsys: pytest.CaptureFixture[str], grown: Case, change: str
) -> None:
    make, text = CHANGES[change]
    changed = make(grown.data.isel(time=slice(0, HISTORY + 1)))
    sources.overwrite(grown.source, changed)
    check_refusal(capsys, grown.folder, ["update", "repository"], 2, text)


def test_a_single_capture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, place = tmp_path / "source.zarr", str(tmp_path / "r")
    sources.write(source, sources.temperature(1))
    assert run(capsys, "init", place, str(source))[0] == 0
    code, out, err = run(capsys, "update", place)
    assert (code, err) == (0, "")
    assert "1 capture, at least 3 are needed" in out
    arguments = ["restore", place, "--at", "2001-01-02", "--to", str(tmp_path / "x.zarr")]
    check_refusal(capsys, tmp_path, arguments, 3, "1 capture")
    assert run(capsys, "restore", place, "--at", "2001-01-01", *arguments[4:])[0] == 0


def test_damage_in_the_repository(capsys: pytest.CaptureFixture[str], grown: Case) -> None:
    (chunk, *_) = sorted((grown.place / "captures").rglob("sst*/residual/c/9/**/*[0-9]")) or sorted(
        p
        for p in (grown.place / "captures").rglob("*")
        if "residual/c/9/" in str(p) and p.is_file()
    )
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(bytes(data))
    arguments = ["restore", "repository", "--at", "2001-01-10", "--to", "x.zarr"]
    before = sources.listing(grown.folder)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (5, "")
    assert err.startswith("gnomon: error: ")
    assert err.count("\n") == 1
    code, out, _ = run(capsys, "check", "repository", "--read-data", "--json")
    assert code == 5
    assert strict(out)["problems"]
    assert sources.listing(grown.folder) == before


@pytest.mark.parametrize(
    "failure",
    [
        OSError(28, "No space left on device"),
        GenericError('Generic { source: Os { code: 28, message: "No space left on device" } }'),
    ],
    ids=["operating system", "object store"],
)
def test_a_full_disk_is_one_line_and_loses_nothing(
    capsys: pytest.CaptureFixture[str],
    grown: Case,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    before = sources.listing(grown.place)

    def fail(*_arguments: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr("gnomon.flows.steps.capture", fail)
        code, out, err = run(capsys, "update", "repository")
    assert (code, out) == (6, "")
    assert err.startswith("gnomon: error: a store failed: No space left on device;")
    assert err.count("\n") == 1
    assert sources.listing(grown.place) == before
    assert run(capsys, "update", "repository")[0] == 0
