"""What damage to stored files does: which share is returned silently wrong, which share is named.

    python benchmarks/faults.py SOURCE --variable NAME[,NAME...] [--steps N] [--trials N]
                                [--seed N] [--stores gnomon,zarr,...] [--json]

Stores, all holding the same states of the same variable and its dimension coordinates:

gnomon       backfilled, then updated twice: three commits of captures, shadows from four steps on;
             a chunk of the newest capture is suspect, and healed
zarr         Zarr v3, one state appended after another by xarray, all defaults
zarr_crc32c  the same with Crc32cCodec as last compressor of every array
icechunk     the same as zarr in a local folder, all defaults, one commit per state

A trial damages one file of a pristine copy (`swapped`: two), then a process that has read nothing
before reads everything that the store returns through its public API: all states at once and one
by one; for gnomon every restore point, forecasts among them, and what it reports; for icechunk
every snapshot, difference and operation. Answers are compared with those of the pristine copy, bit
for bit, attributes among them. `silent` is the share of trials in which an answer differed without
an error, whatever other answers did; an error, a crash and an endless read are not silent, nor is
damage that changes no answer, nor an answer that says itself what it lacks (`notes` of a restore
point or of the status, `gnomon_notes` of a dataset). `named` is the share in which the store's own
check names the file (`swapped`: both); Zarr and Icechunk have no check.

Every stored file is damaged once by every fault that can be applied to it, in random order;
with --trials they take turns until so many trials are made. Fields of more than 16384 cells are
cut: the middle half of the longest axis, again and again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

if not __package__:  # run as a file: the others are beside it
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.damages import FAULTS, MOST_TRIALS, Built, Damage, Tree, draw
from benchmarks.stores import STORES, TOLD, Store, load

PROCESSES, TIMEOUT_S, MOST_MEMORY = 2, 120.0, 12 << 30


@dataclass(frozen=True, slots=True)
class Seen:
    """What a process that had read nothing before was told."""

    answers: dict[str, str | None]
    """By question; None where an error was raised."""
    texts: list[str]
    """What the check said, files by their names in the repository."""
    errors: list[str]
    """What was raised."""


def observe(store: Store, folder: Path, asked: Sequence[str]) -> Seen:
    """Read and check everything."""
    answers: dict[str, str | None] = {}
    texts: list[str] = []
    errors: list[str] = []

    def attempt(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except BaseException as error:  # noqa: BLE001 - damage raises anything, Rust panics too
            errors.append("".join(traceback.format_exception_only(error)))
            return None

    routes = store.read(folder, asked)
    while True:
        failed = len(errors)
        route = attempt(lambda: next(routes, None))
        if route is None:
            if len(errors) > failed:
                answers["open"] = None
            break
        answers[route[0]] = attempt(route[1])
    if store.check is not None:
        before = len(errors)
        check = store.check
        texts += attempt(lambda: check(folder)) or []
        texts += errors[before:]
    return Seen(answers, [text.replace(f"{folder}/", "") for text in texts], errors)


FORK = get_context("fork")


def start(function: Callable[..., Any], *arguments: Any) -> tuple[ForkProcess, Connection]:
    """Call a function in a process of its own, which sends what it returns."""
    receiving, sending = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_serve, args=(sending, function, arguments))
    process.start()
    sending.close()
    return process, receiving


def _serve(sending: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    warnings.simplefilter("ignore")
    if function is observe:  # damage makes noise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sending.send(function(*arguments))
    sending.close()
    os._exit(0)


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own: this one must never start a thread."""
    process, receiving = start(function, *arguments)
    try:
        return receiving.recv()
    except EOFError:
        raise SystemExit(f"{getattr(function, '__name__', function)} failed") from None
    finally:
        process.join()


def build(store: Store, dataset: xr.Dataset, folder: Path) -> Built:
    """A store as it is after each commit."""
    versions: list[Tree] = []
    asked = store.build(dataset, folder, lambda: versions.append(read_tree(folder)))
    return Built(store, asked, versions)


def read_tree(folder: Path) -> Tree:
    """The bytes of all files by relative name."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write(folder: Path, files: Damage) -> None:
    """Replace or remove files."""
    for name, data in files.items():
        path = folder / name
        path.unlink(missing_ok=True)
        if data is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def play(
    built: Built, copies: Sequence[Path], damages: Sequence[Damage]
) -> Iterator[tuple[Damage, Seen | None]]:
    """Yield what was seen of each damage, or None where the process crashed or did not end."""
    waiting, idle = iter(damages), list(copies)
    running: dict[Connection, tuple[ForkProcess, Path, Damage, float]] = {}
    while True:
        while idle and (damage := next(waiting, None)) is not None:
            folder = idle.pop()
            write(folder, damage)
            process, receiving = start(observe, built.store, folder, built.asked)
            running[receiving] = process, folder, damage, time.monotonic() + TIMEOUT_S
        if not running:
            return
        ready = wait(list(running), timeout=1.0)
        for receiving in [connection for connection in running if connection in ready]:
            process, folder, damage, _ = running.pop(receiving)
            try:
                seen = receiving.recv()
            except EOFError:
                seen = None
            process.join()
            write(folder, {name: built.files[name] for name in damage})
            idle.append(folder)
            yield damage, seen
        for process, _, _, deadline in running.values():
            if time.monotonic() > deadline:
                process.kill()


def judge(damage: Damage, seen: Seen | None, truth: dict[str, str | None]) -> tuple[str, str]:
    """What came of a damage, and whether the check named every damaged file."""
    if seen is None:
        return "crash", "unnamed"
    text = "\n".join(seen.texts)
    names = [rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)" for name in damage]
    named = "named" if all(re.search(name, text) for name in names) else "unnamed"
    answers = seen.answers.items()
    if any(a is not None and is_other(a, truth.get(question)) for question, a in answers):
        return "silent", named
    if None in seen.answers.values():
        return "error", named
    told = any(answer != truth.get(question) for question, answer in answers)
    return "told" if told else "harmless", named


def is_other(answer: str, truth: str | None) -> bool:
    """Whether an answer differs in a line that does not say that it knows less."""
    lines = zip_longest(answer.split("\n"), (truth or "").split("\n"), fillvalue="")
    return any(a != b and not a.startswith(TOLD) for a, b in lines)


def read_pristine(name: str, built: Built, copies: Sequence[Path]) -> dict[str, str | None]:
    """The answers of the undamaged store, which must be the same twice, without complaint."""
    truth, again = (seen for _, seen in play(built, copies, [{}, {}]))
    if truth is None or truth != again or truth.texts or truth.errors:
        raise SystemExit(f"{name}, undamaged, cannot be read twice alike: {truth}, {again}")
    return truth.answers


def measure(
    name: str, built: Built, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], str]:
    """Figures by fault, and the hash of the pristine dataset."""
    copies = [folder / str(number) for number in range(PROCESSES)]
    for copy in copies:
        write(copy, dict(built.files))
    truth = read_pristine(name, built, copies)
    figures, hit = {}, set()
    for number, (fault, apply) in enumerate(FAULTS.items()):
        generator, begun = np.random.default_rng([options.seed, number]), time.monotonic()
        damages = draw(built, apply, options.trials, generator)
        outcomes = []
        for damage, seen in play(built, copies, damages):
            outcomes.append(judge(damage, seen, truth))
            if options.verbose:
                note(f"  {name} {fault} {', '.join(damage)}: {' '.join(outcomes[-1])}")
        counts = Counter(word for outcome in outcomes for word in outcome)
        files = {next(iter(damage)) for damage in damages}
        hit |= files
        figures[fault] = {
            "trials": len(damages),
            "silent": counts["silent"] / len(damages) if damages else None,
            "named": counts["named"] / len(damages) if damages else None,
        }
        note(
            f"{name} {fault}: {len(damages)} trials on {len(files)} of {len(built.files)} files, "
            f"{time.monotonic() - begun:.0f} s: {dict(sorted(counts.items()))}"
        )
    note(f"{name}: {len(hit)} of {len(built.files)} files were damaged")
    for copy in copies:
        assert read_tree(copy) == built.files, f"{copy} was not put back as it was"
    return figures, str(truth["dataset"])


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(figures: dict[str, dict[str, Any]]) -> None:
    """The shares as a table on standard output."""
    table = Table(box=None, pad_edge=False)
    table.add_column("fault")
    for name in figures:
        table.add_column(f"{name}\nsilent", justify="right")
        table.add_column("\nnamed", justify="right")
    for fault in FAULTS:
        shares = [entry[fault][key] for entry in figures.values() for key in ("silent", "named")]
        table.add_row(fault, *("-" if share is None else f"{share:.3f}" for share in shares))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", help="file or store that xarray opens")
    parser.add_argument("variable", nargs="?", default=argparse.SUPPRESS)
    parser.add_argument("--variable", help="variables with a time dimension: NAME,...")
    parser.add_argument("--steps", type=int, default=8, help="states that are stored (8)")
    parser.add_argument("--trials", type=int, help="per fault and store (each file once)")
    parser.add_argument("--seed", type=int, default=0, help="of the random damages (0)")
    parser.add_argument("--stores", default=",".join(STORES), help=f"some of {','.join(STORES)}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help="say what came of every damage")
    options = parser.parse_args()
    names = options.stores.split(",")
    if options.variable is None or not set(names) <= set(STORES):
        parser.error(f"name a variable, and stores among {', '.join(STORES)}")
    if options.trials is None:
        note(f"every file once per fault, up to {MOST_TRIALS} files")
    dataset = call(load, options.source, options.variable, options.steps)
    figures, same = {}, set()
    with tempfile.TemporaryDirectory() as top:
        for name in names:
            folder = Path(top) / name
            folder.mkdir()
            built = call(build, STORES[name], dataset, folder / "built")
            figures[name], answer = measure(name, built, folder, options)
            same.add(answer)
            shutil.rmtree(folder)
    assert len(same) == 1, "the stores do not hold the same data"
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
