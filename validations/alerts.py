"""Tells people and programs about incidents; a channel that fails never stops an update.

Which alerts are due, and which were sent, is the flows' business, as are the events of Prefect.
"""

import errno
import json
import logging
import os
import re
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPException
from inspect import iscoroutine
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from gnomon.storage.checks.check import CRITICAL
from gnomon.storage.entrypoints import FOREIGN
from gnomon.storage.errors import InvalidInput, Unavailable
from gnomon.storage.log.durable import force_name
from gnomon.storage.redaction import one_line
from gnomon.storage.values.documents import NONSENSE, parse, text
from gnomon.validations.expectations import Severity
from gnomon.validations.incident import Incident

__all__ = [
    "Alert",
    "AlertAction",
    "AlertFailure",
    "Channel",
    "FileAlert",
    "LogAlert",
    "Refused",
    "WebhookAlert",
    "alert_of",
    "emit",
    "refusal_of",
]

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""How long any action may take for one alert."""
_SHOWN_CHUNKS = 10
_TOLD_CHUNKS = 1000
"""Of an incident: Prefect drops events of 1.5 MB without a word, and webhooks have limits too."""
_BLANK = re.compile(r"[\s\0-\x20\x7f]")
_OF_NO_ALERT = {401, 403, 404, 405, 407, 410, 429, 502, 503, 504}
"""Answers of HTTP that any alert would get: of the address, the key, or a server that is busy."""


@dataclass(frozen=True, slots=True)
class Alert:
    """What is told about one incident."""

    severity: Severity
    """Of the incident."""
    title: str
    """One line: what happened to which variable, when."""
    text: str
    """A few lines: where, what was violated, what to do."""
    incident: Mapping[str, Any]
    """The incident as JSON values, with the first thousand of its chunks."""
    id: str = ""
    """The same each time it is sent: a receiver can drop what it has seen."""
    chunk_count: int = 0
    """How many chunks the incident has."""

    def to_json(self) -> dict[str, Any]:
        """Return strict JSON values."""
        return {
            "id": self.id,
            "severity": self.severity,
            "title": self.title,
            "text": self.text,
            "chunk_count": self.chunk_count,
            "incident": dict(self.incident),
        }


@dataclass(frozen=True, slots=True)
class AlertFailure:
    """An alert that one action could not pass on."""

    action: str
    """Name of the action, or of its type: how it prints may tell what it keeps secret."""
    title: str
    """Title of the alert."""
    error: str
    """What went wrong."""
    is_refusal: bool = False
    """It was this alert that was refused: the next may be taken."""


class AlertAction(Protocol):
    """Passes an alert on; raises if it cannot."""

    def __call__(self, alert: Alert) -> None:
        """Pass the alert on."""


class Channel(AlertAction, Protocol):
    """An action that the outbox can note by name: each alert is sent through it once.

    Raise `Refused` where it was this alert that is not taken: the next is tried.  After any other
    error the channel is left alone until the next run.  The first 200 letters of an error's text
    are logged, reported and shown, so it must tell no secret.
    """

    @property
    def name(self) -> str:
        """What the repository notes; 1 to 32 letters a-z.

        It must be the same in every run: under a new name, what is due under the old one is
        never sent.
        """


class LogAlert:
    """Writes alerts to the log: critical ones as errors, others as warnings."""

    name = "log"

    def __repr__(self) -> str:
        return "LogAlert()"

    def __call__(self, alert: Alert) -> None:
        """Write the alert to the log."""
        level = logging.ERROR if alert.severity == CRITICAL else logging.WARNING
        logger.log(
            level, "alert severity=%s title=%r text=%r", alert.severity, alert.title, alert.text
        )


class FileAlert:
    """Appends alerts to a file, one JSON object a line; one that is there already is left alone.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made with the first alert.
    """

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = (0, 0)
        self._read = 0
        self._ids: set[str] = set()

    def __repr__(self) -> str:
        return f"FileAlert({str(self._path)!r})"

    def __call__(self, alert: Alert) -> None:
        """Append the alert."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(alert.to_json(), allow_nan=False).encode() + b"\n"
        with self._path.open("a+b") as file:
            is_torn = self._look(file)
            if alert.id and alert.id in self._ids:
                return
            # A writer that was stopped may have left half a line.
            file.write(b"\n" + line if is_torn else line)
            file.flush()
            try:
                os.fsync(file.fileno())
            except OSError as error:
                if error.errno != errno.EINVAL:  # what is no file, such as /dev/null
                    raise
        with suppress(OSError):  # some file systems force no folders
            force_name(self._path)

    def _look(self, file: BinaryIO) -> bool:
        """Read what was added to the file since the last alert; tell if it ends in half a line."""
        there = os.fstat(file.fileno())
        if (there.st_dev, there.st_ino) != self._file or there.st_size < self._read:
            self._file, self._read, self._ids = (there.st_dev, there.st_ino), 0, set()
        file.seek(self._read)
        for line in file:
            if not line.endswith(b"\n"):
                return True
            self._read += len(line)
            with suppress(*NONSENSE):
                self._ids.add(text(parse(line)["id"], "id"))
        return False


class Refused(Unavailable):
    """A receiver answered, and does not take this alert; it may take another."""


def refusal_of(code: int) -> type[Unavailable]:
    """Return what an answer of HTTP means that is none of success: for this alert, or for all."""
    return Unavailable if code in _OF_NO_ALERT else Refused


class Redirected(OSError):
    """A server sends elsewhere; what was posted would be lost on the way."""


class WebhookAlert:
    """Posts alerts as JSON; the key ``text`` is what Slack and its kin show.

    Parameters
    ----------
    url : str
        An http or https address.  Webhook addresses are secrets: only the host is ever printed.
    timeout_s : float
        Seconds that the server may take in all.

    Raises
    ------
    InvalidInput
        The address is not http or https, or has a blank in it.
    """

    name = "webhook"

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        url = url.strip()  # what was read from a file ends with a line
        if _BLANK.search(url):
            raise InvalidInput("the address of a webhook has a blank or a line end in it; mend it")
        try:
            parts = urlsplit(url)
        except ValueError:  # whose text may quote it
            raise InvalidInput("a webhook has an http or https address; change it") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInput(
                f"a webhook has an http or https address, found scheme {parts.scheme!r}; change it"
            )
        # As urllib writes it: what it answers is compared with this.
        self._url = urllib.request.Request(url).full_url
        self._host = parts.hostname
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"WebhookAlert({self._host!r})"

    def __call__(self, alert: Alert) -> None:
        """Post the alert.

        Raises
        ------
        Unavailable
            The server did not take it.
        Refused
            It answered that it does not take this one.
        """
        body = {**alert.to_json(), "text": f"*{alert.title}*\n{alert.text}"}
        try:
            _within(self._timeout_s, partial(self._post, json.dumps(body, allow_nan=False)))
        except (OSError, HTTPException, ValueError) as error:
            reason = _reason(error)
            kind = refusal_of(error.code) if isinstance(error, HTTPError) else Unavailable
            raise kind(
                f"the webhook at {self._host} did not take the alert ({reason}); "
                "check the address and the server"
            ) from None

    def _post(self, body: str) -> None:
        request = urllib.request.Request(
            self._url, data=body.encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
            if response.geturl() != self._url:  # urllib follows a redirect, without the body
                raise Redirected("it redirects elsewhere")


def _within[R](seconds: float, work: Callable[[], R]) -> R:
    """Do something, and return or raise what it does, or TimeoutError if it takes longer in all.

    The limit of a socket is one for each piece that arrives: a server that goes on sending little
    would hold up a run for ever.
    """
    results: list[R] = []
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    # What is logged there belongs to the flow run that waits.  One that hangs must not outlive the
    # program.
    thread = Thread(target=copy_context().run, args=(guarded,), daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise TimeoutError(f"timed out after {seconds:g} s")
    return results[0]


def _reason(error: Exception) -> str:
    """Return why a request failed, in words of ours: a server may repeat the secret address."""
    if isinstance(error, HTTPError):
        return f"it answered {error.code}"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) if isinstance(cause, TimeoutError | Redirected) else type(cause).__name__


def alert_of(incident: Incident, identity: str = "") -> Alert:
    """Return what is told about an incident.

    Parameters
    ----------
    identity
        Of the alert, if it may be sent more than once.
    """
    count = len(incident.chunks)
    places = ", ".join(incident.chunks[:_SHOWN_CHUNKS])
    if count > _SHOWN_CHUNKS:
        places += f" and {count - _SHOWN_CHUNKS} more"
    title = f"{incident.variable} at {incident.valid_time}: {incident.suspected_cause}"
    text = (
        f"{incident.severity}: {count} {'chunk' if count == 1 else 'chunks'} ({places})\n"
        f"violated: {', '.join(incident.expectations)}"
    )
    data = replace(incident, chunks=incident.chunks[:_TOLD_CHUNKS]).to_json()
    return Alert(incident.severity, title, text, data, identity, count)


def emit(alerts: Iterable[Alert], actions: Sequence[AlertAction]) -> list[AlertFailure]:
    """Give every alert to every action and return what failed; never raises for an action.

    One that hangs is not waited for longer than `PATIENCE_S`.
    """
    failures = []
    for alert in alerts:
        for action in actions:
            try:
                answer: object = _within(PATIENCE_S, partial(action, alert))
                if iscoroutine(answer):
                    answer.close()
                    raise TypeError("it is a coroutine, and was not awaited; make it a function")
            except FOREIGN as error:
                reason = one_line(error)
                if isinstance(error, SystemExit | KeyError):  # whose text says too little
                    reason = f"{type(error).__name__}: {reason}"
                is_refusal = isinstance(error, Refused)
                name = str(getattr(action, "name", type(action).__name__))
                failures.append(AlertFailure(name, alert.title, reason, is_refusal))
                logger.warning("alert not sent action=%s error=%s", name, reason)
    return failures
