"""The tables of ``docs/checks.md``, as the records have them.

``python -m tests.docs.checks`` writes them into the page.
"""

from collections.abc import Sequence
from pathlib import Path

from gnomon.storage.checks.captures import CAPTURE_CHECKS, CAPTURE_STATISTICS
from gnomon.storage.checks.check import Check, Statistic
from gnomon.storage.checks.shadows import SHADOW_CHECKS, SHADOW_STATISTICS

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"


def statistics_table(kept: Sequence[Statistic], checks: Sequence[Check]) -> str:
    """Return the table of what the ledger keeps, and of what else is checked."""
    statistics = dict.fromkeys([*kept, *(check.statistic for check in checks)])
    rows = [f"| `{s.name}` | {s.unit} | {s.dtype} | {s.origin} | {s.meaning} |" for s in statistics]
    head = "| statistic | unit | type | found from | meaning |\n| --- | --- | --- | --- | --- |"
    return "\n".join([head, *rows])


def checks_table(checks: Sequence[Check]) -> str:
    """Return the table of what must hold."""
    rows = [
        f"| `{c.name}` | {c.severity} | `{c.column}` | {c.expected} | {c.reason} |" for c in checks
    ]
    head = "| check | severity | statistic | allowed | why |\n| --- | --- | --- | --- | --- |"
    return "\n".join([head, *rows])


TABLES = {
    "checks of captures": checks_table(CAPTURE_CHECKS),
    "statistics of captures": statistics_table(CAPTURE_STATISTICS, CAPTURE_CHECKS),
    "checks of shadows": checks_table(SHADOW_CHECKS),
    "statistics of shadows": statistics_table(SHADOW_STATISTICS, SHADOW_CHECKS),
}


def with_tables(text: str) -> str:
    """Return a page with the tables as the records have them."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if (text.count(begin), text.count(end)) != (1, 1):
            raise ValueError(f"{PAGE.name} has no one place for the {name}")
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
