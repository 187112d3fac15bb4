"""What commands ask of an object store: python -m benchmarks.requests SOURCE --variable V [--json].

A dataset and its repository lie in a bucket of an S3 server on this machine, which counts.  All
states of the record but the last ones are captured and forecast in one go; these arrive one by one.
Each command is a process of its own, as a scheduled run is.  Medians are told of what it asks of
the repository, by kind, the most that it asked, and what it asked of the source; beside them stands
a process that appends such a state to a plain Zarr dataset.  ``--grid T Y X`` makes a dataset of
that size instead (see `benchmarks.scale`).
"""

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median
from threading import Lock, Thread
from typing import Any

import obstore
import xarray as xr
from obstore.store import from_url
from zarr.storage import ObjectStore

if not __package__:  # run as a file: the others are beside it
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.scale import GNOMON, parsed, parser_of, states_of

BUCKET = "requests"
REPOSITORY, SOURCE, PLAIN = "repository", "source", "plain"
KINDS = ("GET", "range GET", "PUT", "HEAD", "LIST", "DELETE")

APPEND = """
import sys, warnings, xarray as xr
from obstore.store import from_url
from zarr.storage import ObjectStore
warnings.simplefilter("ignore")
state = xr.open_dataset(sys.argv[1], engine="zarr", decode_times=False, consolidated=False)
target = ObjectStore(from_url(sys.argv[2]))
state.load().to_zarr(target, append_dim="time", consolidated=False)
"""


# A store that counts -----------------------------------------------------------------------------


def kind_of(request: dict[str, Any]) -> str:
    """Return what a bill calls a request."""
    method, query = request["REQUEST_METHOD"], request.get("QUERY_STRING", "")
    if method == "POST" and re.search(r"(^|&)delete(=|&|$)", query):
        return "DELETE"
    if method == "GET" and "list-type" in query:
        return "LIST"
    return "range GET" if method == "GET" and "HTTP_RANGE" in request else str(method)


def part_of(request: dict[str, Any], body: bytes) -> str:
    """Return which folder of the bucket a request is about."""
    said = f"{request['PATH_INFO']} {request.get('QUERY_STRING', '')} {body[:4096]!r}"
    return next((part for part in (REPOSITORY, SOURCE, PLAIN) if part in said), "")


class Counting:
    """An S3 service that counts the requests it answers, and answers one at a time.

    Two conditional puts at once may both succeed in moto, which looks first and then stores.
    """

    def __init__(self, service: Callable[..., Iterable[bytes]]) -> None:
        self._service = service
        self._turn = Lock()
        self.counts: Counter[tuple[str, str]] = Counter()
        """By part of the bucket and kind."""

    def __call__(self, request: dict[str, Any], respond: Any) -> Iterable[bytes]:
        """Answer, as WSGI has it."""
        with self._turn:
            body = request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
            request["wsgi.input"] = BytesIO(body)
            self.counts[part_of(request, body), kind_of(request)] += 1
            return list(self._service(request, respond))

    def taken(self) -> Counter[tuple[str, str]]:
        """Return what was counted since it was asked before."""
        with self._turn:
            counts, self.counts = self.counts, Counter()
        return counts


@contextmanager
def counting_store() -> Iterator[Counting]:
    """Run an S3 server with a bucket, and tell all clients of this process and its children."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a-key",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_REGION": "us-east-1",
    }
    bucket = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
    try:
        with urllib.request.urlopen(bucket):
            pass
        store.taken()
        yield store
    finally:
        server.shutdown()
        thread.join()


def url_of(part: str) -> str:
    return f"s3://{BUCKET}/{part}"


# What is counted ---------------------------------------------------------------------------------


def put(state: xr.Dataset, part: str, chunks: list[int] | None, *, append: bool) -> None:
    """Write a state to the bucket, or append it, one chunk of time."""
    options: dict[str, Any] = {"consolidated": False}
    if append:
        options["append_dim"] = "time"
    else:
        shapes = {n: (1, *(chunks or v.shape[1:])) for n, v in state.data_vars.items()}
        # Chunks of the axis as of one that is appended to, and not of a single step.
        encoding = {n: {"chunks": s} for n, s in ({"time": (1024,)} | shapes).items()}
        options |= {"encoding": encoding, "zarr_format": 3}
    state.to_zarr(ObjectStore(from_url(url_of(part))), **options)


class Trial:
    """What commands asked, one run after the other."""

    def __init__(self, store: Counting, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self.asked: dict[str, list[Counter[tuple[str, str]]]] = {}

    def program(self, what: str, *command: str) -> Any:
        """Run a process, count what it asks under a name, and return what it printed as JSON."""
        self._store.taken()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{what}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        self.asked.setdefault(what, []).append(self._store.taken())
        return json.loads(done.stdout or "{}")

    def gnomon(self, what: str, command: str, *options: str) -> Any:
        """Run a command on the repository."""
        return self.program(what, *GNOMON, command, url_of(REPOSITORY), *options, "--json")

    def go_on(self, state: xr.Dataset) -> None:
        """Append a state to a plain dataset, and capture it, which the source holds by now."""
        one = self._folder / "state.zarr"
        state.to_zarr(one, mode="w", consolidated=False, zarr_format=3)
        append = [sys.executable, "-c", APPEND, str(one), url_of(PLAIN)]
        self.program("plain Zarr append", *append)
        learnt = self.gnomon("update", "update")["refit"]
        what = "update that learns anew" if learnt else "update that rolls forward"
        self.asked.setdefault(what, []).extend(self.asked.pop("update"))

    def look(self) -> None:
        """Run what finds nothing new, what looks, a restore, and a prune of all but two states."""
        self.gnomon("update, nothing new", "update")
        last = self.gnomon("status", "status")["last"]
        self.gnomon("points", "points", "--at", last)
        to = str(self._folder / "restored.zarr")
        self.gnomon("restore of one point", "restore", "--at", last, "--to", to)
        self.gnomon("forget", "forget", "--keep-last", "2")
        self.gnomon("prune", "prune", "--grace", "0")


def measure(options: argparse.Namespace, folder: Path, store: Counting) -> dict[str, Any]:
    """Return all figures."""
    states, count = states_of(options)
    history = count - options.updates
    if history < 1:
        raise SystemExit(f"found {count} states, expected more than {options.updates} updates")
    trial = Trial(store, folder)
    for number, state in enumerate(states):
        put(state, SOURCE, options.chunk, append=number > 0)
        if number < history:
            put(state, PLAIN, options.chunk, append=number > 0)
        if number == history - 1:
            line = ("init", url_of(REPOSITORY), url_of(SOURCE), "--json")
            trial.program("init", *GNOMON, *line)
            trial.gnomon("first update", "update")
        elif number >= history:
            trial.go_on(state)
    before = stored()
    trial.look()
    return {
        "captures before": history,
        "requests": {what: summary(each) for what, each in trial.asked.items()},
        "objects removed by the prune": len(before - stored()),
    }


def stored() -> set[str]:
    """Return the names of the repository's objects."""
    listing = obstore.list(from_url(url_of(REPOSITORY)))
    return {item["path"] for batch in listing for item in batch}


def summary(counts: list[Counter[tuple[str, str]]]) -> dict[str, float]:
    """Return medians of requests by kind and of all, the most, and those to the source."""
    asked = [
        Counter({kind: n for (part, kind), n in count.items() if part != SOURCE})
        for count in counts
    ]
    of_source = [sum(n for (part, _), n in c.items() if part == SOURCE) for c in counts]
    return {kind: median(c[kind] for c in asked) for kind in KINDS} | {
        "all": median(c.total() for c in asked),
        "most": max(c.total() for c in asked),
        "source": median(of_source),
    }


def main() -> None:
    """Print the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--updates", type=int, default=3, help="states that arrive late (3)")
    options = parsed(parser)
    with (
        tempfile.TemporaryDirectory() as name,
        warnings.catch_warnings(),
        counting_store() as store,
    ):
        warnings.simplefilter("ignore")
        figures = measure(options, Path(name), store)
    if options.json:
        print(json.dumps(figures))
        return
    rows = figures.pop("requests")
    print(f"{'requests':28}" + "".join(f"{kind:>11}" for kind in next(iter(rows.values()))))
    for what, counts in rows.items():
        print(f"{what:28}" + "".join(f"{n:11g}" for n in counts.values()))
    for what, number in figures.items():
        print(f"{what:34}{number}")


if __name__ == "__main__":
    main()
