"""What the command line tells while it works."""

import pytest

from gnomon.cli.console import progress_lines


def test_progress_is_told_in_lines_where_nobody_watches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = iter([0.0, 1.0, 11.0, 11.0, 12.0, 30.0, 30.0])
    tell = progress_lines(clock=lambda: next(times))
    for done in range(1, 5):
        tell("capture", done, 4)
    assert capsys.readouterr().err.splitlines() == ["capture: 2 of 4", "capture: 4 of 4"]
