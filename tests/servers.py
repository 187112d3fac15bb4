"""Object stores on this machine for tests: two S3 servers, and a proxy that fails on demand.

The servers are real processes on free ports of 127.0.0.1; their data lie in a temporary folder and
go with them.  Nothing here knows what Gnomon stores.
"""

import json
import random
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from http.client import HTTPConnection, HTTPException, parse_headers
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

__all__ = [
    "BUCKET",
    "Fault",
    "Proxy",
    "Server",
    "moto",
    "proxied",
    "seaweedfs",
    "seaweedfs_program",
]

BUCKET = "gnomon"
KEY, SECRET = "test-key", "test-secret"
HOST = "127.0.0.1"
PARTS = ("master", "volume", "filer", "s3")
"""What SeaweedFS is made of; each listens for HTTP and for gRPC."""

# moto looks whether a key exists and then stores it, each request in a thread of its own: two
# conditional puts at once may both succeed.  A real store decides between them; so does a lock.
MOTO = """
import sys
from threading import Lock
from moto import server

class OneAtATime(server.DomainDispatcherApplication):
    turn = Lock()

    def __call__(self, *request):
        with self.turn:
            return super().__call__(*request)

server.DomainDispatcherApplication = OneAtATime
server.main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Server:
    """An S3 service with one bucket, `BUCKET`."""

    port: int
    """Where it listens, on 127.0.0.1."""

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{HOST}:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return the variables from which a client learns of this service."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",  # without it every request fails with "builder error"
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def store(self) -> S3Store:
        """Return the bucket, whatever the environment says."""
        return S3Store(
            BUCKET,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )


@contextmanager
def moto() -> Iterator[Server]:
    """Run moto, an S3 in memory."""
    (port,) = _free_ports(1)
    command = [sys.executable, "-c", MOTO, "-H", HOST, "-p", str(port)]
    with (
        tempfile.TemporaryDirectory(prefix="moto-") as folder,
        _running(command, Path(folder), port) as server,
    ):
        yield server


def seaweedfs_program() -> str | None:
    """Return the path of the program of SeaweedFS, or None if it is not installed."""
    return shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")


@contextmanager
def seaweedfs() -> Iterator[Server]:
    """Run SeaweedFS, an object store on disk, in one process; :func:`seaweedfs_program` is there.

    Yields
    ------
    Server
        It verifies signatures, so that a proxy may not change the headers of a request.
    """
    program = seaweedfs_program()
    assert program is not None
    parts = [f"{part}.port{kind}" for part in PARTS for kind in ("", ".grpc")]
    ports = dict(zip(parts, _free_ports(len(parts)), strict=True))
    with tempfile.TemporaryDirectory(prefix="seaweedfs-", ignore_cleanup_errors=True) as folder:
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        identity = {"name": "test", "credentials": credentials, "actions": actions}
        config = Path(folder, "s3.json")
        config.write_text(json.dumps({"identities": [identity]}))
        command = [
            *(program, "server", f"-dir={folder}", f"-ip={HOST}", f"-ip.bind={HOST}"),
            *(f"-{name}={port}" for name, port in ports.items()),
            *("-filer", "-s3", f"-s3.config={config}", "-s3.iam=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-master.telemetry=false", "-master.electionTimeout=1s"),
            *("-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0"),
        ]
        try:
            with _running(command, Path(folder), ports["s3.port"]) as server:
                yield server
        finally:
            for port in ports.values():  # it leaves its sockets behind, in a place of its own
                for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    path.unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens, below those that the system lends to clients."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1000):
        with socket.socket() as listener:
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no port is free")


@contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator[Server]:
    server = Server(port)
    output = folder / "output"
    with open(output, "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        )
    try:
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail(f"{command[0]} ended: {output.read_text()[-2000:]}")
            if _make_bucket(server):
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"{command[0]} did not start in a minute: {output.read_text()[-2000:]}")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:  # what it would save is not wanted
            process.kill()
            process.wait()


def _make_bucket(server: Server) -> bool:
    """Tell whether the service is up, and now has the bucket with room for objects."""
    url = obstore.sign(server.store(), "PUT", "", timedelta(minutes=1))
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=10):
            pass
        obstore.put(server.store(), "ready", b"yes")
    except (OSError, obstore.exceptions.BaseError):
        return False
    return True


@dataclass
class Fault:
    """What happens to some of the requests that pass a proxy."""

    method: str = ""
    """Method of the requests that it meets; empty: any."""
    part: str = ""
    """What their path contains."""
    skip: int = 0
    """How many such requests pass unharmed first."""
    count: int = 1
    """How many it meets after that."""
    lasts: bool = False
    """Whether it meets every request, of any method and path, after the first that it met."""
    reaches: bool = False
    """Whether the server still sees the request, and only its reply is lost."""
    status: int | None = None
    """The answer in place of the server's; None: the connection breaks."""
    hits: int = 0
    """How many it met."""

    def meets(self, method: str, path: str) -> bool:
        """Tell whether this request is one of them, and count it."""
        fits = self.method in ("", method) and self.part in path
        if not (self.lasts and self.hits):
            if not fits or self.hits == self.count:
                return False
            if self.skip > 0:
                self.skip -= 1
                return False
        self.hits += 1
        return True


class Proxy(socketserver.ThreadingTCPServer):
    """Passes requests on to a server, but for those that a fault meets."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, server: Server) -> None:
        super().__init__((HOST, 0), _Relay)
        self.upstream = server
        self.front = Server(self.server_address[1])
        """What clients take for the server."""
        self.ignores_conditions = False
        """Whether the header of a conditional put is taken out (a signature would notice)."""
        self.seen: list[tuple[str, str]] = []
        """Method and path of each request."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """Fail for the length of a block; of several faults the first that meets a request acts."""
        with self._lock:
            self._faults = list(faults)
        try:
            yield
        finally:
            with self._lock:
                self._faults = []

    def notice(self, method: str, path: str) -> Fault | None:
        """Note a request and return what is to happen to it."""
        with self._lock:
            self.seen.append((method, path))
            return next((f for f in self._faults if f.meets(method, path)), None)

    def shutdown_request(self, request: Any) -> None:
        """Close without the polite half-close, which would hide a reset from the client."""
        request.close()


@contextmanager
def proxied(server: Server) -> Iterator[Proxy]:
    """Run a proxy in front of a server."""
    with Proxy(server) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


class _Relay(socketserver.StreamRequestHandler):
    """The requests of one connection, and their replies."""

    server: Proxy
    disable_nagle_algorithm = True

    def handle(self) -> None:
        upstream = HTTPConnection(HOST, self.server.upstream.port, timeout=30)
        with closing(upstream), suppress(OSError, HTTPException):  # either end may hang up
            while line := self.rfile.readline():
                if not self._pass_on(upstream, line):
                    break

    def _pass_on(self, upstream: HTTPConnection, line: bytes) -> bool:
        """Answer one request; return whether the connection goes on."""
        headers = parse_headers(self.rfile)
        body = self.rfile.read(int(headers.get("Content-Length", "0")))
        method, path, _ = line.decode().split()
        fault = self.server.notice(method, path)
        if fault is None or fault.reaches:
            reply = self._ask(upstream, method, path, headers, body)
        if fault is None:
            self.wfile.write(reply)
        elif fault.status is not None:
            self.wfile.write(_refusal(fault.status))
        elif not fault.reaches:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return fault is None

    def _ask(
        self, upstream: HTTPConnection, method: str, path: str, headers: Message, body: bytes
    ) -> bytes:
        if self.server.ignores_conditions:
            del headers["If-None-Match"]
        upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body)
        response = upstream.getresponse()
        data = response.read()
        head = [f"HTTP/1.1 {response.status} {response.reason}"]
        dropped = {"connection", "transfer-encoding"}
        if method != "HEAD":  # its length is that of the body that it leaves out
            dropped.add("content-length")
            head.append(f"Content-Length: {len(data)}")
        head += [f"{k}: {v}" for k, v in response.getheaders() if k.lower() not in dropped]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + data


def _refusal(status: int) -> bytes:
    code = {409: "ConditionalRequestConflict", 500: "InternalError", 503: "SlowDown"}[status]
    body = f"<Error><Code>{code}</Code><Message>made up by a test</Message></Error>"
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
