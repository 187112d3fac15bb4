"""Pictures of differences, restore points and previews: files of a sensible size, nothing else."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gnomon.cli.commands import app
from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.tasks.restoring.timeline import timeline_of
from tests import sources
from tests.cases import HISTORY, Case

DAY = "2001-01-25"
runner = CliRunner()


def assert_picture(path: Path) -> None:
    """Expect a PNG of some hundred to some thousand pixels."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert all(200 <= n <= 4000 for n in struct.unpack(">II", head[16:24]))


def told(*arguments: str) -> str:
    result = runner.invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_diff_draws_and_tells(damaged: Case) -> None:
    output = told("diff", "repository", f"{DAY}@healed", "live", "--plot", "out/diff.png")
    assert "beyond 2 standard errors" in output
    assert "16 of 16 (100.0%)" in output
    assert_picture(damaged.folder / "out" / "diff.png")
    found = json.loads(told("diff", "repository", "0", "live", "--variable", "sst", "--json"))
    assert [(d["variable"], d["changed_cells"], d["beyond"]) for d in found] == [("sst", 0, None)]


def test_points_are_drawn_with_and_without_a_time(damaged: Case) -> None:
    assert "the picture is in all.png" in told("points", "repository", "--plot", "all.png")
    assert_picture(damaged.folder / "all.png")
    told("points", "repository", "--at", DAY, "--plot", "one.png", "--variable", "sst", "--json")
    assert_picture(damaged.folder / "one.png")


def test_the_timeline_is_that_of_the_log(damaged: Case) -> None:
    opened = damaged.open()
    timeline = timeline_of(opened.stored)
    entry = opened.stored.shadows[-1].variables["sst"]
    assert (timeline.variable, timeline.units) == ("sst", "K")
    assert (timeline.captured.size, timeline.revised.size) == (HISTORY, 0)
    assert timeline.suspect.tolist() == [opened.points(DAY)[0].instant]
    assert timeline.expected_error.tolist() == list(entry.expected_rmse)
    assert timeline.tolerance == entry.tolerance
    assert (np.diff(timeline.shadow) > 0).all()
    with pytest.raises(NotFound, match="forecast are: sst"):
        timeline_of(opened.stored, "time_bnds")


@pytest.mark.parametrize(
    "where", [["--in-place"], ["--to", "new.zarr"], ["--to", "source.zarr", "--into"]]
)
def test_a_preview_writes_nothing_else(damaged: Case, where: list[str]) -> None:
    before = sources.listing(damaged.source, damaged.place)
    output = told("restore", "repository", "--at", DAY, *where, "--preview", "look.png")
    assert "nothing was restored; healed state of 2001-01-25" in output
    assert_picture(damaged.folder / "look.png")
    assert sources.listing(damaged.source, damaged.place) == before
    assert not (damaged.folder / "new.zarr").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["diff", "repository", "0", "1", "--plot", "a.txt"], "--plot is a.txt"),
        (["points", "repository", "--plot", "source.zarr/a"], "--plot"),
        (["points", "repository", "--variable", "sst"], "add --plot"),
        (["restore", "repository", "--at", DAY, "--in-place", "--preview", "x"], "--preview is x"),
        (
            ["restore", "repository", "--from", DAY, "--to", "n.zarr", "--preview", "a.png"],
            "leave out --from",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_first(
    grown: Case, arguments: list[str], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        runner.invoke(app, arguments, catch_exceptions=False, standalone_mode=False)


def test_what_has_nothing_to_draw_is_refused_before_it_is_compared(
    grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnomon.comparing.compare_states", pytest.fail)
    monkeypatch.setattr("gnomon.tasks.comparing.fields.is_drawable", lambda _: False)
    with pytest.raises(InvalidInput, match="nothing to draw"):
        grown.open().diff(0, 1, variable="sst", plot="a.png")
    with pytest.raises(InvalidInput, match=r"plot source.zarr/zarr.json/a.png cannot be written"):
        grown.open().diff(0, 1, plot="source.zarr/zarr.json/a.png")
