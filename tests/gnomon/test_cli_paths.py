"""A path that a user gave, and an output that is closed, are not failures of a store."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import sources
from tests.cases import HISTORY, Case
from tests.gnomon.test_cli import run

OPTIONS: dict[str, list[str]] = {
    "--docs": ["update", "repository", "--docs"],
    "--alerts": ["update", "repository", "--alerts"],
    "--to": ["restore", "repository", "--at", "2001-01-05", "--to"],
    "--plot": ["hindcast", "source.zarr", "--variable", "sst", "--plot"],
    "--folder": ["demo", "--folder"],
}
"""Every option of a path that is written, with a command that takes it."""
ENDINGS = {"--to": ".zarr", "--plot": ".png"}
PLACES: dict[str, str] = {
    "below a file": "notes.txt/x",
    "name too long": "n" * 300,
    "null": "a\0b",
}


@pytest.fixture
def busy(grown: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A case with something to capture, where long work would be noticed."""
    (grown.folder / "notes.txt").write_text("mine")
    grown.arrive(HISTORY, HISTORY + 1)

    def work(*_arguments: object, **_options: object) -> None:
        raise AssertionError("the path was not checked before the work")

    for name in ("gnomon.flows.steps.plan", "gnomon.hindcasting.hindcast"):
        monkeypatch.setattr(name, work)
    for name in ("gnomon.demo.load_ostia", "gnomon.tasks.restoring.targets.zarr.ZarrTarget.create"):
        monkeypatch.setattr(name, work)
    return grown


def check_blame(
    capsys: pytest.CaptureFixture[str], arguments: list[str], option: str, place: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert err.startswith("gnomon: error: "), err
    assert err.count("\n") == 1, err
    assert option in err
    assert place.partition("\0")[0][-40:] in err
    assert "store" not in err.replace(place, "")
    assert (code, out) == (2 if "does not exist" not in err else 3, "")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", PLACES)
def test_a_path_is_checked_before_the_work(
    capsys: pytest.CaptureFixture[str], busy: Case, option: str, kind: str
) -> None:
    place = PLACES[kind] + ENDINGS.get(option, "")
    before = sources.listing(busy.folder)
    check_blame(capsys, [*OPTIONS[option], place], option, place)
    assert sources.listing(busy.folder) == before


@pytest.mark.parametrize(("option", "place"), [("--docs", "notes.txt"), ("--folder", "notes.txt")])
def test_a_file_is_no_folder(
    capsys: pytest.CaptureFixture[str], busy: Case, option: str, place: str
) -> None:
    check_blame(capsys, [*OPTIONS[option], place], option, place)


@pytest.mark.parametrize(
    "inner",
    ["store", "store/expectations", "store/results", "expectations", "validations", "static"],
)
def test_what_is_in_the_way_within_the_docs_is_told_before_the_work(
    capsys: pytest.CaptureFixture[str], busy: Case, inner: str
) -> None:
    place = busy.folder / "site" / inner
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    check_blame(capsys, [*OPTIONS["--docs"], "site"], "--docs", f"site/{inner}")


def test_a_name_that_a_file_system_takes_is_taken(
    capsys: pytest.CaptureFixture[str], grown: Case
) -> None:
    """The hidden name of a dataset in the making is no longer than others."""
    for name in ("n" * 250 + ".zarr", "ü" * 125 + ".zarr"):
        assert run(capsys, *OPTIONS["--to"], name)[0] == 0
        assert (grown.folder / name).is_dir()
    assert not [p for p in grown.folder.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("option", ["--alerts", "--plot"])
def test_a_folder_is_no_file(capsys: pytest.CaptureFixture[str], busy: Case, option: str) -> None:
    place = "taken" + ENDINGS.get(option, "")
    (busy.folder / place).mkdir()
    check_blame(capsys, [*OPTIONS[option], place], option, place)


@pytest.mark.parametrize("name", ["DOCS", "ALERTS"])
def test_the_environment_is_checked_as_well(
    capsys: pytest.CaptureFixture[str], busy: Case, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"GNOMON_{name}", "notes.txt/x")
    check_blame(capsys, ["update", "repository"], f"GNOMON_{name}", "notes.txt/x")


def test_a_place_without_permission(
    capsys: pytest.CaptureFixture[str], busy: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = busy.folder / "closed"
    refused.mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != refused and real(p, mode))
    for option, arguments in OPTIONS.items():
        place = f"closed/x{ENDINGS.get(option, '')}"
        check_blame(capsys, [*arguments, place], option, place)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_url_is_no_path(capsys: pytest.CaptureFixture[str], busy: Case, option: str) -> None:
    before = sources.listing(busy.folder)
    place = f"s3://AKIA:PASSWORD@bucket/x{ENDINGS.get(option, '')}"
    code, out, err = run(capsys, *OPTIONS[option], place)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert option.strip("-") in err or "restore" in err
    assert "PASSWORD" not in err
    assert sources.listing(busy.folder) == before


WRITERS: dict[str, tuple[list[str], str]] = {
    "restore --to": (OPTIONS["--to"], "x.zarr"),
    "restore --to, a file": (OPTIONS["--to"], "x.nc"),
    "restore --to, Icechunk": (OPTIONS["--to"], "x.icechunk"),
    "restore --preview": ([*OPTIONS["--to"][:-1], "--in-place", "--preview"], "x.png"),
    "export --to": (["export", "repository", "--shadow", "--to"], "x.zarr"),
    "simulate --to": (["simulate", "repository", "--members", "2", "--to"], "x.zarr"),
    "points --plot": (["points", "repository", "--plot"], "x.png"),
    "diff --plot": (["diff", "repository", "2001-01-05", "2001-01-06", "--plot"], "x.png"),
    "hindcast --plot": ([*OPTIONS["--plot"][:-1], "--origins", "2", "--plot"], "x.png"),
    "update --docs": (OPTIONS["--docs"], "x"),
    "update --alerts": (OPTIONS["--alerts"], "x"),
    "init": (["init"], "x"),
}
"""Commands that write what a user names, without the path, and the end of that."""


@pytest.mark.parametrize("command", WRITERS)
def test_missing_folders_above_what_is_written_are_made(
    capsys: pytest.CaptureFixture[str], grown: Case, command: str
) -> None:
    wrong = grown.data.copy(deep=True)
    wrong.sst.values[HISTORY, :4, :4] += np.float32(20)  # or there is no alert
    sources.write(grown.source, wrong, HISTORY, HISTORY + 1)
    arguments, name = WRITERS[command]
    place = grown.folder / "new" / "folder" / name
    source = [str(grown.source)] if command == "init" else []
    code, _, err = run(capsys, *arguments, str(place), *source)
    assert code in {0, 1}, err
    assert place.exists(), err


@pytest.mark.parametrize("name", ["x.zarr", "x.nc"])
def test_folders_that_a_failed_restore_made_go_again(
    capsys: pytest.CaptureFixture[str],
    grown: Case,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (grown.folder / "there").mkdir()
    monkeypatch.setattr("gnomon.tasks.restoring.targets.file.force_tree", _full)
    assert run(capsys, *OPTIONS["--to"], f"there/new/folder/{name}")[0] != 0
    assert not list((grown.folder / "there").iterdir())


def test_a_picture_has_an_ending(capsys: pytest.CaptureFixture[str], busy: Case) -> None:
    check_blame(capsys, [*OPTIONS["--plot"], "x.zarr"], "--plot", "x.zarr")


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full(*_arguments: Any, **_options: Any) -> None:
    raise FULL


@pytest.mark.parametrize(
    ("option", "writer"),
    [
        ("--docs", "great_expectations.get_context"),
        ("--docs", "great_expectations.Checkpoint.run"),
        # Great Expectations swallows these two.
        ("--docs", "great_expectations.data_context.store.html_site_store.HtmlSiteStore.set"),
        ("--docs", "great_expectations.render.view.DefaultJinjaIndexPageView.render"),
        ("--to", "gnomon.tasks.restoring.targets.zarr._opened"),
        ("--to", "os.rename"),
        ("--plot", "matplotlib.figure.Figure.savefig"),
        ("--folder", "pathlib.Path.touch"),
    ],
)
def test_a_disk_that_fills_up_names_the_path(
    capsys: pytest.CaptureFixture[str],
    grown: Case,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    writer: str,
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    place = "new" + ENDINGS.get(option, "")
    if option == "--plot":
        from gnomon.hindcasting import hindcast

        report = hindcast("source.zarr", "sst", origins=1, leads=1)
        monkeypatch.setattr("gnomon.hindcasting.hindcast", lambda *_a, **_k: report)
    monkeypatch.setattr(writer, _full)
    check_blame(capsys, [*OPTIONS[option], place], option, place)


# An output that is closed. ---------------------------------------------------------------------


def piped(grown: Case, command: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        ["bash", "-c", command],
        cwd=grown.folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(root), "PYTHON": sys.executable},
    )


@pytest.mark.parametrize("form", ["", "--json"])
@pytest.mark.parametrize(
    ("pipe", "code", "said"),
    [
        (" | true; exit ${PIPESTATUS[0]}", 141, ""),
        (" > /dev/full", 2, "gnomon: error: cannot write to standard output: "),
        (" >&-", 0, ""),
        (" 2>&- | cat >/dev/null; exit ${PIPESTATUS[0]}", 0, ""),
    ],
    ids=["reader gone", "full", "closed", "errors closed"],
)
def test_an_output_that_takes_nothing(
    grown: Case, form: str, pipe: str, code: int, said: str
) -> None:
    done = piped(grown, f'"$PYTHON" -m gnomon captures repository {form}{pipe}')
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said), done.stderr


def test_an_unforeseen_failure_of_a_file_names_it(
    capsys: pytest.CaptureFixture[str], grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/else")

    monkeypatch.setattr("gnomon.flows.steps.plan", fail)
    code, _, err = run(capsys, "update", "repository")
    assert (code, err.count("\n")) == (6, 1)
    assert "Permission denied: /somewhere/else" in err
