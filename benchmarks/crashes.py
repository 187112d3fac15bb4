"""What a crash leaves: every store operation of every writing action is once the last one.

    python -m benchmarks.crashes SOURCE --variable NAME [--steps N] [--every K] [--kills N]
                                 [--seed N] [--json] [--verbose]

Actions, each on a copy of a repository that was prepared for it:

update   two new states: a capture, then a shadow
forget   a policy that keeps two states and those with a tag
prune    what was forgotten, an old shadow and what a crashed update left; some states are rewritten
restore  a captured state, to a Zarr store

First an undisturbed run counts the store operations: every object put, replaced or deleted, every
flush, every link of a log record; for `restore` the objects of the new dataset, and its renaming.
Then the action is run again and again, in a process that does not survive operation k:

before   it stops just before the operation
after    it stops just after it
half     the power fails during it: an object is left half written under its final name, a log
         record as an unfinished file beside its name; and everything earlier that was not yet
         forced to the disk is, by lot, as it should be, as it was before, half there or empty
killed   a real `gnomon` process gets SIGKILL at a moment of its run, the start of Python included

After that another process opens the repository. A trial is `mixed` if an acknowledged commit is
gone, if the state is neither that before nor that after one of the action's commits, bit for bit,
or if there is half a dataset under the name of a restore; `unreadable` if anything cannot be read
or `check --read-data` finds damage; and `not resumed` if the same action, run again without help,
fails, or leads to another state, or other files, than an undisturbed run.

`uncopied` counts trials in which the second copy of the newest record was missing, which the check
names. That is no loss: a commit is acknowledged after its copy, and the next one makes up for it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

import gnomon.creation
import gnomon.repository
from benchmarks.dying import DIED, Disk, Doom
from benchmarks.faults import append, call, digest, load, note, start
from gnomon.flows.settings import Settings
from gnomon.storage.check import check
from gnomon.storage.errors import Conflict
from gnomon.storage.log import COPIES, Record, record_name
from gnomon.storage.repository import Repository
from gnomon.storage.retention import Policy
from gnomon.storage.view import Plane, raw_dataset

ACTIONS = ("update", "forget", "prune", "restore")
WAYS = ("before", "after", "half", "killed")
PROCESSES, TIMEOUT_S = 2, 180.0
LEADS, NEW, KEPT, TAG, LITTER = 2, 2, 2, "keep", 8
TARGET = "restored.zarr"
COMMIT_ID = re.compile(r"\b[0-9]{8}-[0-9a-f]{12}\b")
LINK = os.link  # before it is watched


# What is done ------------------------------------------------------------------------------------


def act(action: str, folder: Path, at: str) -> None:
    """Run an action on the repository in a folder, through the Python API."""
    repository = gnomon.repository.open_repository(str(folder / "r"))
    if action == "update":
        repository.update(settings=Settings(workers=1))
    elif action == "forget":
        repository.forget(Policy(last=KEPT, tags=(TAG,)))
    elif action == "prune":
        repository.prune()
    else:
        repository.restore(at, str(folder / TARGET), plain=True)


def command(action: str, folder: Path, at: str) -> list[str]:
    """The same as a command."""
    options = {
        "update": [],
        "forget": ["--keep-last", str(KEPT), "--keep-tag", TAG],
        "prune": [],
        "restore": ["--at", at, "--to", str(folder / TARGET), "--plain"],
    }[action]
    return [
        *(sys.executable, "-m", "gnomon.cli", action, str(folder / "r"), "--json"),
        *options,
    ]


def state_of(repository: Repository) -> dict[str, str]:
    """All that a repository can be asked for, by name; of large answers a hash."""
    found = {"timeline": repr([s.step for s in repository.timeline])}
    for s in repository.captured:
        found[f"capture {s.step}"] = repr((s.instant, s.revises, s.suspects, s.forgotten, s.tags))
    for s in repository.state.kept:
        plane = Plane(s.instant, step=s.step)
        found[f"values {s.step}"] = digest(raw_dataset(repository, (plane,), plain=True))
    for number, shadow in enumerate(repository.state.live_shadows):
        for name in shadow.variables:
            stack = repository.shadow(name, shadow)
            leads = range(1, len(shadow.instants) + 1)
            parts = [
                part
                for lead in leads
                for index in stack.variable.grid.indices()
                for part in stack.chunk(lead, index)
            ]
            found[f"shadow {number} of {name}"] = f"{shadow.instants} {_hash(parts)}"
    newest = repository.forecaster
    for name in newest.body["forecaster"] if newest else ():
        state = repository.forecaster_state(name)
        parts = [part for index in state.variable.grid.indices() for part in state.chunk(index)]
        found[f"forecaster of {name}"] = _hash(parts)
    return found


def _hash(parts: list[Any]) -> str:
    hasher = blake2b(digest_size=16)
    for part in parts:
        hasher.update(np.ascontiguousarray(part).tobytes())
    return hasher.hexdigest()


def files_of(folder: Path) -> Counter[str]:
    """Every file without the ids of commits, the log apart; how often it is there."""
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    plain = (COMMIT_ID.sub("*", name) for name in names)
    return Counter(name for name in plain if not re.match(r"(copies/)?log/\d+\.json$", name))


def read_target(folder: Path) -> str:
    """What was restored; empty if there is nothing under its name."""
    path = folder / TARGET
    if not os.path.lexists(path):
        return ""
    with xr.open_dataset(path, engine="zarr", decode_cf=False, consolidated=None) as dataset:
        return digest(dataset)


def copy(source: Path, folder: Path) -> None:
    """Copy a repository; files are linked, since none is ever written to again."""
    shutil.copytree(source / "r", folder / "r", copy_function=LINK)


# What is prepared --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepared:
    """A repository, and what an undisturbed run makes of it."""

    action: str
    folder: Path
    at: str
    """Time of the state that is restored."""
    records: int
    """Commits before the action."""
    states: list[dict[str, str]]
    """What can be read before the action, and after each of its commits."""
    files: Counter[str]
    """Files after the action."""
    target: str
    """What was restored."""
    kinds: list[str]
    """Store operations of the action."""


def build(dataset: xr.Dataset, top: Path) -> tuple[str, list[str]]:
    """Write the source and a repository without its last states; names what was imported, too."""
    source = top / "source.zarr"
    for _ in append(dataset, lambda: source):
        pass
    (top / "update").mkdir()
    made = gnomon.creation.create(str(top / "update" / "r"), str(source), leads=LEADS)
    times = [iso(value) for value in dataset["time"].values]
    for until in times[-NEW - 2 : -NEW]:
        made.update(until=until)
    made.tag([0, 2, 4], add=[TAG])
    rehearsal = top / "rehearsal"
    rehearsal.mkdir()
    copy(top / "update", rehearsal)
    for action in ACTIONS:  # for what it imports
        act(action, rehearsal, times[4])
    return times[4], sorted(sys.modules)


def iso(value: Any) -> str:
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="s"))
    return str(value.isoformat())


def prepare(action: str, before: str, top: Path, at: str) -> None:
    """Make the repository that an action is run on: that of the one before, after it."""
    folder = top / action
    folder.mkdir()
    copy(top / before, folder)
    if before == "update":
        process, _ = start(leave_litter, folder, at)
        process.join()
    act(before, folder, at)


def leave_litter(folder: Path, at: str) -> None:
    """Run an update that does not survive one of its first operations."""
    doom = Doom(Disk(np.random.default_rng(0)), "half", LITTER)
    doom.watch()
    act("update", folder, at)


def go_undisturbed(action: str, prepared: Path, folder: Path, at: str) -> tuple[list[str], str]:
    """Run an action on a copy, keep the repository after each commit, and return its operations."""
    folder.mkdir()
    copy(prepared, folder)
    doom = Doom(Disk(np.random.default_rng(0)))

    def keep(record: Record) -> None:
        kept = folder / f"after {record.sequence:06d}"
        kept.mkdir()
        copy(folder, kept)

    doom.acknowledged = keep
    doom.watch()
    act(action, folder, at)
    with doom.operation("end"):
        return doom.kinds, read_target(folder)


def describe(folder: Path, source: Path) -> tuple[int, dict[str, str]]:
    """Number of commits and state of a repository whose captures are those of the source."""
    repository = Repository.open(str(folder / "r"))
    with xr.open_dataset(source, engine="zarr", decode_cf=False) as truth:
        order = np.argsort(truth["time"].values, kind="stable")
        instants = sorted({s.instant for s in repository.captured})
        for kept in repository.state.kept:
            plane = Plane(kept.instant, step=kept.step)
            position = int(order[instants.index(kept.instant)])
            found = raw_dataset(repository, (plane,), plain=True)
            for name, variable in found.variables.items():
                wanted = truth[name]
                if "time" in wanted.dims:
                    wanted = wanted.isel(time=slice(position, position + 1))
                if variable.values.tobytes() != wanted.values.tobytes():
                    raise SystemExit(f"{name} of state {position} is not that of the source")
    problems = check(repository, read_data=True).problems
    if problems:
        raise SystemExit(f"{folder.name}, undisturbed, has problems: {problems}")
    return len(repository.records), state_of(repository)


def run_undisturbed(action: str, top: Path, at: str) -> Prepared:
    """Run an action as it should go, and describe what it makes."""
    prepared, folder, source = top / action, top / f"{action} done", top / "source.zarr"
    kinds, target = call(go_undisturbed, action, prepared, folder, at)
    records, before = call(describe, prepared, source)
    states = [before]
    states += [call(describe, kept, source)[1] for kept in sorted(folder.glob("after *"))]
    if call(describe, folder, source)[1] != states[-1]:
        raise SystemExit(f"{action}, undisturbed, changed the state after its last commit")
    files = files_of(folder / "r")
    return Prepared(action, prepared, at, records, states, files, target, kinds)


# Trials ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trial:
    """One crash."""

    prepared: Prepared
    way: str
    at: int = 0
    """Number of the last operation."""
    after_s: float = 0.0
    """When the process is killed."""
    seed: int = 0

    def __str__(self) -> str:
        if self.way == "killed":
            return f"{self.prepared.action} killed after {self.after_s:.2f} s"
        kind = self.prepared.kinds[self.at - 1]
        return f"{self.prepared.action} {self.way} operation {self.at} ({kind})"


@dataclass(slots=True)
class Outcome:
    """What a crash left, each in words."""

    mixed: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    next_run_failed: list[str] = field(default_factory=list)
    uncopied: list[str] = field(default_factory=list)
    ended: bool = False
    """Whether the action had said that all was done."""


def stop_at(trial: Trial, folder: Path) -> None:
    """Run an action in this process, which does not survive it."""
    doom = Doom(Disk(np.random.default_rng([trial.seed, trial.at])), trial.way, trial.at)
    log = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    doom.acknowledged = lambda r: os.write(log, f"{r.sequence} {r.digest}\n".encode()) and None
    doom.watch()
    act(trial.prepared.action, folder, trial.prepared.at)
    (folder / "said").write_text("done")
    with doom.operation("end"):
        return


def crash(trial: Trial, folder: Path) -> None:
    """Let an action crash on the repository in a folder."""
    action, at = trial.prepared.action, trial.prepared.at
    if trial.way != "killed":
        process, _ = start(stop_at, trial, folder)
        process.join(TIMEOUT_S / 3)
        process.kill()
        process.join()
        if process.exitcode not in (0, DIED):
            said = (folder / "noise").read_text()[-600:]
            raise RuntimeError(f"the process ended with {process.exitcode}: {said}")
        return
    root = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with open(folder / "said", "wb") as said, open(folder / "complained", "wb") as complained:
        running = subprocess.Popen(
            command(action, folder, at),
            stdout=said,
            stderr=complained,
            env={**os.environ, "PYTHONPATH": paths},
        )
        with suppress(subprocess.TimeoutExpired):
            running.wait(trial.after_s)
        running.send_signal(signal.SIGKILL)
        running.wait()
    if running.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the command failed: {(folder / 'complained').read_text()}")


def undergo(trial: Trial, top: Path) -> Outcome:
    """Crash, then look at what is left, then run the action again and look once more."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(dir=top) as name:
        folder = Path(name)
        with open(folder / "noise", "w", buffering=1) as noise, redirect_stderr(noise):
            copy(trial.prepared.folder, folder)
            try:
                crash(trial, folder)
            except RuntimeError as error:
                outcome.next_run_failed.append(str(error))
                return outcome
            said = folder / "said"
            outcome.ended = said.exists() and said.stat().st_size > 0
            look(trial, folder, outcome)
            if not outcome.unreadable:
                go_on(trial, folder, outcome)
    return outcome


def look(trial: Trial, folder: Path, outcome: Outcome) -> None:
    """See whether what is left is one of the states that may be."""
    wanted = trial.prepared
    try:
        repository = Repository.open(str(folder / "r"))
        found = state_of(repository)
    except Exception as error:  # noqa: BLE001 - whatever is raised, it cannot be read
        outcome.unreadable.append(repr(error))
        return
    done = len(repository.records) - wanted.records
    if not 0 <= done < len(wanted.states):
        outcome.mixed.append(f"{done} commits, {len(wanted.states) - 1} expected at most")
    else:
        outcome.mixed += _differences(found, wanted.states[done])
    if outcome.ended and done != len(wanted.states) - 1:
        outcome.mixed.append(f"the run ended, and only {done} commits are there")
    digests = [record.digest for record in repository.records]
    for sequence, expected in acknowledged(folder):
        if digests[sequence : sequence + 1] != [expected]:
            outcome.mixed.append(f"commit {sequence} was acknowledged and is gone")
    outcome.unreadable += problems_of(repository, outcome)
    look_at_target(trial, folder, outcome.mixed, whole=outcome.ended)


def acknowledged(folder: Path) -> list[tuple[int, str]]:
    """Number and hash of the commits that the action had been told of."""
    with suppress(FileNotFoundError):
        lines = (folder / "acknowledged").read_text().splitlines()
        return [(int(number), digest) for number, digest in (line.split() for line in lines)]
    return []


def problems_of(repository: Repository, outcome: Outcome) -> list[str]:
    """What a check of every byte finds, but for the second copy of the newest record."""
    newest = COPIES + record_name(len(repository.records) - 1)
    problems = {p.file: p.error for p in check(repository, read_data=True).problems}
    if newest in problems:
        outcome.uncopied.append(problems.pop(newest))
    return list(problems.values())


def look_at_target(trial: Trial, folder: Path, wrong: list[str], *, whole: bool) -> None:
    """See whether a restore left nothing, or all."""
    if trial.prepared.action != "restore":
        return
    try:
        found = read_target(folder)
    except Exception as error:  # noqa: BLE001 - half a dataset raises anything
        wrong.append(f"{TARGET} is there and cannot be read: {error!r}")
        return
    if found != trial.prepared.target and (found or whole):
        wrong.append(f"{TARGET} is {'not what was stored' if found else 'not there'}")


def go_on(trial: Trial, folder: Path, outcome: Outcome) -> None:
    """Run the action again, and see whether all is as after an undisturbed run."""
    wanted, wrong = trial.prepared, outcome.next_run_failed
    try:
        try:
            act(wanted.action, folder, wanted.at)
        except Conflict:
            if wanted.action != "restore" or not read_target(folder):
                raise
        repository = Repository.open(str(folder / "r"))
        wrong += _differences(state_of(repository), wanted.states[-1])
        wrong += problems_of(repository, outcome)
    except Exception as error:  # noqa: BLE001 - whatever is raised, it was not resumed
        wrong.append(repr(error))
        return
    look_at_target(trial, folder, wrong, whole=True)
    if wanted.action == "prune":
        left, gone = files_of(folder / "r"), wanted.files
        wrong += [f"{name} was left" for name in left - gone]
        wrong += [f"{name} is gone" for name in gone - left]


def _differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    names = sorted({n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n)})
    return [f"{', '.join(names)} differ"] if names else []


def play(trials: list[Trial], top: Path) -> Iterator[tuple[Trial, Outcome]]:
    """Undergo trials, a few at a time, each in a process of its own."""
    waiting = iter(trials)
    running: dict[Any, tuple[Any, Trial, float]] = {}
    while True:
        while len(running) < PROCESSES and (trial := next(waiting, None)) is not None:
            process, receiving = start(undergo, trial, top)
            running[receiving] = process, trial, time.monotonic() + TIMEOUT_S
        if not running:
            return
        for receiving in wait(list(running), timeout=1.0):
            process, trial, _ = running.pop(receiving)
            try:
                outcome = receiving.recv()
            except EOFError:
                outcome = Outcome(unreadable=["the process that looked at it crashed or hung"])
            process.join()
            yield trial, outcome
        for process, _, deadline in running.values():
            if time.monotonic() > deadline:
                process.kill()


# Figures -----------------------------------------------------------------------------------------


def time_of(prepared: Prepared, top: Path) -> float:
    """How long a command takes that nobody kills, in seconds."""
    begun = time.monotonic()
    trial = Trial(prepared, "killed", after_s=TIMEOUT_S)
    outcome = call(undergo, trial, top)
    if outcome != Outcome(ended=True):
        raise SystemExit(f"{prepared.action}, undisturbed, as a command: {outcome}")
    return time.monotonic() - begun


def draw(prepared: Prepared, options: argparse.Namespace, top: Path) -> list[Trial]:
    """Every k-th operation in each of three ways, and moments to be killed at."""
    count = len(prepared.kinds)
    trials = [
        Trial(prepared, way, at, seed=options.seed)
        for way in WAYS[:-1]
        for at in range(1, count + 1, options.every)
    ]
    turn = ACTIONS.index(prepared.action)
    kills = len(range(turn, options.kills, len(ACTIONS)))
    if kills:
        generator = np.random.default_rng([options.seed, turn])
        moments = (np.arange(kills) + generator.random(kills)) / kills * time_of(prepared, top)
        trials += [Trial(prepared, "killed", after_s=float(moment)) for moment in moments]
    return trials


def measure(
    prepared: Prepared, options: argparse.Namespace, top: Path
) -> dict[str, dict[str, int]]:
    """Count, by way, what went wrong."""
    names = ("mixed", "unreadable", "next_run_failed", "uncopied")
    figures = {way: dict.fromkeys(("trials", *names), 0) for way in WAYS}
    trials, begun = draw(prepared, options, top), time.monotonic()
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(prepared.kinds).items())
    note(f"{prepared.action}: {len(prepared.kinds)} operations ({kinds}); {len(trials)} trials")
    for done, (trial, outcome) in enumerate(play(trials, top), start=1):
        figures[trial.way]["trials"] += 1
        for name in names:
            said = getattr(outcome, name)
            figures[trial.way][name] += bool(said)
            if said and (name != "uncopied" or options.verbose):
                note(f"  {trial}: {name.replace('_', ' ')}: {'; '.join(said[:3])}")
        if done % 50 == 0 or done == len(trials):
            note(f"{prepared.action}: {done} of {len(trials)}, {time.monotonic() - begun:.0f} s")
    return figures


def show(figures: dict[str, dict[str, dict[str, int]]]) -> None:
    """The counts as a table on standard output."""
    table = Table(box=None, pad_edge=False)
    for name in ("action", "way"):
        table.add_column(name)
    for name in ("trials", "mixed", "unreadable", "not resumed", "uncopied"):
        table.add_column(name, justify="right")
    for action, ways in figures.items():
        for way, counts in ways.items():
            table.add_row(action, way, *map(str, counts.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def preload(names: list[str]) -> None:
    """Import what the actions import, once for all trials; this process runs none of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            with suppress(ImportError):
                importlib.import_module(name)
    if threading.active_count() > 1:
        raise SystemExit("an import has started a thread, which does not survive a fork")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", help="file or store that xarray opens")
    parser.add_argument("variable", nargs="?", default=argparse.SUPPRESS)
    parser.add_argument("--variable", help="variable with a time dimension")
    parser.add_argument("--steps", type=int, default=8, help="states of the source (8)")
    parser.add_argument("--every", type=int, default=1, help="crash at every k-th operation (1)")
    parser.add_argument("--kills", type=int, default=60, help="processes to kill, in all (60)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn by lot (0)")
    parser.add_argument("--actions", default=",".join(ACTIONS), help=f"of {','.join(ACTIONS)}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help="name missing second copies, too")
    options = parser.parse_args()
    actions = options.actions.split(",")
    if options.variable is None or not set(actions) <= set(ACTIONS) or options.steps < 7:
        parser.error(f"name a variable, at least 7 steps, and actions among {', '.join(ACTIONS)}")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    dataset = call(load, options.source, options.variable, options.steps - 1)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        at, imported = call(build, dataset, top)
        preload(imported)
        for action, before in zip(ACTIONS, (None, "update", "forget", "forget"), strict=True):
            if before is not None:
                call(prepare, action, before, top, at)
            if action in actions:
                figures[action] = measure(run_undisturbed(action, top, at), options, top)
    print(json.dumps(figures)) if options.json else show(figures)
    return int(any(n[k] for w in figures.values() for n in w.values() for k in list(n)[1:4]))


if __name__ == "__main__":
    sys.exit(main())
