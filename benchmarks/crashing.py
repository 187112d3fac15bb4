"""One crash: how an action is ended, what is left after it, and whether the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.acting import TARGET, Prepared, act, command, copy, files_of, read_target, state_of
from benchmarks.dying import DIED, Disk, Doom
from benchmarks.faults import start
from gnomon.storage.care.check import check
from gnomon.storage.errors import Conflict
from gnomon.storage.log.records import COPIES, record_name
from gnomon.storage.repository import Repository

PROCESSES, TIMEOUT_S = 2, 180.0


@dataclass(frozen=True, slots=True)
class Crash:
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


def stop_at(trial: Crash, folder: Path) -> None:
    """Run an action in this process, which does not survive it."""
    doom = Doom(Disk(np.random.default_rng([trial.seed, trial.at])), trial.way, trial.at)
    log = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    doom.acknowledged = lambda r: os.write(log, f"{r.sequence} {r.digest}\n".encode()) and None
    doom.watch()
    act(trial.prepared.action, folder, trial.prepared.at)
    (folder / "said").write_text("done")
    with doom.operation("end"):
        return


def crash(trial: Crash, folder: Path) -> None:
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


def undergo(trial: Crash, top: Path) -> Outcome:
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


def look(trial: Crash, folder: Path, outcome: Outcome) -> None:
    """See whether what is left is one of the states that may be."""
    wanted = trial.prepared
    try:
        repository = Repository.open(str(folder / "r"))
        state = state_of(repository)
    except Exception as error:  # noqa: BLE001 - whatever is raised, it cannot be read
        outcome.unreadable.append(repr(error))
        return
    done = len(repository.records) - wanted.records
    if not 0 <= done < len(wanted.states):
        outcome.mixed.append(f"{done} commits, {len(wanted.states) - 1} expected at most")
    else:
        outcome.mixed += _differences(state, wanted.states[done])
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


def look_at_target(trial: Crash, folder: Path, wrong: list[str], *, whole: bool) -> None:
    """See whether a restore left nothing, or all."""
    if trial.prepared.action != "restore":
        return
    try:
        restored = read_target(folder)
    except Exception as error:  # noqa: BLE001 - half a dataset raises anything
        wrong.append(f"{TARGET} is there and cannot be read: {error!r}")
        return
    if restored != trial.prepared.target and (restored or whole):
        wrong.append(f"{TARGET} is {'not what was stored' if restored else 'not there'}")


def go_on(trial: Crash, folder: Path, outcome: Outcome) -> None:
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


def _differences(state: dict[str, str], wanted: dict[str, str]) -> list[str]:
    names = sorted({n for n in state.keys() | wanted.keys() if state.get(n) != wanted.get(n)})
    return [f"{', '.join(names)} differ"] if names else []


def play(trials: list[Crash], top: Path) -> Iterator[tuple[Crash, Outcome]]:
    """Undergo trials, a few at a time, each in a process of its own."""
    waiting = iter(trials)
    running: dict[Any, tuple[Any, Crash, float]] = {}
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
