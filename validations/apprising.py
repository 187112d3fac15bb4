"""Sends alerts through Apprise: mail, Slack, Teams, Matrix and a hundred others, each a URL.

Such a URL is a secret.  Apprise logs it, and so do the libraries it sends with, so all of that
happens in a process of its own, whose output goes nowhere: see `apprise_process`.
"""

import json
import re
import subprocess
import sys
import weakref
from contextlib import suppress
from importlib.util import find_spec
from selectors import EVENT_READ, DefaultSelector
from threading import Lock
from time import monotonic
from typing import Any

from gnomon.storage.checks.check import CRITICAL, WARNING
from gnomon.storage.errors import InvalidInput, Unavailable
from gnomon.validations.alerts import Alert, refusal_of

__all__ = ["AppriseAlert", "AppriseProcess"]

_PROCESS = "gnomon.validations.apprise_process"
_ANSWER = re.compile(rb"(sent|known|unknown|failed)(?: (\d{3}))?\n", re.ASCII)
"""All that is read of what the process writes."""
_TYPES = {CRITICAL: "failure", WARNING: "warning"}


class AppriseProcess:
    """The process that sends for all channels of a run, as loading Apprise takes most of a second.

    It is started when it is first asked, and again after it had to be killed.  It ends with this
    object, or with this program, however that ends.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] | None = None

    def ask(self, message: dict[str, Any], timeout_s: float) -> tuple[str, str]:
        """Return its answer, or what is wrong, and the service's code if told."""
        with self._lock:
            try:
                return self._ask(json.dumps(message).encode() + b"\n", timeout_s)
            except TimeoutError:
                self.close()
                return "timed out", ""
            except OSError as error:
                self.close()
                return f"no process could be started: {error.strerror}", ""

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _ask(self, line: bytes, timeout_s: float) -> tuple[str, str]:
        until = monotonic() + timeout_s
        process = self._process or self._start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: it will answer nothing
            process.stdin.write(line)
        text = _line(process, until)
        answer = _ANSWER.fullmatch(text)
        if answer is None:
            self.close()
            return f"its process ended with code {process.returncode}", ""
        return answer[1].decode(), (answer[2] or b"").decode()

    def _start(self) -> "subprocess.Popen[bytes]":
        # The URL is on no command line: others on the machine can see those.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._process = process
        self._end = weakref.finalize(self, _kill, process)
        return process


def _line(process: "subprocess.Popen[bytes]", until: float) -> bytes:
    """Return the next line that a process writes, or what there is of it when it ends.

    Raises
    ------
    TimeoutError
        It is not written in time.
    """
    assert process.stdout is not None
    text = b""
    with DefaultSelector() as ready:
        ready.register(process.stdout, EVENT_READ)
        while not text.endswith(b"\n"):
            left = until - monotonic()
            if left <= 0 or not ready.select(left):
                raise TimeoutError
            piece = process.stdout.read(100)
            if not piece:
                process.wait()
                break
            text += piece
    return text


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


class AppriseAlert:
    """Sends alerts to what an Apprise URL names.

    Parameters
    ----------
    url : str
        A secret: of it only the scheme is ever printed.
    name : str
        Of the channel.
    process : AppriseProcess, optional
        Sends, for other channels too; default: one of its own.
    timeout_s : float
        Seconds that sending may take in all; then the process is killed.

    Raises
    ------
    InvalidInput
        Apprise is not installed, or does not know such a URL.
    """

    def __init__(
        self,
        url: str,
        name: str = "apprise",
        process: AppriseProcess | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.name = name
        self._process = process or AppriseProcess()
        self._url = url
        self._scheme = url.partition("://")[0].lower()
        self._timeout_s = timeout_s
        if find_spec("apprise") is None:
            raise InvalidInput(
                f"the alert channel {name!r} needs the package apprise; pip install "
                "'gnomon[alerts]'"
            )
        # Only a clear no stops a run: whatever else goes wrong, alerts may be sent later.
        if self._process.ask({"url": url}, timeout_s)[0] == "unknown":
            raise InvalidInput(
                f"Apprise knows no such URL as that of the alert channel {name!r} (it begins with "
                f"{self._scheme}://); correct it as Apprise's documentation says"
            )

    def __repr__(self) -> str:
        return f"AppriseAlert({self.name!r}, {self._scheme!r})"

    def __call__(self, alert: Alert) -> None:
        """Send the alert.

        Raises
        ------
        Unavailable
            The service did not take it.
        Refused
            It answered that it does not take this one.
        """
        kind = _TYPES.get(alert.severity, "info")
        message = {"url": self._url, "title": alert.title, "body": alert.text, "type": kind}
        answer, code = self._process.ask(message, self._timeout_s)
        if answer != "sent":
            is_error = code[:1] in ("4", "5")  # or the service is elsewhere, or never answered
            raise (refusal_of(int(code)) if is_error else Unavailable)(
                f"the {self._scheme}:// service of {self.name!r} did not take the alert "
                f"({f'it answered {code}' if code else answer}); check its URL and the service"
            )

    def close(self) -> None:
        """End the process that sends; it is started again if there is more to send."""
        self._process.close()
