"""Nothing that a run leaves behind holds a secret: every file is searched for those it knew."""

import base64
import gzip
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.gnomon.test_cli import strict

pytestmark = pytest.mark.prefect

SECRETS = {
    "password": "Xq7/Vw+Z2pLr9TcY",
    "signature": "hG4sK8dN1bM6wQ3z%3D",
    "webhook": "T8Jf2Rk5Bn9Ux4Lq7Mw1",
    "apprise path": "pZ6Yc3Wd8Hs1Ge5Kv0Nb",
    "apprise password": "uE4Jm7Ql2Xf9Ro6Ti3Aw",
    "access key": "AKIAQ2W4E6R8T0Y1U3I5",
    "secret key": "c9VbN3/mAs7DfG+hJ1kL5zXq",
}
WINDOW = 9
"""Letters in a row that give a secret away, whole or in parts."""


def needles(secret: str) -> dict[bytes, str]:
    """Return what a secret looks like, in pieces: as it is, encoded, in base64 and in hex."""
    forms = {"plain": secret, "hexadecimal": secret.encode().hex()}
    forms["encoded"] = quote(secret, safe="")
    forms["encoded twice"] = quote(forms["encoded"], safe="")
    for shift in range(3):
        # What stands before it in what was encoded decides on the letters; those at the ends vary.
        coded = base64.b64encode(b"x" * shift + secret.encode()).decode()
        forms[f"base64, {shift} on"] = coded.rstrip("=")[2:-2]
    found: dict[bytes, str] = {}
    for name, text in forms.items():
        for start in range(len(text) - WINDOW + 1):
            found.setdefault(text[start : start + WINDOW].encode(), name)
    return found


def contents(path: Path) -> Iterator[bytes]:
    """Give what a file holds: its bytes, unpacked too, and the rows of a database."""
    data = path.read_bytes()
    yield data
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    if data[:15] == b"SQLite format 3":
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            yield "\n".join(database.iterdump()).encode()


def leaks(folder: Path, secrets: dict[str, str]) -> list[str]:
    """Return every file below a folder that holds a piece of a secret, and which."""
    wanted = [
        (n, f"{name} ({form})") for name, s in secrets.items() for n, form in needles(s).items()
    ]
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        for data in contents(path):
            kinds = {kind for needle, kind in wanted if needle in data}
            found += [f"{path.relative_to(folder)}: {kind}" for kind in sorted(kinds)]
    return found


@dataclass
class Servers:
    """The source behind a signature, and the webhook, both in one server that can misbehave."""

    folder: Path
    port: int = 0
    modes: dict[str, str] = field(default_factory=lambda: {"source": "good", "webhook": "up"})
    authorised: int = 0
    """Requests that brought the signature."""
    posted: int = 0
    apprised: int = 0

    @property
    def source(self) -> str:
        password, signature = (quote(SECRETS["password"], safe=""), SECRETS["signature"])
        return f"http://me:{password}@127.0.0.1:{self.port}/source.zarr?sv=1&sig={signature}"

    @property
    def webhook(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/{SECRETS['webhook']}"

    @property
    def apprise(self) -> str:
        password, path = SECRETS["apprise password"], SECRETS["apprise path"]
        return f"team=json://me:{password}@127.0.0.1:{self.port}/{path}"


def handler(servers: Servers) -> type[SimpleHTTPRequestHandler]:
    expected = base64.b64encode(f"me:{SECRETS['password']}".encode()).decode()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(servers.folder))

        def do_GET(self) -> None:
            parts = self.path.split("/")
            if parts[1] == "control":
                servers.modes[parts[2]] = parts[3]
                self.send_response(200)
                self.end_headers()
                return
            right = f"sig={SECRETS['signature']}" in self.path
            if servers.modes["source"] == "gone":
                self.close_connection = True
                self.connection.close()
            elif servers.modes["source"] == "denied" or not right:
                self.send_error(401, f"no access to {self.path}", f"Basic {expected}")
            else:
                servers.authorised += 1
                super().do_GET()

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if servers.modes["webhook"] == "down":
                self.close_connection = True
                self.connection.close()
                return
            servers.posted += self.path.endswith(SECRETS["webhook"])
            servers.apprised += SECRETS["apprise path"] in self.path
            if servers.modes["webhook"] == "rude":
                self.send_error(404, f"nothing at {self.path}")
                return
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Servers, str]]:
    """Return a folder with all that runs have left, the servers, and the output."""
    folder = tmp_path_factory.mktemp("left")
    servers = Servers(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(servers)) as server:
        servers.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        environment = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_")} | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_LOGGING_LEVEL": "DEBUG",
            "PREFECT_LOGGING_INTERNAL_LEVEL": "DEBUG",
            "GNOMON_WEBHOOK": servers.webhook,
            "GNOMON_APPRISE": servers.apprise,
            "AWS_ACCESS_KEY_ID": SECRETS["access key"],
            "AWS_SECRET_ACCESS_KEY": SECRETS["secret key"],
            "AWS_REGION": "us-east-1",
            "TMPDIR": str(folder),
        }
        control = f"http://127.0.0.1:{servers.port}/control"
        arguments = [str(folder), servers.source, servers.webhook, control]
        with open(folder / "output.log", "wb") as output:
            subprocess.run(
                [sys.executable, "-m", "tests.flows.leaving", *arguments],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
                timeout=600,
            )
        servers.modes.update(source="good", webhook="up")
        command_line(folder, servers, environment)
        yield folder, servers, (folder / "output.log").read_text()
        server.shutdown()


PROGRAM = """
from gnomon.cli import main
from tests.flows.leaving import allow_http
allow_http()
main()
"""


def command_line(folder: Path, servers: Servers, environment: dict[str, str]) -> None:
    """Run commands that know secrets, and keep what they print."""
    with_secret = f"s3://{SECRETS['access key']}:{SECRETS['secret key']}@bucket/x"
    commands: dict[str, list[str]] = {
        "status": ["status", "repository", "--json"],
        "update": ["update", "repository", "--compare", "0"],
        "init": ["init", "new", servers.source],
        "init S3": ["init", "new", with_secret, "--json"],
        "elsewhere": ["status", with_secret],
        "hindcast": ["hindcast", f"{servers.source}&x=1", "--variable", "salt"],
        "to": ["restore", "repository", "--at", "2001-01-05", "--to", f"{with_secret}.zarr"],
        "docs": ["update", "repository", "--docs", with_secret],
    }
    for name, arguments in commands.items():
        with open(folder / f"{name}.out", "wb") as out, open(folder / f"{name}.err", "wb") as err:
            subprocess.run(
                [sys.executable, "-c", PROGRAM, *arguments],
                cwd=folder,
                env=environment | {"GNOMON_DEBUG": "1", "GNOMON_WEBHOOK": servers.webhook},
                stdout=out,
                stderr=err,
                check=False,
                timeout=120,
            )


def test_the_runs_did_what_they_should(left: tuple[Path, Servers, str]) -> None:
    """Else it would say nothing that no secret is found."""
    _, servers, output = left
    assert servers.authorised > 20
    assert servers.posted >= 2
    assert servers.apprised >= 2
    for line in (
        "init failed with InvalidInput",
        "backfill came to",
        "update, webhook up came to",
        "update, webhook rude came to",
        "update, webhook down came to",
        "update, wrong credentials failed with ",
        "update, source gone failed with Unavailable",
        "restore came to",
        "update elsewhere failed with InvalidInput",
        "restore elsewhere failed with InvalidInput",
        "scheduler failed with InvalidInput",
    ):
        assert line in output, line
    assert len(re.findall("deployment refused", output)) == 2
    assert "deployment took" not in output


def test_what_is_searched_is_there(left: tuple[Path, Servers, str]) -> None:
    """What is no secret is found where secrets would be: the search reaches everything."""
    folder, servers, _ = left
    seen = "\n".join(
        leaks(folder, {"place": f"{folder}/repository", "source": f"{servers.port}/source.zarr"})
    )
    assert "prefect/prefect.db: place (plain)" in seen
    assert "output.log: source (plain)" in seen
    assert "status.out: source (plain)" in seen
    with sqlite3.connect(f"file:{folder / 'prefect' / 'prefect.db'}?mode=ro", uri=True) as database:
        (logs,) = database.execute("select count(*) from log where level >= 40").fetchone()
        (states,) = database.execute(
            "select count(*) from flow_run_state where message like '%127.0.0.1%'"
        ).fetchone()
    assert logs > 2
    assert states > 0
    assert (folder / "alerts.jsonl").stat().st_size
    assert any((folder / "docs").rglob("*.html"))
    strict((folder / "status.out").read_text())


def test_no_secret_is_left_behind(left: tuple[Path, Servers, str]) -> None:
    folder, _, _ = left
    # The repository is one of before: its settings hold what it was made with, and nothing else.
    before = {"repository/gnomon.json", "repository/copies/gnomon.json"}
    found = [leak for leak in leaks(folder, SECRETS) if leak.partition(":")[0] not in before]
    assert found == []


def test_the_search_finds_secrets_in_every_form(tmp_path: Path) -> None:
    secret = SECRETS["secret key"]
    forms = {
        "plain": secret.encode(),
        "half": secret[8:20].encode(),
        "packed": gzip.compress(f"x {secret} y".encode()),
        "encoded": quote(secret, safe="").encode(),
        "basic": base64.b64encode(f"some one:{secret}".encode()),
        "hex": secret.encode().hex().encode(),
    }
    for name, data in forms.items():
        (tmp_path / name).write_bytes(b"before " + data if name != "packed" else data)
    with sqlite3.connect(tmp_path / "database") as database:
        database.execute("create table t (x text)")
        database.execute("insert into t values (?)", (f'{{"a": "{secret}"}}',))
    database.close()
    found = {leak.partition(":")[0] for leak in leaks(tmp_path, {"it": secret})}
    assert found == {*forms, "database"}
