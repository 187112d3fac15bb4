"""Actions that write: what is done, what can be read then, and the repositories it is done to."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import gnomon.creation
import gnomon.repository
from benchmarks.dying import Disk, Doom
from benchmarks.faults import call, start
from benchmarks.stores import append, digest
from gnomon.flows.settings import Settings
from gnomon.storage.care.check import check
from gnomon.storage.care.retention import Policy
from gnomon.storage.log.records import Record
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.serve.view import raw_dataset

ACTIONS = ("update", "forget", "prune", "restore")
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
    answers = {"timeline": repr([s.step for s in repository.timeline])}
    for s in repository.captured:
        answers[f"capture {s.step}"] = repr((s.instant, s.revises, s.suspects, s.forgotten, s.tags))
    for s in repository.state.kept:
        plane = Plane(s.instant, step=s.step)
        answers[f"values {s.step}"] = digest(raw_dataset(repository, (plane,), plain=True))
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
            answers[f"shadow {number} of {name}"] = f"{shadow.instants} {_hash(parts)}"
    newest = repository.forecaster
    for name in newest.learnt if newest else ():
        state = repository.forecaster_state(name)
        parts = [part for index in state.variable.grid.indices() for part in state.chunk(index)]
        answers[f"forecaster of {name}"] = _hash(parts)
    return answers


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
    repository = gnomon.creation.create(str(top / "update" / "r"), str(source), leads=LEADS)
    times = [iso(value) for value in dataset["time"].values]
    for until in times[-NEW - 2 : -NEW]:
        repository.update(until=until)
    repository.tag([0, 2, 4], add=[TAG])
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
            stored = raw_dataset(repository, (plane,), plain=True)
            for name, variable in stored.variables.items():
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
