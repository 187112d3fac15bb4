"""A repository that somebody made for others to open: refused in a line, and in seconds."""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gnomon
from gnomon.storage.errors import Format, GnomonError, Integrity
from gnomon.storage.repository import _OPENED
from tests.cases import Case
from tests.storage.hostile import NASTY, Forge, Mutation

SECONDS = 60
"""Far more than anything takes, on a machine that does much else."""
MEMORY = 6 << 30
TIMES = ("2001-01-24", "2001-01-25", "2001-01-26")


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def stop(_number: int, _frame: object) -> None:
        pytest.fail(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_points(opened: Any, at: str) -> None:
    for point in opened.points(at):
        json.dumps(point.to_json(), allow_nan=False)
        assert point.confidence is None or 0 <= point.confidence <= 1
        assert all(e is None or 0 <= e < np.inf for e in point.expected_error.values())


def questions(place: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what may be asked of a repository, in order."""
    box: dict[str, Any] = {}

    def opening() -> None:
        _OPENED.clear()
        box["r"] = gnomon.open(str(place))

    def asking(at: str) -> None:
        check_points(box["r"], at)

    def loading(at: str) -> None:
        found = box["r"].dataset(at, accept_predicted=True, marks=True).load()
        error = found.sst_standard_error.values
        assert not (error < 0).any()
        assert not np.isinf(error).any()

    yield "open", opening
    yield "status", lambda: json.dumps(box["r"].status(), allow_nan=False)
    yield "anomalies", lambda: json.dumps(box["r"].anomalies(), allow_nan=False)
    for at in TIMES:
        yield f"points {at}", partial(asking, at)
        yield f"dataset {at}", partial(loading, at)
    yield "history", lambda: box["r"].history().load()
    yield "check", lambda: json.dumps(box["r"].check().to_json(), allow_nan=False)


STRICT = ("open", "status", "anomalies", "history", "check")
"""What names nothing of the user's: there is nothing wrong with the request."""


def ask_everything(place: Path, what: object) -> None:
    """Demand a right answer or an error that was raised on purpose, in one line."""
    for name, ask in questions(place):
        error = raised_by(ask, what)
        if error is not None and name in STRICT:
            assert isinstance(error, Integrity | Format), (what, name, error)
        if error is not None and name == "open":
            return


def raised_by(ask: Callable[[], Any], what: object) -> GnomonError | None:
    """Return the error that was raised on purpose, in one line and in time; None if it was none."""
    try:
        with within(SECONDS):
            ask()
    except GnomonError as raised:
        error = raised
    except Exception as raised:
        raise AssertionError(f"{what}: {raised!r}") from raised
    else:
        return None
    assert "\n" not in str(error), what
    assert len(str(error)) < 1500, what
    return error


@pytest.fixture
def forge(damaged: Case) -> Forge:
    return Forge(damaged.place)


def sampled(forge: Forge, count: int) -> list[Mutation]:
    """Return some mutations: of all kinds of documents and of all values, most of them fitting."""
    rng = np.random.default_rng(3)
    groups: dict[tuple[str, bool], list[Mutation]] = {}
    for mutation in forge.mutations():
        kind = mutation.document.partition("/")[0]
        groups.setdefault((kind, mutation.fitting), []).append(mutation)
    share = {"log": 3, "gnomon.json": 3}
    found: list[Mutation] = []
    for (kind, fitting), members in groups.items():
        most = count * share.get(kind, 1) // (1 if fitting else 3)
        found += [members[k] for k in rng.choice(len(members), most, replace=False)]
    return found


def test_a_field_that_is_anything_is_refused_or_answered(forge: Forge, tmp_path: Path) -> None:
    mutations = sampled(forge, 5)
    assert len({m.what for m in mutations}) > len(NASTY) // 2
    assert {m.fitting for m in mutations} == {True, False}
    for mutation in mutations:
        forge.make(mutation, tmp_path / "forged")
        ask_everything(tmp_path / "forged", mutation)


def test_an_update_of_a_forged_repository_ends_in_an_error_on_purpose(
    forge: Forge, tmp_path: Path
) -> None:
    """It may also be right to go on, or to say that the source that was named is not there."""
    outcomes = set()
    for mutation in sampled(forge, 2):
        forge.make(mutation, tmp_path / "forged")
        _OPENED.clear()
        error = raised_by(lambda: gnomon.open(str(tmp_path / "forged")).update(), mutation)
        outcomes.add("went on" if error is None else "refused")
        if error is None:  # then it is a repository still, and holds what it held
            assert gnomon.open(str(tmp_path / "forged")).captures(), mutation.what
    assert outcomes == {"went on", "refused"}


def first(records: list[Any], kind: str) -> Any:
    return next(r["body"] for r in records if r["kind"] == kind)


def many_instants(_settings: Any, records: list[Any]) -> None:
    count = 3_000_000
    body = first(records, "capture")
    body["instants"] = list(range(count))
    body["suspects"] = [0] * count
    body["raw_times"] = "00" * 8 * count


def sizes(**parts: list[int]) -> Callable[[Any, list[Any]], None]:
    def edit(settings: Any, _records: list[Any]) -> None:
        for variable in settings["variables"]:
            if variable["name"] == "sst":
                variable.update(parts)

    return edit


def of_time(name: str, value: Any) -> Callable[[Any, list[Any]], None]:
    def edit(settings: Any, _records: list[Any]) -> None:
        settings["time_attributes"][name] = value

    return edit


def in_body(kind: str, *path: Any, value: Any) -> Callable[[Any, list[Any]], None]:
    def edit(_settings: Any, records: list[Any]) -> None:
        holder = first(records, kind)
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = value

    return edit


FORGED: dict[str, Callable[[Any, list[Any]], None]] = {
    "3 million instants": many_instants,
    "chunks of no cell": sizes(chunks=[0, 4]),
    "negative chunks": sizes(chunks=[-4, 4]),
    "a negative shape": sizes(shape=[-8, 12]),
    "a gigantic shape": sizes(shape=[2**40, 2**40]),
    "gigantic chunks": sizes(shape=[2**40, 12], chunks=[2**40, 4], units=[2**40, 4]),
    "other dimensions": sizes(shape=[8]),
    "units of 5 MB": of_time("units", "hours since 2000-01-01 " * 220_000),
    "an unknown calendar": of_time("calendar", "mayan"),
    "units that are none": of_time("units", "fortnights"),
    "confidence above one": in_body("shadow", "variables", "sst", "confidence", 0, value=1.5),
    "negative confidence": in_body("shadow", "variables", "sst", "confidence", 0, value=-0.1),
    "a negative error": in_body("shadow", "variables", "sst", "expected_rmse", 0, value=-1.0),
    "a negative tolerance": in_body("shadow", "variables", "sst", "tolerance", value=-1.0),
    "too few scores": in_body("shadow", "variables", "sst", "confidence", value=[0.5]),
    "NaN": in_body("shadow", "variables", "sst", "confidence", 0, value=float("nan")),
    "a shadow of a capture to come": in_body("shadow", "step", value=10_000),
    "bases to come": in_body("shadow", "bases", value=[10_000]),
    "a revision of itself to come": in_body("capture", "revises", value={"0": 10_000}),
    "another number of counts": in_body("capture", "suspects", value=[0]),
    "incidents that are none": in_body("capture", "report", value={"incidents": [3]}),
    "a folder outside": in_body("capture", "id", value="../../x"),
    "millions of rows": in_body("shadow", "forecaster", "sst", "rows", value=2**40),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_cannot_be_is_refused_at_once(forge: Forge, tmp_path: Path, what: str) -> None:
    forge.edited(tmp_path / "forged", FORGED[what])
    _OPENED.clear()
    with within(SECONDS), pytest.raises(Integrity) as refused:
        gnomon.open(str(tmp_path / "forged"))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1500


def test_an_unchanged_forgery_is_sound(forge: Forge, tmp_path: Path) -> None:
    """What is refused above is refused for what was changed, not for how it was changed."""
    forge.edited(tmp_path / "forged", lambda settings, records: None)
    _OPENED.clear()
    opened = gnomon.open(str(tmp_path / "forged"))
    assert opened.check(read_data=True).problems == ()
    kinds = [p.kind for p in opened.points(TIMES[1])]
    assert kinds == ["healed", "forecast", "last_capture", "suspect"]


LAST = -1
COMMANDS: list[tuple[Mutation, set[int]]] = [
    (Mutation("gnomon.json", (), "depth", True), {5}),
    (Mutation("gnomon.json", ("format",), "a large number", True), {7}),
    (Mutation("gnomon.json", ("leads",), "NaN", True), {5}),
    (Mutation("log/1", ("body",), "depth", True), {5}),
    (Mutation("log/1", ("body", "instants"), "millions", True), {5}),
    (Mutation("log/1", ("body",), "depth", False), {5}),
]


@pytest.mark.parametrize(("mutation", "codes"), COMMANDS, ids=str)
def test_commands_end_with_one_line_and_a_code(
    forge: Forge, tmp_path: Path, mutation: Mutation, codes: set[int]
) -> None:
    forge.make(mutation, tmp_path / "forged")
    command = [sys.executable, "-m", "gnomon", "status", str(tmp_path / "forged"), "--json"]
    begun = time.monotonic()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    assert time.monotonic() - begun < SECONDS
    assert done.returncode in codes, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("gnomon: error:")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
