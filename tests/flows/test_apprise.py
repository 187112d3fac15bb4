"""Alerts through Apprise: each once, by one process, and no secret is told."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gnomon.flows.settings import Settings, named_urls
from gnomon.storage.errors import InvalidInput, Unavailable
from gnomon.validations.alerts import Refused
from gnomon.validations.apprising import AppriseAlert, AppriseProcess
from tests.cases import HISTORY, Case
from tests.flows.test_channels import TOKEN, struck, update
from tests.gnomon.test_cli import run
from tests.validations.test_alerts import ALERT

__all__ = ["struck"]


class Service(ThreadingHTTPServer):
    """Keeps what is posted by path; answers a path as it is told to."""

    daemon_threads = True
    got: list[tuple[str, dict[str, Any]]]
    codes: dict[str, int]
    held: threading.Event

    def url(self, path: str) -> str:
        return f"json://me:{TOKEN}@127.0.0.1:{self.server_port}/{path}/{TOKEN}"

    def count(self, path: str) -> int:
        return sum(p == f"/{path}/{TOKEN}" for p, _ in self.got)


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path.rstrip("/"), body))
        if "/held/" in self.path:
            self.server.held.wait(60)
        code = self.server.codes.get(self.path.split("/")[1], 200)
        self.send_error(code, f"no {self.path} here") if code >= 400 else self.send_response(code)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), _Handler) as server:
        server.got, server.codes, server.held = [], {}, threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.held.set()
        server.shutdown()
        thread.join()


def holders(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_apprise_sends_each_alert_once_and_tells_no_secret(
    struck: Case,
    service: Service,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One service is down: the other is not told twice, and the update is done."""
    apprise = f"desk={service.url('desk')}\nteam={service.url('team')}"
    service.codes["team"] = 503
    told = ""
    with caplog.at_level(logging.DEBUG):
        for expected in ((2, 1), (2, 2), (2, 4), (2, 4)):
            report = update(struck, apprise=apprise, alerts=struck.folder / "a.jsonl")
            told += str(report) + json.dumps(report.to_json())
            told += json.dumps(struck.open().status())
            assert (service.count("desk"), service.count("team")) == expected
            if expected == (2, 1):
                assert report.due is not None
                assert [(a["channel"], a["error"]) for a in report.alerts_unsent] == [
                    (
                        "team",
                        "the json:// service of 'team' did not take the alert (it answered 503); "
                        "check its URL and the service",
                    )
                ] * 2
            if expected == (2, 2):
                service.codes.clear()
    assert report.alerts_unsent == []
    titles = {body["title"] for _, body in service.got}
    assert titles == {"sst at 2001-01-25T00:00:00: values far from what was expected"}
    assert {body["type"] for _, body in service.got} == {"failure"}
    printed = capfd.readouterr()
    assert "action=team" in caplog.text
    assert TOKEN not in told + caplog.text + printed.out + printed.err
    assert holders(struck.folder) == []
    record = next(r for r in struck.open().stored.records[::-1] if r.kind == "capture")
    assert record.body["report"]["alerts"] == ["log", "file", "desk", "team"]


def test_the_command_line_sends_through_apprise(
    struck: Case,
    service: Service,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service.codes["alone"] = 404
    monkeypatch.setenv("GNOMON_APPRISE", service.url("alone"))
    code, out, err = run(capsys, "update", "repository")
    assert code == 0
    assert "alert not sent: apprise, sst at 2001-01-25T00:00:00: the json:// service" in out
    assert service.count("alone") == 1
    assert TOKEN not in out + err
    service.codes.clear()
    run(capsys, "update", "repository")
    run(capsys, "update", "repository")
    assert service.count("alone") == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [(400, Refused), (413, Refused), (302, Unavailable), (401, Unavailable), (503, Unavailable)],
)
def test_an_answer_about_one_alert_is_told_from_one_about_all(
    service: Service, code: int, kind: type[Exception]
) -> None:
    service.codes["x"] = code
    with pytest.raises(Unavailable, match=f"it answered {code}") as failure:
        AppriseAlert(service.url("x"))(ALERT)
    assert type(failure.value) is kind


def test_a_service_that_does_not_answer_is_not_waited_for(service: Service) -> None:
    channel = AppriseAlert(service.url("held"))
    vars(channel)["_timeout_s"] = 3
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="timed out") as failure:
        channel(ALERT)
    assert time.monotonic() - begun < 20
    assert service.count("held") == 1
    assert TOKEN not in str(failure.value)


def processes() -> list[int]:
    """Return the processes that know Apprise, of this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
            if b"apprise_process" in path.read_bytes() and int(parent) == os.getpid():
                found.append(int(path.parent.name))
    return found


def test_one_process_sends_for_all_urls_and_ends_with_the_update(
    struck: Case, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[float] = []
    start = AppriseProcess._start

    def counted(process: AppriseProcess) -> Any:
        starts.append(time.monotonic())
        return start(process)

    monkeypatch.setattr(AppriseProcess, "_start", counted)
    names = ("desk", "team", "ops")
    report = update(struck, apprise=" ".join(f"{n}={service.url(n)}" for n in names))
    assert report.alerts_unsent == []
    assert [service.count(name) for name in names] == [2, 2, 2]
    assert len(starts) == 1
    assert processes() == []


def test_a_service_that_hangs_holds_up_nothing_else_and_leaves_no_process(
    struck: Case, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = AppriseAlert.__init__
    service.codes["poor"] = 500

    def hasty(channel: AppriseAlert, *arguments: Any) -> None:
        made(channel, *arguments)
        if channel.name == "held":
            vars(channel)["_timeout_s"] = 2

    monkeypatch.setattr(AppriseAlert, "__init__", hasty)
    urls = " ".join(f"{name}={service.url(name)}" for name in ("held", "poor", "desk"))
    report = update(struck, apprise=urls)
    assert report.due is not None
    assert (service.count("held"), service.count("desk")) == (1, 2)
    told = {alert["channel"]: alert["error"] for alert in report.alerts_unsent}
    assert set(told) == {"held", "poor"}
    assert "(timed out)" in told["held"]
    assert "(it answered 500)" in told["poor"]
    assert processes() == []


def test_the_process_ends_with_who_asks_it_however_that_ends(service: Service) -> None:
    """Even while it waits for a service."""
    program = (
        "import os, sys, threading, time\n"
        "from gnomon.validations.apprising import AppriseProcess\n"
        "process = AppriseProcess()\n"
        "message = {'url': sys.argv[1], 'title': 't', 'body': 'b', 'type': 'info'}\n"
        "thread = threading.Thread(target=process.ask, args=(message, 60), daemon=True)\n"
        "thread.start()\n"
        "while not process._process: time.sleep(0.01)\n"
        "print(process._process.pid, flush=True)\n"
        "sys.stdin.readline()\n"
        "os._exit(9)\n"
    )
    command = [sys.executable, "-c", program, service.url("held")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        pid = int(asking.stdout.readline())
        until = time.monotonic() + 60
        while not service.count("held") and time.monotonic() < until:
            time.sleep(0.05)
        assert service.count("held") == 1
        asking.communicate(b"go\n")
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break  # nobody in this container may take it away
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_a_url_that_apprise_does_not_know_is_refused_and_not_told(struck: Case) -> None:
    for url in (f"nonsense://{TOKEN}", f"mailto://u:{TOKEN}@127.0.0.1:9?to=a@b.c"):
        with pytest.raises(InvalidInput, match="Apprise knows no such URL") as refusal:
            update(struck, apprise=url)
        assert TOKEN not in str(refusal.value)
    assert len(struck.open().stored.captured) == HISTORY


def test_without_apprise_one_line_says_how_to_install_it(
    struck: Case,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gnomon.validations.apprising.find_spec", lambda _: None)
    monkeypatch.setenv("GNOMON_APPRISE", f"json://127.0.0.1/{TOKEN}")
    code, out, err = run(capsys, "update", "repository")
    assert (code, out) == (2, "")
    assert "pip install 'gnomon[alerts]'" in err
    assert err.count("\n") == 1
    assert TOKEN not in err


def test_urls_have_names() -> None:
    assert named_urls("json://h/x") == {"apprise": "json://h/x"}
    text = " a=mailtos://u:p@h?to=b,c\n  json://h/x?a=b://c \tteam=slack://a/b/c\n"
    assert named_urls(text) == {
        "a": "mailtos://u:p@h?to=b,c",
        "apprise": "json://h/x?a=b://c",
        "team": "slack://a/b/c",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("json://h/TOKEN json://h/TOKEN", "entry 2 has the name of another"),
        ("a=json://h/TOKEN a=json://h/TOKEN", "entry 2 has the name of another"),
        ("Ops=json://h/TOKEN", "entry 1 has no valid name"),
        ("=json://h/TOKEN", "entry 1 has no valid name"),
        ("TOKEN", "entry 1 is no URL"),
        ("json://h/TOKEN, TOKEN", "entry 2 is no URL"),
        ("  ", "found blanks"),
    ],
)
def test_urls_that_are_none_are_not_told(text: str, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected) as refusal:
        Settings(apprise=text)
    assert "TOKEN" not in str(refusal.value)
