"""Checks that a package registers, and those in a file of the user's own: all runs have them."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gnomon import Chunk
from gnomon.cli import app
from gnomon.flows import registered, steps
from gnomon.flows.cluster import Workers
from gnomon.flows.cycle import Cycle
from gnomon.flows.outbox import Outbox
from gnomon.flows.registered import checks_in_use
from gnomon.flows.settings import Settings
from gnomon.storage.checks.captures import CAPTURE_CHECKS
from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import SUSPECT
from gnomon.tasks.work import serial
from tests.cases import HISTORY, Case
from tests.flows.test_added_checks import check_of, column, repeating
from tests.gnomon.test_cli import run
from tests.packages import Install, installing

# Registered by a package ---------------------------------------------------------------------

PACKAGE = """
import numpy as np
from gnomon import Check, Statistic

def repeated(chunk):
    known = chunk.values[np.isfinite(chunk.values)]
    if known.size < 4:
        return np.nan
    return np.unique(known, return_counts=True)[1].max() / known.size

checks = [
    Check("not_repeated", Statistic("repeated", "1", "commonest", measure=repeated),
          "critical", "One value stands in many cells.", maximum=0.4)
]
taken = Check("plausible", checks[0].statistic, "warning", "no", maximum=1)
twice = [taken, Check("sound", checks[0].statistic, "warning", "no", maximum=1), *checks]
"""
POINTS = """[gnomon.checks]
a = repeats:checks
b = repeats:taken
c = repeats:nowhere
d = absent_package:checks
e = repeats:repeated
f = repeats:twice
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution that registers one check, and things that cannot be one."""
    folder = tmp_path / "site"
    about = folder / "repeats-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "repeats.py").write_text(PACKAGE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: repeats\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))  # of Dask workers
    registered._points.cache_clear()
    yield folder
    registered._points.cache_clear()
    sys.modules.pop("repeats", None)


def test_a_registered_check_is_made_and_what_cannot_be_is_told(
    package: Path, grown: Case, caplog: pytest.LogCaptureFixture
) -> None:
    repeating(grown)
    done = CliRunner().invoke(app, ["update", str(grown.place)])
    assert done.exit_code == 0, done.output
    assert "not_repeated" in done.output
    for name, reason in (
        ("b", "plausible already"),
        ("c", "AttributeError"),
        ("d", "ModuleNotFoundError"),
        ("e", "no check"),
        ("f", "plausible already; choose another name; there is a check not_repeated already"),
    ):
        (line,) = [x for x in done.output.splitlines() if x.startswith(f"warning: check {name} ")]
        assert reason in line
    assert sum("check failed" in r.getMessage() for r in caplog.records) == 5
    assert (Repository.open(str(grown.place)).captures("sst").status(HISTORY) == SUSPECT).sum() == 1


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs a package with checks."""
    registered._points.cache_clear()
    with installing(tmp_path / "site", monkeypatch, "gnomon.checks") as install:
        yield install
    registered._points.cache_clear()


MAKER = """
from gnomon import Check, Statistic

def check(name, statistic, of=len):
    return Check(name, Statistic(statistic, "1", "m", measure=of), "warning", "r", maximum=1)
"""


def test_a_name_of_two_packages_is_nobodys_and_the_others_are_made(install: Install) -> None:
    ours = 'checks = [check("a", "a"), check("b", "b"), check("c", "c"), check("own", "own")]'
    theirs = 'checks = (check("a", "x"), check("y", "b", max), check("c", "c"))'
    install("ours", MAKER + ours, "checks = ours:checks")
    install("theirs", MAKER + theirs, "theirs = theirs:checks")
    in_use = checks_in_use()
    assert {check.name for check in in_use.checks} == {"c", "own"}
    both = ("ours (ours:checks)", "theirs (theirs:checks)")
    for reason in in_use.failures.values():
        assert all(package in reason for package in both)
        assert len(reason.splitlines()) == 1
    assert "check a" in in_use.failures["theirs"]
    assert "statistic b" in in_use.failures["checks"]


def test_an_entry_point_is_a_check_or_makes_checks(install: Install) -> None:
    code = """
one = check("one", "one")
def two(): return check("two", "two")
class Several(list):
    def __init__(self): super().__init__([check("three", "three"), "no check"])
def broken(): raise OSError("no disk")
"""
    entries = ["a = ours:one", "b = ours:two", "c = ours:Several", "d = ours:broken"]
    install("ours", MAKER + code, *entries)
    in_use = checks_in_use()
    assert [check.name for check in in_use.checks] == ["one", "two", "three"]
    assert in_use.failures["c"] == "a str is no check; give a gnomon.Check"
    assert "OSError: no disk" in in_use.failures["d"]


def test_the_one_that_is_registered_may_be_given_too(package: Path) -> None:
    import repeats  # type: ignore[import-not-found]

    in_use = checks_in_use(repeats.checks)
    assert [check.name for check in in_use.checks] == ["not_repeated", "sound"]


def test_rules_list_the_checks_in_use(package: Path, grown: Case) -> None:
    printed = CliRunner().invoke(app, ["rules", str(grown.place)])
    assert printed.exit_code == 0, printed.output
    for name in (*(check.name for check in CAPTURE_CHECKS), "not_repeated"):
        assert name in printed.output
    assert "warning: check d is not made" in printed.output


def test_the_checks_of_a_package_are_made_on_dask_workers(package: Path, grown: Case) -> None:
    """So is a function of this process, by value; one that a worker cannot have fails alone."""

    def lives_here(chunk: Chunk) -> float:
        return float(chunk.index[0])

    lock = threading.Lock()
    repeating(grown)
    given = [
        check_of(lives_here, "here", maximum=9),
        check_of(lambda _: float(lock.locked()), "locked", maximum=9),
    ]
    place = str(grown.place.absolute())
    with Workers(Settings(workers=1)) as workers:

        def call(step: Callable[..., Any], /, *arguments: Any) -> Any:
            if step not in steps.ON_CHUNKS:
                return step(*arguments)
            return step(*arguments, mapper=workers.mapper if step is steps.capture else serial)

        report = Cycle(place, Settings(), call, Outbox(place, {}), checks_in_use(given)).run()
    assert [i["expectations"] for i in report.incidents] == [["not_repeated"]]
    stored = Repository.open(place)
    assert column(stored, HISTORY, "here").tolist() == [[0.0] * 3, [1.0] * 3]
    assert np.isnan(column(stored, HISTORY, "locked")).all()
    assert "cannot be sent to a worker" in report.failed_checks["not_locked"]


# In a file of the user's own -----------------------------------------------------------------


FILE = f"""
from __future__ import annotations
from dataclasses import dataclass
{PACKAGE}
@dataclass
class Limit:
    least: float = 0.4

limit = Limit()

def above(chunk):
    return repeated(chunk) - limit.least

del taken, twice
listed = [*checks, Check("not_above", Statistic("above", "1", "more", measure=above),
          "warning", "It is more.", maximum=0)]
"""


@pytest.fixture
def file(grown: Case) -> Path:
    path = grown.folder / "my_checks.py"
    path.write_text(FILE)
    return path


NAMES = ["not_above", "not_repeated"]


def test_what_the_code_of_others_prints_is_no_part_of_the_result(
    grown: Case,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file.write_text(
        FILE.replace("def above(chunk):", "print('read')\ndef above(chunk):\n    print('here')")
    )
    repeating(grown)
    code, out, err = run(capsys, "update", "repository", "--checks", str(file), "--json")
    assert code == 0
    assert json.loads(out)["incidents"][0]["expectations"] == NAMES
    assert "read" in err
    assert "here" in err
    monkeypatch.setenv("GNOMON_CHECKS", str(file))
    code, out, err = run(capsys, "rules", "repository", "--json")
    assert code == 0
    assert {check["name"] for check in json.loads(out)["checks"]} >= set(NAMES)
    assert "read" in err


def test_a_file_of_checks_on_the_command_line(
    grown: Case, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeating(grown)
    done = CliRunner().invoke(app, ["update", str(grown.place), "--checks", str(file), "--json"])
    assert done.exit_code == 0, done.output
    (incident,) = json.loads(done.stdout)["incidents"]
    assert incident["expectations"] == NAMES
    monkeypatch.setenv("GNOMON_CHECKS", "my_checks.py")
    printed = CliRunner().invoke(app, ["rules", str(grown.place)])
    assert all(name in printed.output for name in NAMES)


def test_a_file_of_checks_in_settings_reaches_other_processes(grown: Case, file: Path) -> None:
    """As parameters of a deployment say it; the worker has no such module."""
    repeating(grown)
    settings = Settings(**json.loads(Settings(checks=file, workers=1).model_dump_json()))
    place = str(grown.place.absolute())
    with Workers(settings) as workers:

        def call(step: Callable[..., Any], /, *arguments: Any) -> Any:
            if step not in steps.ON_CHUNKS:
                return step(*arguments)
            return step(*arguments, mapper=workers.mapper if step is steps.capture else serial)

        in_use = checks_in_use(file=settings.checks)
        report = Cycle(place, settings, call, Outbox(place, {}), in_use).run()
    assert report.failed_checks == {}
    assert [i["expectations"] for i in report.incidents] == [NAMES]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read: No such file"),
        ("def (", r"cannot be run \(SyntaxError"),
        ("import nobody_has_this", "cannot be run .*ModuleNotFoundError"),
        ("raise SystemExit(0)", "cannot be run .*SystemExit"),
        ("import gnomon\ngnomon.Check('x', 3, 'critical', 'r', maximum=1)", "has no statistic"),
        ("x = 1", "has no gnomon.Check at its top level"),
        (FILE.replace('"not_repeated"', '"plausible"'), "a check plausible already"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_any_work(
    grown: Case, text: str | None, reason: str
) -> None:
    grown.arrive(HISTORY, HISTORY + 1)
    file = grown.folder / "odd.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidInput, match=reason) as caught:
        grown.open().update(settings=Settings(checks=file))
    assert len(str(caught.value).splitlines()) == 1
    assert len(grown.open().stored.captured) == HISTORY


def test_two_files_of_checks_do_not_look_into_each_other(tmp_path: Path) -> None:
    """What their functions find at the top level is that of their own file, each time."""
    code = """
from gnomon import Check, Statistic
LIMIT = {limit}
def tell(chunk):
    return float(LIMIT)
told = Check("told", Statistic("told", "1", "m", measure=tell), "warning", "r", maximum=9)
"""
    used = []
    for limit in (3, 5):
        file = tmp_path / f"{limit}.py"
        file.write_text(code.format(limit=limit))
        (check,) = checks_in_use(file=file).checks
        used.append(check)
    for check, limit in zip(used, (3, 5), strict=True):
        function = check.statistic.measure
        assert function is not None
        module = sys.modules[function.__module__]
        assert limit == module.LIMIT
        assert function(None) == limit  # type: ignore[arg-type]


def test_checks_may_be_in_any_collection(install: Install) -> None:
    install("ours", MAKER + 'checks = dict(a=check("a", "a")).values()', "checks = ours:checks")
    assert [check.name for check in checks_in_use().checks] == ["a"]
