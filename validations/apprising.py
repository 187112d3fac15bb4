"""Sends alerts through Apprise: mail, Slack, Teams, Matrix and a hundred others, each a URL.

Such a URL is a secret.  Apprise logs it, and so do the libraries it sends with, so all of that
happens in a process of its own, whose output goes nowhere: see `apprise_process`.
"""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

from gnomon.storage.checks.check import CRITICAL, WARNING
from gnomon.storage.errors import InvalidInput, Unavailable
from gnomon.validations.alerts import Alert, refusal_of

__all__ = ["AppriseAlert"]

_PROCESS = "gnomon.validations.apprise_process"
_ANSWER = re.compile(rb"(sent|known|unknown|failed)(?: (\d{3}))?", re.ASCII)
"""All that is read of what the process writes."""
_TYPES = {CRITICAL: "failure", WARNING: "warning"}


class AppriseAlert:
    """Sends alerts to what an Apprise URL names.

    Parameters
    ----------
    url : str
        A secret: of it only the scheme is ever printed.
    name : str
        Of the channel.
    timeout_s : float
        Seconds that sending may take in all; then its process is killed.

    Raises
    ------
    InvalidInput
        Apprise is not installed, or does not know such a URL.
    """

    def __init__(self, url: str, name: str = "apprise", timeout_s: float = 30.0) -> None:
        self.name = name
        self._url = url
        self._scheme = url.partition("://")[0].lower()
        self._timeout_s = timeout_s
        if find_spec("apprise") is None:
            raise InvalidInput(
                f"the alert channel {name!r} needs the package apprise; pip install "
                "'gnomon[alerts]'"
            )
        # Only a clear no stops a run: whatever else goes wrong, alerts may be sent later.
        if self._ask({"url": url})[0] == "unknown":
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
        answer, code = self._ask(
            {"url": self._url, "title": alert.title, "body": alert.text, "type": kind}
        )
        if answer != "sent":
            is_error = code[:1] in ("4", "5")  # or the service is elsewhere, or never answered
            raise (refusal_of(int(code)) if is_error else Unavailable)(
                f"the {self._scheme}:// service of {self.name!r} did not take the alert "
                f"({f'it answered {code}' if code else answer}); check its URL and the service"
            )

    def _ask(self, message: dict[str, Any]) -> tuple[str, str]:
        """Return the answer of a process that knows the URL, and the service's code if told."""
        try:
            # The URL is on no command line: others on the machine can see those.
            process = subprocess.run(
                [sys.executable, "-P", "-m", _PROCESS],
                input=json.dumps(message).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "timed out", ""
        except OSError as error:
            return f"no process could be started: {error.strerror}", ""
        answer = _ANSWER.fullmatch(process.stdout)
        if answer is None:
            return f"its process ended with code {process.returncode}", ""
        return answer[1].decode(), (answer[2] or b"").decode()
