"""What a cycle did, in words: one line for a state, a page for an artifact."""

from typing import Any

from gnomon.flows.report import UpdateReport
from gnomon.storage.checks.check import CRITICAL
from gnomon.storage.values.times import chronological

__all__ = ["is_suspect", "page", "sentence"]

SHOWN = 20
"""Incidents, alerts and repeats that a page lists."""


def is_suspect(report: UpdateReport) -> bool:
    """Tell whether a cycle has captured something critical, or could not read all of the source."""
    return bool(report.suspect_chunks or report.unread) or any(
        i["severity"] == CRITICAL for i in report.incidents
    )


def sentence(report: UpdateReport) -> str:
    """Return one line: what was captured, judged and forecast, what is suspect, what failed."""
    if report.skipped:
        return report.skipped
    parts = [_captured(report), _judged(report), _forecast(report)]
    if report.unread:
        count = _count(len(report.unread), "state")
        parts.append(f"{count} LEFT OUT, as the source is damaged or predicted there")
    if report.waiting:
        count = _count(report.waiting["count"], "step")
        parts.append(f"{count} not filled yet, from {report.waiting['first']}")
    if report.failed_checks:
        count = _count(len(report.failed_checks), "check")
        parts.append(f"{count} FAILED ({', '.join(report.failed_checks)})")
    if report.failed_candidates:
        count = _count(len(report.failed_candidates), "candidate")
        parts.append(f"{count} FAILED ({', '.join(report.failed_candidates)})")
    if report.left_out:
        count = _count(sum(step["count"] for step in report.left_out), "step")
        parts.append(f"{count} LEFT OUT, as their time is missing or not believed")
    if report.repeated:
        parts.append(f"repeated {len(report.repeated)} times because of other writers")
    if report.alerts_unsent:
        channels = sorted({a["channel"] for a in report.alerts_unsent})
        count = _count(len(report.alerts_unsent), "alert")
        parts.append(f"{count} NOT SENT ({', '.join(channels)})")
    return "; ".join(part for part in parts if part)


def page(report: UpdateReport, failure: str = "") -> str:
    """Return a page of Markdown: the sentence, then incidents, forecast and alerts in full."""
    lines = [f"# {report.repository}", "", sentence(report)]
    if failure:
        lines += ["", f"**It failed then:** {failure}"]
    lines += _section(
        "Incidents",
        [
            f"**{i['severity']}** {i['variable']} at {i['valid_time']}, "
            f"{_count(len(i['chunks']), 'chunk')} ({', '.join(i['chunks'][:SHOWN])}): "
            f"{i['suspected_cause']} ({', '.join(i['expectations'])})"
            for i in report.incidents
        ],
    )
    failed = [f"{name}: {reason}" for name, reason in report.failed_checks.items()]
    lines += _section("Checks that failed", failed)
    failed = [f"{name}: {reason}" for name, reason in report.failed_candidates.items()]
    lines += _section("Candidates that failed", failed)
    if report.due is not None:
        when = report.due.get("at") or "the clock time is not known"
        state = report.due["valid_time"]
        lines += _section("Next update", [f"{when}, for {state}: {report.due['reason']}"])
    lines += _section("Learnt anew", [f"{name}: {why}" for name, why in report.refit.items()])
    if report.confidence:
        leads = max(map(len, report.confidence.values()))
        head = "| confidence at lead | " + " | ".join(map(str, range(1, leads + 1))) + " |"
        lines += ["", head, "| --- " * (leads + 1) + "|"]
        for name, values in report.confidence.items():
            lines.append(f"| {name} | " + " | ".join(map(_number, values)) + " |")
    left_out = [f"{u['valid_time']}: {u['error']}" for u in report.unread]
    lines += _section("Left out", left_out + [step["text"] for step in report.left_out])
    lines += _section("Changes of the source", report.notes)
    lines += _section(
        "Alerts that were not sent",
        [
            f"{a['channel']}: {a['variable']} at {a['valid_time']}: {a['error']}"
            for a in report.alerts_unsent
        ],
    )
    lines += _section("Done again", report.repeated)
    return "\n".join(lines) + "\n"


def _captured(report: UpdateReport) -> str:
    if not report.captured:
        return "captured nothing"
    first = min(report.captured, key=chronological)
    last = max(report.captured, key=chronological)
    span = first if first == last else f"{first} to {last}"
    extra = [f"{report.late} late"] * (report.late > 0)
    extra += [f"{report.revised} revised"] * (report.revised > 0)
    return f"captured {len(report.captured)} ({'; '.join([span, *extra])})"


def _judged(report: UpdateReport) -> str:
    if not report.judged:
        return ""
    text = f"judged {_count(report.judged, 'chunk')}: {report.suspect_chunks or 'none'} suspect"
    worst = next((i for i in report.incidents if i["severity"] == CRITICAL), None)
    if worst is None or not report.suspect_chunks:
        return text
    return f"{text}, {worst['variable']} at {worst['valid_time']}: {worst['suspected_cause']}"


def _forecast(report: UpdateReport) -> str:
    if report.due is None:
        return report.message
    lowest = [
        min((v for v in values if v is not None), default=None)
        for values in zip(*report.confidence.values(), strict=False)
    ]
    held = f" with confidence {_number(lowest[0])} to {_number(lowest[-1])}" if lowest else ""
    due: dict[str, Any] = report.due
    when = due.get("at") or due["valid_time"]
    text = f"forecast {_count(len(lowest), 'lead')}{held}, next update due {when}"
    if report.withheld:
        count = _count(sum(map(len, report.withheld.values())), "chunk")
        text += f", {count} left out as a check refused the prediction"
    if report.unpredicted:
        text += f", {_count(sum(report.unpredicted.values()), 'cell')} not predicted"
    if report.doubted:
        text += f", {_count(report.doubted, 'older chunk')} suspect now"
    return text


def _number(confidence: float | None) -> str:
    return "-" if confidence is None else f"{confidence:.2f}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _section(title: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    more = [f"- and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
    return ["", f"## {title}", "", *(f"- {entry}" for entry in entries[:SHOWN]), *more]
