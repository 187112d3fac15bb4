"""The options that select a part, from the command line to what is written."""

import json
import sys
from typing import Any

import pytest

from gnomon import cli
from tests import sources
from tests.cases import Case


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a restore in this process; returns exit code, and output with errors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gnomon", "restore", "repository", *arguments])
        patch.setattr(sys.modules["__main__"], "__package__", "", raising=False)
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    told = capsys.readouterr()
    return code, told.out + told.err


def test_a_part_and_a_period_are_asked_for_by_options(
    grown: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that is taken and has no effect."""
    raw = sources.raw(grown.source)
    region = ("--region", "lat=-25:15", "--region", "lon=20:50", "--variable", "sst")
    code, told = run(capsys, "--at", "2001-01-10", *region, "--to", "a.zarr", "--json")
    assert code == 0, told
    assert json.loads(told)["point"]["kind"] == "captured"
    part = raw.isel(time=slice(9, 10), lat=slice(1, 6), lon=slice(4, 11))
    assert sources.bits(sources.raw("a.zarr").sst.values) == sources.bits(part.sst.values)
    period = ("--from", "2001-01-05", "--until", "2001-01-06", "--chunk", "sst:1,0", "--marks")
    code, told = run(capsys, *period, "--to", "b.zarr")
    assert code == 0, told
    assert "2 states from 2001-01-05T00:00:00 to 2001-01-06T00:00:00 (2 captured)" in told
    found = sources.raw("b.zarr")
    part = raw.isel(time=slice(4, 6), lat=slice(4, 8), lon=slice(0, 4))
    assert sources.bits(found.sst.values) == sources.bits(part.sst.values)
    assert "sst_provenance" in found


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "x.zarr"], 2, "name one time with --at, or a period"),
        (["--at", "2001-01-10", "--until", "2001-01-11", "--to", "x.zarr"], 2, "name one time"),
        (["--at", "2001-01-10", "--region", "lat=90:95", "--to", "x.zarr"], 2, "no cell of lat"),
        (["--at", "2001-01-10", "--chunk", "9,9", "--to", "x.zarr"], 3, "no chunk 9,9"),
        (["--at", "2001-01-10", "--in-place", "--plain"], 2, "--plain, --marks and --zarr-format"),
        (["--at", "2001-01-10", "--in-place", "--marks"], 2, "are for a new dataset"),
        (["--at", "2001-01-10", "--in-place", "--zarr-format", "2"], 2, "are for a new dataset"),
        (
            ["--at", "2001-01-24", "--in-place", "--cells", "gone.npy"],
            2,
            "cannot be read as a mask",
        ),
        (
            ["--at", "2001-01-24", "--in-place", "--cells", "gone.npy", "--preview", "a.png"],
            2,
            "cannot be read as a mask",
        ),
    ],
)
def test_a_selection_that_cannot_be_is_one_line(
    grown: Case,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: Any,
) -> None:
    found, told = run(capsys, *arguments)
    assert found == code
    assert message in told
    assert len(told.strip().splitlines()) == 1
