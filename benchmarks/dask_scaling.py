"""What Dask workers gain an update: python -m benchmarks.dask_scaling SOURCE --variable V [--json].

A repository has captured and forecast all states of the record but the last.  The update that takes
this one is made on copies of it, in turn on one thread, two threads, one worker process and two,
and so is a refit; all had done both before.  By step it tells

- seconds, medians of the rounds;
- CPU seconds on the critical path, of the main thread and of the worker that had most to do, which
  tell more where other programs run beside (threads: at best, if they share the items evenly and
  never wait for each other);
- the work that two processes were given: items, bytes that are sent for them and come back, and the
  seconds that the same items take if nothing is done with them.

Ratios are medians of those within a round.  ``--grid T Y X`` makes a dataset of that size instead,
as `benchmarks.scale` does.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from pickle import dumps
from statistics import median
from time import perf_counter
from typing import Any

from distributed import Client
from rich.console import Console
from rich.progress import Progress

if not __package__:  # run as a file: the others are beside it
    sys.path[0] = str(Path(__file__).parents[1])

import gnomon
from benchmarks.scale import parsed, parser_of, states_of, write
from gnomon.flows import steps
from gnomon.flows.cluster import Workers, local_cluster, thread_mapper
from gnomon.flows.cycle import Cycle
from gnomon.flows.launch import prepare
from gnomon.flows.outbox import Outbox
from gnomon.flows.registered import checks_in_use
from gnomon.flows.settings import Settings
from gnomon.tasks.work import Mapper, serial

KINDS = {"update": None, "refit": "asked for"}
"""What is measured, and why it learns everything anew."""
THREADS, PROCESSES = ("1 thread", "2 threads"), ("1 process", "2 processes")
RATIOS = (
    ("1 thread", "2 threads"),
    ("2 threads", "2 processes"),
    ("1 process", "2 processes"),
)
SENT = ("items", "s of nothing", "function bytes", "item bytes", "result bytes")
ALL = "all"

Table = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Nothing:
    """Is sent like a function, and does nothing."""

    function: Callable[..., Any]

    def __call__(self, item: object, /) -> None:
        """Return None."""


def cpu(_item: object = None) -> float:
    """Return the CPU seconds of this process so far."""
    return time.process_time()


@dataclass(slots=True)
class Run:
    """One update: what it took by step, and the work that its mapper was given."""

    mapper: Mapper = serial
    client: Client | None = None
    """Of the workers; None: they are threads."""
    threads: int = 1
    """How many they are then."""
    seconds: dict[str, float] = field(default_factory=dict)
    path: dict[str, float] = field(default_factory=dict)
    """CPU seconds on the critical path."""
    here: dict[str, float] = field(default_factory=dict)
    """Those of them of the main thread."""
    work: list[tuple[str, Callable[..., Any], Sequence[Any], int]] = field(default_factory=list)
    """Step, function and items of each call of the mapper, and bytes of its results."""
    step: str = ""
    items: int = 1
    """The most that its step had at once."""

    def update(self, place: str, kind: str) -> None:
        """Capture the state that a repository lacks, and forecast."""
        settings = Settings(refit_share=0.0)
        cycle = Cycle(place, settings, self.call, Outbox(place, {}), checks_in_use())
        begun, before = perf_counter(), time.thread_time()
        report = cycle.run(refit=KINDS[kind], compare=settings.compare)
        if len(report.captured) != 1:
            raise SystemExit(f"the update captured {report.captured}, expected one state")
        self.seconds["between"] = perf_counter() - begun - sum(self.seconds.values())
        self.path["between"] = time.thread_time() - before - sum(self.here.values())
        for spent in (self.seconds, self.path):
            spent[ALL] = sum(spent.values())

    def call(self, step: Callable[..., Any], /, *arguments: Any) -> Any:
        """Run a step."""
        self.step, self.items = step.__name__, 1
        options = {"mapper": self.map} if step in steps.ON_CHUNKS else {}
        before, begun = self.spent(), perf_counter()
        result = step(*arguments, **options)
        self.seconds[self.step] = self.seconds.get(self.step, 0.0) + perf_counter() - begun
        spent = {who: seconds - before[who] for who, seconds in self.spent().items()}
        self.here[self.step] = self.here.get(self.step, 0.0) + spent[""]
        sharing = 1 if self.client else min(self.threads, self.items)
        path = spent.pop("") + max(spent.values()) / sharing
        self.path[self.step] = self.path.get(self.step, 0.0) + path
        return result

    def spent(self) -> dict[str, float]:
        """Return the CPU seconds of the main thread, under an empty name, and of the workers."""
        here = time.thread_time()
        if self.client is None:
            return {"": here, "threads": cpu() - here}
        workers: dict[str, float] = self.client.run(cpu)
        return {"": here, **workers}

    def map[A, B](self, function: Callable[[A], B], items: Sequence[A], /) -> list[B]:
        """Work on the items, and note them."""
        results = self.mapper(function, items)
        self.items = max(self.items, len(items))
        self.work.append((self.step, function, items, len(dumps(results))))
        return results

    def sent(self) -> Table:
        """Return by step what its work is, beside being done."""
        told: Table = {}
        for step, function, items, results in self.work:
            begun = perf_counter()
            self.mapper(Nothing(function), items)
            spent = perf_counter() - begun
            row = told.setdefault(step, dict.fromkeys(SENT, 0.0))
            sizes = len(dumps(function)), len(dumps(items)), results
            for name, value in zip(SENT, (len(items), spent, *sizes), strict=True):
                row[name] += value
        return told


def update_alone(place: str, kind: str) -> None:
    """Make an update in this process."""
    Run().update(place, kind)


@dataclass(slots=True)
class Trial:
    """A repository that lacks one state of its source, and who works on copies of it."""

    folder: Path
    mappers: dict[str, Mapper]
    clients: dict[str, Client]
    """Of those on processes."""
    runs: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    """By kind and mapper."""
    sent: dict[str, Table] = field(default_factory=dict)
    """By kind, of two processes."""
    copies: int = 0

    def copy(self) -> Path:
        """Return a copy of the repository."""
        self.copies += 1
        place = self.folder / f"copy-{self.copies}"
        shutil.copytree(self.folder / "r", place, copy_function=os.link)  # nothing is modified
        return place

    def warm(self) -> None:
        """Let every process do once what it will do."""
        for kind in KINDS:
            update_alone(str(self.copy()), kind)
            for client in self.clients.values():
                for worker in client.scheduler_info()["workers"]:
                    place = str(self.copy())
                    client.submit(update_alone, place, kind, workers=[worker]).result()

    def measure(self, kind: str, name: str) -> None:
        """Make one update."""
        place = self.copy()
        os.sync()
        run = Run(self.mappers[name], self.clients.get(name), int(name[0]))
        run.update(str(place), kind)
        self.runs.setdefault((kind, name), []).append(run)
        if name == PROCESSES[1]:
            self.sent[kind] = run.sent()
        run.work.clear()
        shutil.rmtree(place)

    def figures(self, rounds: int) -> dict[str, dict[str, Table]]:
        """Return all figures of some rounds."""
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("updates", total=rounds * len(KINDS) * len(self.mappers))
            for _ in range(rounds):
                for kind in KINDS:
                    for name in self.mappers:
                        self.measure(kind, name)
                        progress.advance(task)
        return {kind: self.summary(kind) for kind in KINDS}

    def summary(self, kind: str) -> dict[str, Table]:
        """Return the figures of a kind of update."""
        runs = {name: self.runs[kind, name] for name in self.mappers}
        tables: dict[str, Table] = {}
        for title, part in (("seconds", "seconds"), ("CPU s on the critical path", "path")):
            told = {name: [getattr(run, part) for run in runs[name]] for name in runs}
            rows = list(dict.fromkeys(row for each in told.values() for one in each for row in one))
            tables[title] = {
                row: {name: median(one.get(row, 0.0) for one in told[name]) for name in told}
                for row in rows
            }
            tables[f"{title}: ratios"] = {
                f"{slow} / {fast}": {
                    "": median(a[ALL] / b[ALL] for a, b in zip(told[slow], told[fast], strict=True))
                }
                for slow, fast in RATIOS
            }
        return tables | {"work": self.sent[kind]}


def prepared(options: argparse.Namespace, folder: Path) -> None:
    """Write the source, and capture and forecast all of it but the last state."""
    states, total = states_of(options)
    source = folder / "source.zarr"
    with Progress(console=Console(stderr=True)) as progress:
        for k, state in enumerate(progress.track(states, total=total, description="states")):
            if k == total - 1:
                gnomon.create(str(folder / "r"), str(source)).backfill()
            write(state, source, options.chunk, append=k > 0)


def main() -> None:
    """Print the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where; default: a temporary folder")
    options = parsed(parser)
    prepare()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        folder = Path(name)
        prepared(options, folder)
        mappers: dict[str, Mapper] = {name: thread_mapper(int(name[0])) for name in THREADS}
        clients, start = {}, {}
        for processes in PROCESSES:
            begun = perf_counter()
            address = stack.enter_context(local_cluster(int(processes[0])))
            workers = stack.enter_context(Workers(Settings(scheduler=address)))
            workers.mapper(cpu, [None])
            start[processes] = perf_counter() - begun
            mappers[processes] = workers.mapper
            clients[processes] = stack.enter_context(Client(address, set_as_default=False))
        trial = Trial(folder, mappers, clients)
        trial.warm()
        figures = trial.figures(options.rounds) | {"cluster": {"seconds": {"start": start}}}
    if options.json:
        print(json.dumps(figures))
        return
    for kind, tables in figures.items():
        for title, table in tables.items():
            print(f"{kind}: {title}")
            for row, values in table.items():
                print(f"  {row:26}" + "  ".join(f"{v:10.4g} {n}" for n, v in values.items()))


if __name__ == "__main__":
    main()
