"""All groups of a source in one go: a repository each, and what is done with all of them."""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import obstore
import pytest
import xarray as xr

import gnomon
from gnomon.storage.errors import Conflict, InvalidInput, NotFound
from gnomon.storage.log.records import Log
from gnomon.storage.repository import Repository
from gnomon.storage.source.groupfolder import INDEX, GroupFolder, place_of
from tests.gnomon.test_cli import run, strict
from tests.servers import BUCKET, moto
from tests.sources import listing
from tests.storage.building import weather

PARTS = weather(3)
GROUPS: dict[str, xr.Dataset] = {
    "/": PARTS[["t"]],
    "fine": PARTS[["p"]],
    "fine/deep": PARTS[["t", "wet"]],
    "grid": PARTS[["x", "y"]],
    "empty": xr.Dataset(),
}
PROTECTED = ["/", "fine", "fine/deep"]
PLACES = ["_root.gnomon", "fine.gnomon", "fine/deep.gnomon"]


def write(path: Path, groups: Mapping[str, xr.Dataset]) -> Path:
    """Write groups to a Zarr store (v2 if its name begins so) or a file, new or beside others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for group, dataset in groups.items():
            where = None if group == "/" else group
            if path.suffix == ".zarr":
                version: Any = 2 if path.name.startswith("v2") else 3
                dataset.to_zarr(
                    path, group=where, mode="a", zarr_format=version, consolidated=False
                )
            else:
                engine: Any = "h5netcdf" if path.suffix == ".h5" else "netcdf4"
                mode: Any = "a" if path.exists() else "w"
                dataset.to_netcdf(path, group=where, mode=mode, engine=engine)
    return path


def write_icechunk(path: Path) -> Path:
    made = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))
    session = made.writable_session("main")
    for group, dataset in GROUPS.items():
        where = None if group == "/" else group
        dataset.to_zarr(session.store, group=where, mode="a", zarr_format=3, consolidated=False)
    session.commit("written")
    return path


@pytest.fixture(params=["v3.zarr", "v2.zarr", "s.nc", "s.h5", "ice"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A source of every kind that has groups."""
    path = tmp_path / request.param
    return write_icechunk(path) if request.param == "ice" else write(path, GROUPS)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "s.zarr", GROUPS)


def counted() -> xr.Dataset:
    """A group whose times cannot be told, also not by those of the root."""
    return PARTS[["t"]].drop_vars("time").rename(time="own_time")


def test_each_group_with_something_to_protect_has_a_repository(
    source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "f"
    created = gnomon.create_groups(str(folder), str(source))
    assert sorted(created.repositories) == sorted(created.descriptions) == PROTECTED
    assert (created.present, created.failed) == ({}, {})
    assert set(created.left_out) == {"grid", "empty"}
    assert "is empty" in created.left_out["empty"]
    assert "changes with time" in created.left_out["grid"]
    places = gnomon.group_places(str(folder))
    assert places == dict(zip(PROTECTED, [str(folder / p) for p in PLACES], strict=True))
    for group, names in {"/": {"t"}, "fine": {"p"}, "fine/deep": {"t", "wet"}}.items():
        opened = gnomon.open(places[group])
        assert set(opened.status()["variables"]) == names
        assert opened.source()["group"] == (None if group == "/" else group)
        assert not created.descriptions[group].groups
        opened.update()
        with gnomon.open(places[group]).dataset("2000-01-01T02") as state:
            name = min(names)
            expected = xr.decode_cf(GROUPS[group])[name].isel(time=2)
            np.testing.assert_array_equal(state[name].squeeze(), expected)


def test_no_repository_lies_in_another(store: Path) -> None:
    created = gnomon.create_groups("f", str(store))
    for repository in created.repositories.values():
        repository.update()
        inside = Path(repository.path)
        others = [Path(r.path) for r in created.repositories.values() if r is not repository]
        assert not any(other.is_relative_to(inside) for other in others)
        before = listing(*others)
        assert gnomon.open(str(inside)).check(read_data=True).problems == ()
        gnomon.open(str(inside)).prune()
        assert listing(*others) == before


@pytest.mark.parametrize(
    "group", ["..", "a/../b", "_root", "a.gnomon", "a.gnomon/b", "a\\b", "a\n"]
)
def test_a_group_that_cannot_be_a_folder_is_refused(group: str) -> None:
    with pytest.raises(InvalidInput, match="--group"):
        place_of(group)


def test_the_command_line_tells_each_group(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(store, {"counted": counted()})
    code, out, err = run(capsys, "init", "f", str(store), "--group", "all")
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith(
        "gnomon: error: group counted: the dimension 'own_time' is named like time"
    )
    assert "group empty: nothing to protect: it is empty" in out
    assert "group grid: nothing to protect: it has no numeric variable" in out
    for group, place in zip(PROTECTED, PLACES, strict=True):
        assert f"group {group}:\nprotected in {Path('f').absolute() / place}: " in out
    assert "next: gnomon update" in out
    assert sorted(gnomon.group_places("f")) == PROTECTED
    # With what it needs, the group is taken; the others are left as they are.
    before = listing(Path("f/fine.gnomon"))
    start = ("--interval", "1h", "--start", "2000-01-01")
    code, out, err = run(capsys, "init", "f", str(store), "--group", "all", *start)
    assert (code, err) == (0, "")
    assert "group fine: left as it is" in out
    assert "protected in" in out
    assert gnomon.open("f/counted.gnomon").description is None
    assert listing(Path("f/fine.gnomon")) == before


def test_a_dry_run_makes_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("init", "f", str(store), "--group", "all")
    code, out, err = run(capsys, *arguments, "--dry-run")
    assert (code, err) == (0, "")
    assert out.count("taken as") == 3
    assert "dry run: nothing was made" in out
    told = strict(run(capsys, *arguments, "--dry-run", "--json")[1])
    assert not Path("f").exists()
    made = strict(run(capsys, *arguments, "--json")[1])
    assert sorted(made) == ["failed", "folder", "groups", "left_out", "present"]
    assert made["groups"]["fine"]["captures"] == 0
    for group in PROTECTED:
        assert made["groups"][group]["found"] == told["groups"][group]["found"]
        assert made["groups"][group]["found"] == json.loads(
            json.dumps(
                gnomon.describe(str(store), group=None if group == "/" else group).to_json()
                | {"groups": {}, "notes": []}
            )
        )
    assert made["left_out"] == told["left_out"]
    assert set(told["left_out"]) == {"grid", "empty"}
    again = strict(run(capsys, *arguments, "--dry-run", "--json")[1])
    assert (again["groups"], sorted(again["present"])) == ({}, PROTECTED)


def test_a_group_that_is_called_all(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(store, {"all": PARTS[["wet"]]})
    assert run(capsys, "init", "one", str(store), "--group", "/all")[0] == 0
    assert list(gnomon.open("one").status()["variables"]) == ["wet"]
    assert run(capsys, "update", "one")[0] == 0
    assert run(capsys, "init", "f", str(store), "--group", "all")[0] == 0
    assert sorted(gnomon.group_places("f")) == sorted([*PROTECTED, "all"])


def test_options_hold_where_there_is_such_a_thing(store: Path) -> None:
    write(store, {"other": PARTS[["p"]].rename(x="lon")})
    created = gnomon.create_groups(
        "f",
        str(store),
        variables=["p"],
        time="time",
        chunks={"lon": 5, "y": 3},
        tolerances={"p": 2.0},
    )
    assert sorted(created.repositories) == ["fine", "other"]
    assert set(created.left_out) == {"/", "fine/deep", "grid", "empty"}
    assert "named" in created.left_out["fine/deep"]
    chunks = {g: d.variables[0].chunks for g, d in created.descriptions.items()}
    assert chunks == {"fine": (3, 10), "other": (3, 5)}
    again = gnomon.create_groups("f", str(store), variables=["t"])
    assert (sorted(again.repositories), sorted(again.present)) == (
        ["/", "fine/deep"],
        ["fine", "other"],
    )
    assert sorted(gnomon.group_places("f")) == [*PROTECTED, "other"]


@pytest.mark.parametrize(
    "options",
    [{"variables": ["p", "q"]}, {"chunks": {"q": 2}}, {"tolerances": {"q": 1.0}}, {"time": "q"}],
)
def test_what_no_group_has_is_refused(store: Path, options: Any) -> None:
    with pytest.raises(NotFound, match=r"no group .* 'q'; they have"):
        gnomon.create_groups("f", str(store), **options)
    assert not Path("f").exists()


def test_nothing_is_made_where_there_is_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "s.zarr", {"grid": PARTS[["x"]], "empty/below": xr.Dataset()})
    code, _, err = run(capsys, "init", str(tmp_path / "f"), str(source), "--group", "all")
    assert code == 2
    assert "has anything to protect (/: it has no variables, only groups; " in err
    assert not (tmp_path / "f").exists()


def test_where_every_group_fails_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "s.zarr", {"a": counted(), "b": counted()})
    code, out, err = run(
        capsys, "init", str(tmp_path / "f"), str(source), "--group", "all", "--json"
    )
    assert code == 2
    assert len(err.splitlines()) == 2
    assert set(strict(out)["failed"]) == {"a", "b"}
    assert not (tmp_path / "f").exists()


def test_files_without_groups_have_a_root(tmp_path: Path) -> None:
    PARTS[["t"]].to_netcdf(tmp_path / "s.nc", format="NETCDF3_64BIT")
    for engine in (None, "scipy"):
        folder = str(tmp_path / f"{engine}")
        created = gnomon.create_groups(folder, str(tmp_path / "s.nc"), engine=engine)
        assert list(created.repositories) == ["/"]


def test_many_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    PARTS[["t"]].to_netcdf(tmp_path / "many" / "a.nc")
    with pytest.raises(InvalidInput, match=r"many files.*--group"):
        gnomon.create_groups(str(tmp_path / "f"), str(tmp_path / "many"))


def test_a_new_group_is_told_and_taken(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gnomon.create_groups("f", str(store))
    told = strict(run(capsys, "update", "f", "--json")[1])
    assert told["unprotected"] == []
    assert told["folder"] == str(Path("f").absolute())
    write(store, {"late": PARTS[["wet"]], "grid": PARTS[["p"]]})
    told = strict(run(capsys, "update", "f", "--json")[1])
    assert sorted(told["unprotected"]) == ["grid", "late"]
    code, out, _ = run(capsys, "update", "f")
    assert code == 0
    assert "not protected: groups of the source without a repository: " in out
    created = gnomon.create_groups("f", str(store))
    assert sorted(created.repositories) == ["grid", "late"]
    assert sorted(created.present) == PROTECTED
    assert strict(run(capsys, "update", "f", "--json")[1])["unprotected"] == []


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("done", [0, 1, 2])
@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_a_run_that_was_killed_is_finished_by_the_next(
    store: Path, monkeypatch: pytest.MonkeyPatch, done: int, moment: str
) -> None:
    kept = Repository.create.__func__, Log.append  # type: ignore[attr-defined]
    calls = 0

    def create(cls: Any, *arguments: Any) -> Repository:
        nonlocal calls
        calls += 1
        if calls <= done:
            made: Repository = kept[0](cls, *arguments)
            return made
        if moment == "within":
            monkeypatch.setattr(Log, "append", kill)
        if moment != "before":
            kept[0](cls, *arguments)
        raise Killed

    def kill(*_: Any) -> Any:
        raise Killed

    monkeypatch.setattr(Repository, "create", classmethod(create))
    with pytest.raises(Killed):
        gnomon.create_groups("f", str(store))
    monkeypatch.undo()
    monkeypatch.chdir(store.parent)
    assert Path("f", INDEX).exists()
    created = gnomon.create_groups("f", str(store))
    assert len(created.present) == done + (moment == "after")
    assert sorted([*created.present, *created.repositories]) == PROTECTED
    assert created.failed == {}
    for place in gnomon.group_places("f").values():
        assert gnomon.open(place).check(read_data=True).problems == ()


def test_what_is_no_half_made_repository_is_left_alone(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gnomon.create_groups("f", str(store))
    gnomon.open("f/fine.gnomon").update()
    for folder in ("log", "copies/log"):
        shutil.rmtree(f"f/fine.gnomon/{folder}")
    shutil.rmtree("f/fine/deep.gnomon")
    Path("f/fine/deep.gnomon").mkdir()
    Path("f/fine/deep.gnomon/mine.txt").write_text("mine")
    before = listing(Path("f/fine.gnomon"), Path("f/fine/deep.gnomon"))
    code, out, err = run(capsys, "init", "f", str(store), "--group", "all", "--json")
    assert code == 5
    failed = strict(out)["failed"]
    assert {g: f["exit_code"] for g, f in failed.items()} == {"fine": 5, "fine/deep": 4}
    assert len(err.splitlines()) == 2
    assert listing(Path("f/fine.gnomon"), Path("f/fine/deep.gnomon")) == before
    assert "fine" in gnomon.group_places("f")


def test_a_folder_that_only_looks_like_half_of_a_repository_is_left_alone(store: Path) -> None:
    mine = Path("f/fine.gnomon/frame/mine.txt")
    gnomon.create_groups("f", str(store))
    shutil.rmtree("f/fine.gnomon")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    created = gnomon.create_groups("f", str(store))
    assert isinstance(created.failed["fine"], Conflict)
    assert mine.read_text() == "mine"


def test_a_group_whose_repository_was_removed_with_it_is_named_no_longer(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gnomon.create_groups("f", str(store))
    shutil.rmtree(store / "fine")
    shutil.rmtree("f/fine.gnomon")
    assert run(capsys, "update", "f")[0] == 3
    assert set(gnomon.create_groups("f", str(store)).present) == {"/"}
    # That of the other group holds captures, and is kept as long as nobody removes it.
    assert list(gnomon.group_places("f")) == ["/", "fine/deep"]


def test_a_folder_with_something_else_is_refused(store: Path) -> None:
    Path("f").mkdir()
    Path("f/notes.txt").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        gnomon.create_groups("f", str(store))
    gnomon.create_groups("g", str(store))
    other = write(store.parent / "other.zarr", {**GROUPS, "new": PARTS[["t"]]})
    before = listing(Path("g"))
    with pytest.raises(Conflict, match=r"protects .*s\.zarr, not .*other\.zarr"):
        gnomon.create_groups("g", str(other))
    assert listing(Path("g")) == before
    with pytest.raises(InvalidInput, match="inside the source"):
        gnomon.create_groups(str(store / "f"), str(store))


def test_one_damaged_repository_stops_no_other(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gnomon.create_groups("f", str(store))
    shutil.rmtree("f/fine.gnomon")
    for name in ("gnomon.json", "copies/gnomon.json"):
        Path("f/fine/deep.gnomon", name).write_text("{")
    code, out, err = run(capsys, "update", "f")
    assert code == 5
    assert [line.split(":")[2] for line in err.splitlines()[-2:]] == [
        " group fine",
        " group fine/deep",
    ]
    assert "group /: " in out
    assert "captured 3: " in out
    assert len(gnomon.open("f/_root.gnomon").captures()) == 3
    for command in ("update", "status"):
        code, out, err = run(capsys, command, "f", "--json")
        told = strict(out)
        assert code == 5
        assert list(told["groups"]) == ["/"]
        assert {g: f["exit_code"] for g, f in told["failed"].items()} == {
            "fine": 3,
            "fine/deep": 5,
        }
    shutil.rmtree("f/fine/deep.gnomon")
    assert run(capsys, "status", "f")[0] == 3


def test_a_source_that_is_gone_fails_each_group(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gnomon.create_groups("f", str(store))
    store.rename("gone.zarr")
    code, out, err = run(capsys, "update", "f", "--json")
    assert code == 3
    assert set(strict(out)["failed"]) == set(PROTECTED)
    assert "cannot be listed" in strict(out)["notes"][0]
    assert len([line for line in err.splitlines() if line.startswith("gnomon: error: ")]) == 3
    code, out, _ = run(capsys, "status", "f")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["group", *PROTECTED]


def test_data_docs_of_groups_do_not_replace_each_other(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gnomon.create_groups("f", str(store))
    assert run(capsys, "update", "f", "--docs", "docs")[0] == 0
    for name in ("_root", "fine", "fine/deep"):
        assert Path("docs", name, "index.html").exists()


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "backfill": lambda f: ["backfill", f],
    "add": lambda f: ["add", f, "t"],
    "anomalies": lambda f: ["anomalies", f],
    "captures": lambda f: ["captures", f],
    "check": lambda f: ["check", f],
    "diff": lambda f: ["diff", f, "0", "1"],
    "forget": lambda f: ["forget", f, "--keep-last", "1"],
    "points": lambda f: ["points", f, "--at", "2000"],
    "prune": lambda f: ["prune", f],
    "repair": lambda f: ["repair", f],
    "restore": lambda f: ["restore", f, "--at", "2000", "--to", "x.zarr"],
    "rules": lambda f: ["rules", f],
    "source": lambda f: ["source", f],
    "stats": lambda f: ["stats", f],
    "tag": lambda f: ["tag", f, "--capture", "0", "--add", "a"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_other_commands_name_the_repositories(
    store: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    gnomon.create_groups("f", str(store))
    before = listing(Path("f"))
    code, out, err = run(capsys, *COMMANDS[command]("f"))
    (line,) = err.splitlines()
    assert (code, out) == (3, "")
    assert line.endswith(f"name one of {', '.join(PLACES)} in it")
    assert listing(Path("f")) == before


def test_a_folder_that_is_neither_is_told_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("update", "status"):
        code, _, err = run(capsys, command, str(tmp_path))
        assert code == 3
        assert "is not a Gnomon repository (no gnomon.json)" in err
    with pytest.raises(NotFound, match="--group all"):
        gnomon.group_places(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", 5),
        ('{"version": 2, "groups": [], "passed_over": {}}', 7),
        ('{"version": 1, "groups": ["../../else"], "passed_over": {}}', 5),
    ],
)
def test_an_index_that_cannot_be_believed(
    store: Path, capsys: pytest.CaptureFixture[str], text: str, code: int
) -> None:
    gnomon.create_groups("f", str(store))
    Path("f", INDEX).write_text(text)
    assert run(capsys, "update", "f")[0] == code
    assert run(capsys, "init", "f", str(store), "--group", "all")[0] == (7 if code == 7 else 0)
    if code != 7:
        assert sorted(gnomon.group_places("f")) == PROTECTED


def test_a_name_that_no_folder_can_have_is_one_line(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(store.with_name("s.h5"), {"a\nb": PARTS[["t"]], "c": PARTS[["t"]]})
    code, out, err = run(capsys, "init", "f", "s.h5", "--group", "all")
    assert code == 2
    (line,) = err.splitlines()
    assert "group 'a\\nb': the name of the group, 'a\\nb', cannot be that of a folder" in line
    assert "protected in" in out


def test_an_array_that_cannot_be_read_stops_no_other_group(store: Path) -> None:
    (store / "fine" / "p" / "zarr.json").write_text("{")
    created = gnomon.create_groups("f", str(store))
    assert sorted(created.repositories) == ["/", "fine/deep"]
    assert list(created.failed) == ["fine"]


@pytest.mark.parametrize("name", ["v3.zarr", "v2.zarr"])
def test_damage_in_a_group_hides_none_of_those_within_it(tmp_path: Path, name: str) -> None:
    store = write(tmp_path / name, GROUPS)
    metadata = "zarr.json" if name.startswith("v3") else ".zarray"
    for array in ("t", "fine/p"):
        (store / array / metadata).write_text("{")
    created = gnomon.create_groups(str(tmp_path / "f"), str(store))
    assert list(created.repositories) == ["fine/deep"]
    assert sorted(created.failed) == ["/", "fine"]
    assert set(created.left_out) == {"grid", "empty"}


def test_source_and_folder_may_be_in_a_bucket(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with moto() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        bucket = server.store()
        for path in store.rglob("*"):
            if path.is_file():
                obstore.put(bucket, f"far/{path.relative_to(store)}", path.read_bytes())
        source, folder = f"s3://{BUCKET}/far", f"s3://{BUCKET}/folder"
        created = gnomon.create_groups(folder, source, chunks={"x": 5})
        assert sorted(created.repositories) == PROTECTED
        assert set(created.left_out) == {"grid", "empty"}
        code, out, _ = run(capsys, "update", folder, "--json")
        assert code == 0
        reports = strict(out)["groups"]
        assert {g: len(r["captured"]) for g, r in reports.items()} == dict.fromkeys(PROTECTED, 3)
        assert sorted(gnomon.create_groups(folder, source).present) == PROTECTED
        code, _, err = run(capsys, "check", folder)
        assert (code, "name one of _root.gnomon, " in err) == (3, True)


def tree(steps: int) -> xr.DataTree:
    """A tree whose coordinates stand once, at its root."""
    dataset = weather(steps).drop_vars("x")
    deep = dataset[["p"]]
    return xr.DataTree.from_dict(
        {"/": dataset[["time", "y"]], "/fine": dataset[["t"]], "/fine/deep": deep}
    )


@pytest.mark.parametrize("name", ["v3.zarr", "v2.zarr", "s.nc"])
def test_coordinates_of_groups_above_are_those_of_a_group(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = tmp_path / name, str(tmp_path / "f")

    def put(steps: int) -> None:
        if name.endswith(".nc"):
            tree(steps).to_netcdf(source)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                version: Any = int(name[1])
                tree(steps).to_zarr(source, mode="w", zarr_format=version)

    put(3)
    created = gnomon.create_groups(folder, str(source))
    assert sorted(created.repositories) == ["fine", "fine/deep"]
    assert list(created.left_out) == ["/"]
    assert created.failed == {}
    told = created.descriptions["fine/deep"]
    assert told.time is not None
    assert (told.time.first, told.time.last) == ("2000-01-01T00:00:00", "2000-01-01T02:00:00")
    assert set(told.fixed) == {"y"}
    for count, steps in ((3, 3), (1, 4), (0, 4)):
        put(steps)
        reports = strict(run(capsys, "update", folder, "--json")[1])["groups"]
        assert [len(report["captured"]) for report in reports.values()] == [count, count]
    with gnomon.open(created.repositories["fine"].path).dataset("2000-01-01T03") as state:
        np.testing.assert_array_equal(state.t.squeeze(), weather(4).t.isel(time=3))
        np.testing.assert_array_equal(state.y, weather(4).y)


def test_an_append_that_has_not_reached_the_times_yet(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    write(source, {"/": PARTS[["time", "y"]], "a": weather(4)[["t"]].drop_vars(["time", "y", "x"])})
    write(source, {"b": weather(2)[["t"]].drop_vars(["time", "y", "x"])})
    write(source, {"c": weather(3)[["t"]].isel(y=slice(0, 5)).drop_vars(["time", "y", "x"])})
    created = gnomon.create_groups(str(tmp_path / "f"), str(source))
    steps = {g: d.time.steps for g, d in created.descriptions.items() if d.time is not None}
    assert steps == {"a": 3, "b": 2, "c": 3}
    assert {g: set(d.fixed) for g, d in created.descriptions.items()} == {
        "a": {"y"},
        "b": {"y"},
        "c": set(),
    }
    assert "'time' has 3 values in a group above, and 4 here" in created.descriptions["a"].notes[-1]
    assert not any("above" in note for note in created.descriptions["c"].notes)


def test_an_object_store_is_a_folder_too(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = "memory://groups"
    created = gnomon.create_groups(folder, str(store))
    assert sorted(created.repositories) == PROTECTED
    assert GroupFolder.open(folder) is not None
    told = strict(run(capsys, "update", folder, "--json")[1])
    assert {g: len(r["captured"]) for g, r in told["groups"].items()} == dict.fromkeys(PROTECTED, 3)
    assert sorted(gnomon.create_groups(folder, str(store)).present) == PROTECTED
    assert run(capsys, "points", folder, "--at", "2000")[0] == 3
