"""What damage to stored files does: which share is returned silently wrong, which share is named.

    python -m benchmarks.faults SOURCE --variable NAME [--steps N] [--trials N] [--seed N]
                                [--stores gnomon,zarr,...] [--json]

Stores, all holding the same states of the same variable and its dimension coordinates:

gnomon       backfilled, then updated twice: three commits of captures, shadows from four steps on
zarr         Zarr v3, one state appended after another by xarray, all defaults
zarr_crc32c  the same with Crc32cCodec as last compressor of every array
icechunk     the same as zarr in a local folder, all defaults, one commit per state

A trial damages one file of a pristine copy (`swapped`: two), then a process that has read nothing
before reads everything that the store returns through its public API: all states at once and one
by one; for gnomon every restore point, forecasts among them, and what it reports; for icechunk
every snapshot, difference and operation. Answers are compared with those of the pristine copy, bit
for bit, attributes among them. `silent` is the share of trials in which an answer differed without
an error, whatever other answers did; an error, a crash and an endless read are not silent, nor is
damage that changes no answer. `named` is the share in which the store's own check names the file
(`swapped`: both); Zarr and Icechunk have no check.

Every stored file is damaged once by every fault that can be applied to it, in random order;
with --trials they take turns until so many trials are made. Fields of more than 16384 cells are
cut: the middle half of the longest axis, again and again.

Longer than a file should be: the protocol of an experiment is read from one page, top to bottom.
"""

from __future__ import annotations

import argparse
import itertools
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
from dataclasses import astuple, dataclass
from functools import partial
from hashlib import blake2b
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array  # noqa: F401 - xarray asks for it in every process, and it takes half a second
import numpy as np
import xarray as xr
import zarr
from rich.console import Console
from rich.table import Table
from zarr.codecs import Crc32cCodec

import gnomon.creation
import gnomon.repository

if TYPE_CHECKING:
    import icechunk

type Routes = Iterator[tuple[str, Callable[[], str]]]
type Tree = dict[str, bytes]

MOST_CELLS, MOST_TRIALS = 16384, 1000
PROCESSES, TIMEOUT_S, MOST_MEMORY = 2, 120.0, 12 << 30
PACKING = (
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "dtype",
    "units",
    "calendar",
)
COMMIT_IDS = re.compile(r"[0-9A-Z]{20}|[0-9a-f]{8,}(-[0-9a-f]+)?")


# What is stored --------------------------------------------------------------------------------


def load(source: str, name: str, steps: int) -> xr.Dataset:
    """The first states of a variable, one more than asked for, cut and ready to be written."""
    with xr.open_dataset(source) as opened:
        field = opened[name]
        times = [d for d in field.dims if d == "time" or _is_time(opened.get(str(d)))]
        if not times:
            raise SystemExit(
                f"{name} has no time dimension, only {', '.join(map(str, field.dims))}"
            )
        dimension = times[0]
        field = field.transpose(dimension, ...).isel({dimension: slice(steps + 1)})
        while field[0].size > MOST_CELLS:
            longest = max(field.dims[1:], key=lambda d: field.sizes[d])
            size = field.sizes[longest]
            field = field.isel({longest: slice(size // 4, size // 4 + size // 2)})
        dataset = field.reset_coords(drop=True).to_dataset(name=name)
        dataset = dataset.drop_vars(set(dataset.coords) - set(field.dims))
        dataset = dataset.rename({dimension: "time"}).load()
    if dataset.sizes["time"] < 4:
        raise SystemExit(f"{name} has {dataset.sizes['time']} times; at least 4 are needed")
    for variable in dataset.variables.values():
        variable.attrs = {k: v for k, v in variable.attrs.items() if k != "bounds"}
        variable.encoding = {k: variable.encoding[k] for k in PACKING if k in variable.encoding}
    dataset.encoding.clear()
    dataset["time"].encoding.setdefault("units", "seconds since 1970-01-01")
    return dataset


def _is_time(coordinate: xr.DataArray | None) -> bool:
    return coordinate is not None and coordinate.dtype.kind in "MO"


def append(dataset: xr.Dataset, store: Any, **options: Any) -> Iterator[None]:
    """Write the states one after another, and stop after each."""
    fixed = [name for name, v in dataset.variables.items() if "time" not in v.dims]
    for step in range(dataset.sizes["time"]):
        state = dataset.isel(time=slice(step, step + 1))
        if step == 0:
            state.to_zarr(store(), mode="w", zarr_format=3, **options)
        else:
            options.pop("encoding", None)
            target, new = store(), state.drop_vars(fixed)
            new.to_zarr(target, append_dim="time", zarr_format=3, **options)
        yield


def build_zarr(
    dataset: xr.Dataset, folder: Path, keep: Callable[[], None], *, crc32c: bool
) -> list[str]:
    """Write twice, the window one step on the second time; return the names of the arrays."""
    options: dict[str, Any] = {}
    if crc32c:
        default = zarr.create_array({}, shape=(1,), dtype="f4").compressors
        codecs = {"compressors": (*default, Crc32cCodec())}
        options["encoding"] = {n: v.encoding | codecs for n, v in dataset.variables.items()}
    for window in (slice(None, -1), slice(1, None)):
        for _ in append(dataset.isel(time=window), lambda: folder, **options):
            keep()
    return [str(name) for name in dataset.variables]


def build_icechunk(dataset: xr.Dataset, folder: Path, keep: Callable[[], None]) -> list[str]:
    """Commit once per state, and return the ids of the snapshots, newest first."""
    import icechunk  # here, because it starts threads, and those do not survive a fork

    icechunk.set_logs_filter("error")  # no warning that nobody else may write to the folder
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)))
    session = repository.writable_session("main")

    def fresh() -> icechunk.IcechunkStore:
        nonlocal session
        session = repository.writable_session("main")
        return session.store

    states = append(dataset.isel(time=slice(1, None)), fresh, consolidated=False)
    for number, _ in enumerate(states):
        session.commit(f"state {number}")
        keep()
    return [snapshot.id for snapshot in repository.ancestry(branch="main")]


def build_gnomon(dataset: xr.Dataset, folder: Path, keep: Callable[[], None]) -> list[str]:
    """Backfill, update twice, and return the times of captures and shadow, ISO 8601."""
    dataset = dataset.isel(time=slice(1, None))
    source = folder.parent / "source.zarr"
    for _ in append(dataset, lambda: source):
        pass
    repository = gnomon.creation.create(str(folder), str(source))
    keep()
    times = [_iso(value) for value in dataset["time"].values]
    for until in (times[len(times) // 2 - 1], times[-2], None):
        repository.update(until=until)
        keep()
    return [*times, *repository.status()["shadow"]]


def _iso(value: Any) -> str:
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="s"))
    return str(value.isoformat())


# What is read back -----------------------------------------------------------------------------


def read_zarr(folder: Path, names: Sequence[str]) -> Routes:
    """The dataset, and every array by itself."""
    yield "dataset", lambda: digest(xr.open_dataset(folder, engine="zarr", decode_cf=False))

    def read(name: str) -> str:
        array = zarr.open_array(folder / name, mode="r")
        dims = array.metadata.to_dict().get("dimension_names")
        return digest(xr.Variable(dims, np.asarray(array[...]), dict(array.attrs)))

    for name in names:
        yield f"array {name}", partial(read, name)


def read_icechunk(folder: Path, snapshots: Sequence[str]) -> Routes:
    """The dataset, every earlier snapshot, the differences between them, and the log."""
    import icechunk

    def opened() -> icechunk.Repository:
        return icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder)))

    def read(branch: str | None = None, snapshot: str | None = None) -> str:
        store: Any = repository.readonly_session(branch, snapshot_id=snapshot).store
        return digest(xr.open_dataset(store, engine="zarr", decode_cf=False, consolidated=False))

    def difference(older: str, newer: str) -> str:
        return repr(repository.diff(from_snapshot_id=older, to_snapshot_id=newer))

    repository = opened()
    yield "dataset", lambda: read("main")
    yield "ancestry", lambda: repr(list(repository.ancestry(branch="main")))
    yield "operations", lambda: repr(list(repository.ops_log()))
    for snapshot in snapshots[:-1]:  # the first is empty: it was made with the repository
        yield f"snapshot {snapshot}", partial(read, snapshot=snapshot)
    for newer, older in itertools.pairwise(snapshots):
        yield f"difference {newer}", partial(difference, older, newer)


def read_gnomon(folder: Path, times: Sequence[str]) -> Routes:
    """The history, every restore point of every time, and what is reported."""
    repository = gnomon.repository.open_repository(str(folder))
    yield "dataset", lambda: digest(repository.history(decode=False))

    def read(at: str) -> str:
        points = repository.points(at)
        found = [
            digest(repository.dataset(at, kind=p.kind, accept_predicted=True, decode=False))
            for p in points
            if p.kind != "last_capture"  # another time's capture
        ]
        return f"{points} {found}"

    for at in times:
        yield f"points {at}", partial(read, at)
    yield "anomalies", lambda: repr(repository.anomalies())
    yield "status", lambda: repr({**repository.status(), "repository": None})


def check_gnomon(folder: Path) -> list[str]:
    """What the check reports: the texts in which a damaged file may be named."""
    report = gnomon.repository.open_repository(str(folder)).check(read_data=True)
    return [" ".join(map(str, astuple(problem))) for problem in report.problems]


def digest(found: xr.Dataset | xr.Variable) -> str:
    """A hash of every value, type, dimension, name and attribute."""
    variables = found.variables.items() if isinstance(found, xr.Dataset) else [("", found)]
    hasher = blake2b(repr(_plain(found.attrs)).encode(), digest_size=16)
    for name, variable in sorted(variables, key=lambda item: str(item[0])):
        values = np.asarray(variable.values, order="C")
        head = (name, variable.dims, values.dtype.str, values.shape, _plain(variable.attrs))
        hasher.update(repr(head).encode())
        hasher.update(
            repr(values.tolist()).encode() if values.dtype.hasobject else values.tobytes()
        )
    return hasher.hexdigest()


def _plain(attributes: Any) -> list[tuple[str, str, object]]:
    arrays = {str(name): np.asarray(value) for name, value in attributes.items()}
    return [(name, arrays[name].dtype.str, arrays[name].tolist()) for name in sorted(arrays)]


@dataclass(frozen=True, slots=True)
class Store:
    """How a store is written, read and checked."""

    build: Callable[[xr.Dataset, Path, Callable[[], None]], list[str]]
    """Write a dataset to a folder, calling after each commit; returns what `read` must ask for."""
    read: Callable[[Path, Sequence[str]], Routes]
    """Yield everything that can be asked, by name, each as a function that answers."""
    check: Callable[[Path], list[str]] | None = None
    """Return the texts of the store's own check; it may also raise one."""
    named_by_age: bool = False
    """Whether files of one role, sorted by name, are sorted by age."""


STORES = {
    "gnomon": Store(build_gnomon, read_gnomon, check_gnomon, named_by_age=True),
    "zarr": Store(partial(build_zarr, crc32c=False), read_zarr),
    "zarr_crc32c": Store(partial(build_zarr, crc32c=True), read_zarr),
    "icechunk": Store(build_icechunk, read_icechunk),
}


# What is damaged -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Built:
    """A pristine store."""

    store: Store
    asked: list[str]
    """What `Store.read` must ask for."""
    versions: list[Tree]
    """All files after each commit; the last are those that are damaged."""

    @property
    def files(self) -> Tree:
        return self.versions[-1]

    def other(self, name: str, generator: np.random.Generator) -> str | None:
        """Another file of the same kind with other content; of any kind, if there is none."""
        differing = sorted(n for n, data in self.files.items() if data != self.files[name])
        for kind in (_kind, lambda n: _kind(n.rpartition("/")[2]), lambda _: ""):
            found = [n for n in differing if kind(n) == kind(name)]
            if found:
                return str(generator.choice(found))
        return None

    def older(self, name: str) -> bytes | None:
        """The newest older content of a file, else of its role in an earlier commit."""
        data = self.files[name]
        for version in reversed(self.versions):
            if version.get(name, data) != data:
                return version[name]
        made = {n: i for i in reversed(range(len(self.versions))) for n in self.versions[i]}
        role = COMMIT_IDS.sub("*", name)

        def age(other: str) -> tuple[int, str]:
            return made[other], other if self.store.named_by_age else ""

        found = [
            n
            for n, other in self.files.items()
            if COMMIT_IDS.sub("*", n) == role and age(n) < age(name) and other != data
        ]
        if not found:
            return None
        # of several of one commit, the one most alike
        return self.files[
            max(found, key=lambda n: (age(n), -abs(len(self.files[n]) - len(data)), n))
        ]


def _kind(name: str) -> str:
    return re.sub(r"\d+", "*", COMMIT_IDS.sub("*", name))


type Damage = dict[str, bytes | None]
"""By file name: its new bytes, or None where it is gone."""
type Fault = Callable[[Built, str, np.random.Generator], Damage | None]
"""Returns None where the fault cannot be applied to a file."""


def change_byte(
    built: Built, name: str, generator: np.random.Generator, *, one_bit: bool
) -> Damage | None:
    """One bit is flipped, or one byte is any other byte."""
    data = bytearray(built.files[name])
    if not data:
        return None
    mask = 1 << generator.integers(8) if one_bit else generator.integers(1, 256)
    data[generator.integers(len(data))] ^= int(mask)
    return {name: bytes(data)}


def zero(
    built: Built, name: str, generator: np.random.Generator, *, size: int, least: int
) -> Damage | None:
    """An aligned piece that is not zero already becomes zero."""
    data = built.files[name]
    starts = [i for i in range(0, len(data), size) if any(data[i : i + size])]
    if len(data) < least or not starts:
        return None
    start = int(generator.choice(starts))
    end = min(start + size, len(data))
    return {name: data[:start] + bytes(end - start) + data[end:]}


def truncate(built: Built, name: str, generator: np.random.Generator) -> Damage | None:
    """Nothing is left from a random place on."""
    data = built.files[name]
    return {name: data[: generator.integers(len(data))]} if data else None


def delete(_built: Built, name: str, _generator: np.random.Generator) -> Damage | None:
    """The file is gone."""
    return {name: None}


def swap(built: Built, name: str, generator: np.random.Generator) -> Damage | None:
    """Two files have each other's content."""
    other = built.other(name, generator)
    if other is None:
        return None
    return {name: built.files[other], other: built.files[name]}


def revert(built: Built, name: str, _generator: np.random.Generator) -> Damage | None:
    """The file has the content of an older version."""
    older = built.older(name)
    return None if older is None else {name: older}


FAULTS: dict[str, Fault] = {
    "bit_flip": partial(change_byte, one_bit=True),
    "byte": partial(change_byte, one_bit=False),
    "sector_512": partial(zero, size=512, least=1),
    "block_4096": partial(zero, size=4096, least=4096),
    "truncated": truncate,
    "deleted": delete,
    "swapped": swap,
    "stale": revert,
}


def draw(
    built: Built, fault: Fault, trials: int | None, generator: np.random.Generator
) -> list[Damage]:
    """Damages of files in random order, round after round; by default of each file once."""
    names = [str(name) for name in generator.permutation(sorted(built.files))]
    first = [(name, fault(built, name, generator)) for name in names]
    damages = [damage for _, damage in first if damage is not None]
    names = [name for name, damage in first if damage is not None]
    wanted = min(len(names), MOST_TRIALS) if trials is None else trials
    while names and len(damages) < wanted:
        again = (fault(built, name, generator) for name in names)
        damages += [damage for damage in again if damage is not None]
    return damages[:wanted]


# Trials ----------------------------------------------------------------------------------------


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
    if any(answer not in (None, truth.get(question)) for question, answer in seen.answers.items()):
        return "silent", named
    return "error" if None in seen.answers.values() else "harmless", named


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
        found = [entry[fault][key] for entry in figures.values() for key in ("silent", "named")]
        table.add_row(fault, *("-" if share is None else f"{share:.3f}" for share in found))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", help="file or store that xarray opens")
    parser.add_argument("variable", nargs="?", default=argparse.SUPPRESS)
    parser.add_argument("--variable", help="variable with a time dimension")
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
