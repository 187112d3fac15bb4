"""The process that knows Apprise URLs: reads what to send, line by line, and answers in a word.

It answers ``sent``, ``failed`` (with the HTTP code, if there is one) or ``unknown``, of a URL that
Apprise does not know; without a title it sends nothing, and answers ``known``.  All else that is
printed or logged in it may hold the URL, and is thrown away.  It ends as soon as nobody can ask any
more, whatever it is waiting for then.
"""

import json
import logging
import os
import re
import sys
from queue import SimpleQueue
from threading import Thread
from typing import Any, TextIO

__all__ = ["main"]

_CODE = re.compile(r"\berror=(\d{3})\b", re.ASCII)
"""How Apprise logs what a service has answered."""


def main() -> None:
    """Read messages from standard input and answer each on standard output."""
    output, sys.stdout = sys.stdout, sys.stderr  # what a plugin prints is no answer
    lines: SimpleQueue[str] = SimpleQueue()
    Thread(target=_serve, args=(lines, output), daemon=True).start()
    for line in sys.stdin:  # ends also where the one who asks was killed
        lines.put(line)
    os._exit(0)  # a service may hang in the thread


def _serve(lines: "SimpleQueue[str]", output: TextIO) -> None:
    while True:
        message = json.loads(lines.get())
        try:
            answer = _answer(message)
        except Exception:  # noqa: BLE001 - of any plugin; its text may hold the URL
            answer = "failed"
        output.write(f"{answer}\n")
        output.flush()


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
