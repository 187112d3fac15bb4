"""The process that knows an Apprise URL: reads what to send, and answers in one word.

It answers ``sent``, ``failed`` (with the HTTP code, if there is one) or ``unknown``, of a URL that
Apprise does not know; without a title it sends nothing, and answers ``known``.  All else that is
printed or logged in it may hold the URL, and is thrown away.
"""

import json
import logging
import re
import sys
from typing import Any

__all__ = ["main"]

_CODE = re.compile(r"\berror=(\d{3})\b", re.ASCII)
"""How Apprise logs what a service has answered."""


def main() -> None:
    """Read a message from standard input and answer on standard output."""
    output, sys.stdout = sys.stdout, sys.stderr  # what a plugin prints is no answer
    output.write(_answer(json.load(sys.stdin)))


def _answer(message: dict[str, Any]) -> str:
    import apprise

    # What is redirected is posted without its body, and counted as sent.
    service = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
    if not service.add(message["url"]):
        return "unknown"
    if "title" not in message:
        return "known"
    text = apprise.NotifyFormat.TEXT
    with apprise.LogCapture(level=logging.WARNING) as log:  # type: ignore[no-untyped-call]
        sent = service.notify(
            title=message["title"],
            body=message["body"],
            notify_type=message["type"],
            body_format=text,
        )
        code = _CODE.search(log.getvalue())
    if sent:
        return "sent"
    return f"failed {code[1]}" if code else "failed"


if __name__ == "__main__":
    main()
