import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gnomon.storage.errors import InvalidInput
from gnomon.validations.alerts import (
    Alert,
    AlertAction,
    FileAlert,
    LogAlert,
    WebhookAlert,
    alert_of,
    emit,
)
from gnomon.validations.incident import Incident

INCIDENT = Incident("t2m", "2026-01-01", ("0/0", "0/1"), ("plausible",), "critical", "a replay")
ALERT = alert_of(INCIDENT)


class Channel(HTTPServer):
    """Keeps what is posted to ``/secret``, fails at ``/broken`` and redirects at ``/moved``."""

    received: list[dict[str, Any]]


class _Handler(BaseHTTPRequestHandler):
    server: Channel

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/secret":
            self.server.received.append(json.loads(body))
        codes = {"/secret": 200, "/moved": 302, "/bad-request": 400, "/nobody": 404}
        self.send_response(codes.get(self.path, 500))
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def channel() -> Iterator[Channel]:
    with Channel(("127.0.0.1", 0), _Handler) as server:
        server.received = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _url(channel: Channel, path: str) -> str:
    return f"http://127.0.0.1:{channel.server_port}{path}"


def test_an_alert_says_what_where_and_why() -> None:
    assert ALERT.severity == "critical"
    assert ALERT.title == "t2m at 2026-01-01: a replay"
    assert ALERT.text == "critical: 2 chunks (0/0, 0/1)\nviolated: plausible"
    assert Incident.from_json(ALERT.incident) == INCIDENT


def test_an_alert_does_not_list_a_thousand_chunks() -> None:
    chunks = tuple(str(number) for number in range(1000))
    alert = alert_of(Incident("t2m", "2026-01-01", chunks, ("moving",), "warning", "stale"))
    assert "9 and 990 more" in alert.text


def test_what_is_sent_is_never_larger_than_what_is_taken() -> None:
    """The worst damage must not be what is lost: receivers drop what is too large."""
    chunks = tuple(f"{row}/{column}" for row in range(400) for column in range(400))
    alert = alert_of(Incident("t2m", "2026-01-01", chunks, ("moving",), "critical", "stale"))
    told = alert.to_json()
    assert told["chunk_count"] == 160_000
    assert told["incident"]["chunks"] == list(chunks[:1000])
    assert "160000 chunks" in told["text"]
    assert ALERT.to_json()["chunk_count"] == 2
    assert Incident.from_json(told["incident"]).chunks == chunks[:1000]


def test_a_webhook_gets_text_and_incident(channel: Channel) -> None:
    assert emit([ALERT], [WebhookAlert(_url(channel, "/secret"))]) == []
    (body,) = channel.received
    assert body["text"] == f"*{ALERT.title}*\n{ALERT.text}"
    assert Incident.from_json(body["incident"]) == INCIDENT


@pytest.mark.parametrize("written", ["{}\n", " {}\t", "{}\r\n", "{}#general"])
def test_a_webhook_that_took_an_alert_is_believed(channel: Channel, written: str) -> None:
    """However an address is written: an alert that counts as not sent is sent for ever."""
    assert emit([ALERT], [WebhookAlert(written.format(_url(channel, "/secret")))]) == []
    assert len(channel.received) == 1


@pytest.mark.parametrize("inner", [" ", "\n", "\t", "\u00a0", "\0", "\x7f"])
def test_an_address_with_a_blank_in_it_is_refused_and_not_told(inner: str) -> None:
    with pytest.raises(InvalidInput, match="blank") as refusal:
        WebhookAlert(f"https://hooks.example.org/to{inner}ken")
    assert "ken" not in str(refusal.value)


def test_a_file_gets_a_line_for_each_alert(tmp_path: Path) -> None:
    path = tmp_path / "new" / "alerts.jsonl"
    assert emit([ALERT, ALERT], [FileAlert(path)]) == []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [ALERT.to_json()] * 2


def test_half_a_line_in_a_file_is_no_alert(tmp_path: Path) -> None:
    """A writer that was stopped left it, and the next one ended the line."""
    path = tmp_path / "alerts.jsonl"
    torn, other = replace(ALERT, id="aaa-1-0"), replace(ALERT, id="bbb-1-0")
    line = json.dumps(torn.to_json()).encode()
    for part in (line[: line.index(b",")], line[: line.index(b"chunks")], line[:-1]):
        path.write_bytes(part)
        assert emit([other, torn, torn], [FileAlert(path)]) == []
        first, *lines = path.read_bytes().splitlines()
        assert first == part
        assert [json.loads(kept)["id"] for kept in lines] == ["bbb-1-0", "aaa-1-0"]


@pytest.mark.parametrize(
    "there",
    [
        b'{"title": "see \\"id\\": \\"aaa-1-0\\"", "id": "x"}',
        b'{"x": {"id": "aaa-1-0"}}',
        b'["id", "aaa-1-0"]',
        b"[" * 100_000 + b'"id": "aaa-1-0"',
        b'\xff"id": "aaa-1-0"',
    ],
)
def test_only_a_line_that_is_the_alert_counts(tmp_path: Path, there: bytes) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(there + b"\n")
    assert emit([replace(ALERT, id="aaa-1-0")], [FileAlert(path)]) == []
    assert json.loads(path.read_bytes().splitlines()[1])["id"] == "aaa-1-0"


def test_what_is_in_the_file_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark that it was sent is durable: the alert must not be less so."""
    sizes: list[int] = []
    monkeypatch.setattr("os.fsync", lambda file: sizes.append(os.fstat(file).st_size))
    path = tmp_path / "alerts.jsonl"
    assert emit([replace(ALERT, id="aaa-1-0")], [FileAlert(path)]) == []
    assert path.stat().st_size in sizes


def test_the_log_gets_the_severity(caplog: pytest.LogCaptureFixture) -> None:
    warning = Alert("warning", "late", "", {})
    assert emit([ALERT, warning], [LogAlert()]) == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    assert ALERT.title in caplog.text


def test_a_failing_action_stops_nothing_and_tells_no_secret(
    channel: Channel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __call__(self, alert: Alert) -> None:
            raise RuntimeError("out of order")

    actions: list[AlertAction] = [
        Broken(),
        WebhookAlert(_url(channel, "/broken-token")),
        WebhookAlert(_url(channel, "/moved")),
        FileAlert(tmp_path),
        WebhookAlert(_url(channel, "/secret")),
    ]
    failures = emit([ALERT], actions)
    assert len(failures) == 4
    assert len(channel.received) == 1
    assert failures[0].error == "out of order"
    assert "500" in failures[1].error
    assert "redirects" in failures[2].error
    assert {failure.title for failure in failures} == {ALERT.title}
    assert "token" not in caplog.text + str(failures)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "hooks.example.org/x", "https:///x", "http://[to/ken"]
)
def test_a_webhook_is_http(url: str) -> None:
    with pytest.raises(InvalidInput, match="http"):
        WebhookAlert(url)


def test_a_webhook_that_answers_drop_by_drop_is_not_waited_for() -> None:
    """The limit is one for the whole answer: a server that never ends must not hold up a run."""
    end = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(90):
                if end.wait(0.1):
                    return
                self.wfile.write(f"X-{number}: x\r\n".encode())

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Dripping) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        begun = time.monotonic()
        url = f"http://127.0.0.1:{server.server_port}/"
        (failure,) = emit([ALERT], [WebhookAlert(url, timeout_s=0.5)])
        took = time.monotonic() - begun
        end.set()
        server.shutdown()
        thread.join()
    assert took < 5
    assert "timed out" in failure.error
    assert not failure.is_refusal


def test_an_answer_about_one_alert_is_told_from_one_about_all(channel: Channel) -> None:
    for path, is_refusal in (("/broken", True), ("/bad-request", True), ("/nobody", False)):
        (failure,) = emit([ALERT], [WebhookAlert(_url(channel, path))])
        assert failure.is_refusal is is_refusal, failure


@pytest.mark.parametrize("stop", [SystemExit(0), KeyError("x"), ArithmeticError()])
def test_no_channel_ends_the_run(stop: BaseException) -> None:
    """Whatever it raises, the others are told; only what stops the program is let through."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise IndexError

    taken: list[Alert] = []

    def take(alert: Alert) -> None:
        taken.append(alert)

    def leave(alert: Alert) -> None:
        raise stop

    def mumble(alert: Alert) -> None:
        raise Mute

    alert = Alert("critical", "title", "text", {}, "id", 1)
    failures = emit([alert], [leave, mumble, take])
    assert [failure.title for failure in failures] == ["title", "title"]
    assert taken == [alert]
