"""The documents say what is true: their code runs, their tables are complete."""

import re
from pathlib import Path

import pytest
import typer.main
import xarray as xr

from gnomon import cli
from gnomon.cli import console
from gnomon.demo import load_ostia
from gnomon.flows.settings import Settings
from gnomon.storage import errors
from gnomon.tasks.forecasting import registry

TOP = Path(__file__).parents[2]
DOCUMENTS = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
COMMANDS = dict(typer.main.get_group(cli.app).commands.items())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_code_blocks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = BLOCK.findall(path.read_text())
    monkeypatch.chdir(tmp_path)
    # A command that a page adds is gone after it.
    monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
    if path.name == "README.md":
        assert blocks
        load_ostia().to_zarr("sst.zarr", encoding={"surface_temperature": {"chunks": (1, 9, 54)}})
    names: dict[str, object] = {}
    with registry.for_now():
        for block in blocks:
            exec(compile(block, path.name, "exec"), names)
    if path.name == "README.md":
        with xr.open_zarr("october.zarr", consolidated=False) as restored:
            assert set(restored.surface_temperature_provenance.values.ravel()) <= {3, 5}


@pytest.mark.parametrize("name", ["add-a-target", "add-an-alert"])
def test_what_is_added_is_one_short_file(name: str) -> None:
    blocks = BLOCK.findall((TOP / "docs" / "howto" / f"{name}.md").read_text())
    assert len(blocks) == 2
    assert sum(bool(line.strip()) for block in blocks for line in block.splitlines()) <= 40


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_places_that_are_named_are_there(name: str) -> None:
    for place in re.findall(r"`([a-z_/]+(?:/|\.py))`", (TOP / name).read_text()):
        assert any((TOP / above / place).exists() for above in ("", "storage", "tasks")), place


def test_every_room_is_in_the_picture() -> None:
    text = (TOP / "docs" / "architecture.md").read_text()
    for floor in ("storage", "tasks"):
        for room in (p.parent.name for p in (TOP / floor).glob("*/__init__.py")):
            assert f"`{room}/`" in text, room


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    assert f"`gnomon {name}" in (TOP / "docs" / "reference.md").read_text()


def test_documented_options_exist() -> None:
    text = (TOP / "docs" / "reference.md").read_text() + (TOP / "README.md").read_text()
    known = {o for c in COMMANDS.values() for p in c.params for o in p.opts} | {"--help"}
    for path in (TOP / "benchmarks").rglob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', path.read_text()))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"`GNOMON_{name.upper()}`" in (TOP / "docs" / "reference.md").read_text()


def test_every_exit_code_is_documented() -> None:
    text = (TOP / "docs" / "reference.md").read_text()
    classes = [getattr(errors, name) for name in errors.__all__]
    for code in {c.exit_code for c in classes}:
        assert f"| {code} |" in text
        assert f"{code} " in console.EXIT_CODES
