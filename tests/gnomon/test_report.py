"""What the command line says of a verdict."""

import pytest

from gnomon.cli import report
from gnomon.judging import Judged

REVISED = Judged(("2001-01-01T00:00:00",), 3, 1, ())


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_becomes_of_the_version_before_is_told(
    accepted: bool, dry_run: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    report.print_judged(REVISED, accepted=accepted, dry_run=dry_run)
    said = " ".join("".join(capsys.readouterr()).split())
    assert ("would be served" if dry_run else "are served") in said
    told = "in place of what was captured first" if accepted else "what was captured before"
    assert told in said
