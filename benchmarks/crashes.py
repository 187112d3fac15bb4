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
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

if not __package__:  # run as a file: the others are beside it
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.acting import ACTIONS, Prepared, build, prepare, run_undisturbed
from benchmarks.crashing import TIMEOUT_S, Crash, Outcome, play, undergo
from benchmarks.faults import call, note
from benchmarks.stores import load

WAYS = ("before", "after", "half", "killed")


def time_of(prepared: Prepared, top: Path) -> float:
    """How long a command takes that nobody kills, in seconds."""
    begun = time.monotonic()
    trial = Crash(prepared, "killed", after_s=TIMEOUT_S)
    outcome = call(undergo, trial, top)
    if outcome != Outcome(ended=True):
        raise SystemExit(f"{prepared.action}, undisturbed, as a command: {outcome}")
    return time.monotonic() - begun


def draw(prepared: Prepared, options: argparse.Namespace, top: Path) -> list[Crash]:
    """Every k-th operation in each of three ways, and moments to be killed at."""
    count = len(prepared.kinds)
    trials = [
        Crash(prepared, way, at, seed=options.seed)
        for way in WAYS[:-1]
        for at in range(1, count + 1, options.every)
    ]
    turn = ACTIONS.index(prepared.action)
    kills = len(range(turn, options.kills, len(ACTIONS)))
    if kills:
        generator = np.random.default_rng([options.seed, turn])
        moments = (np.arange(kills) + generator.random(kills)) / kills * time_of(prepared, top)
        trials += [Crash(prepared, "killed", after_s=float(moment)) for moment in moments]
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
