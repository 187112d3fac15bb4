"""The commands of the benchmarks run as the documents print them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
TEXTS = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
TEXTS += sorted((TOP / "benchmarks").glob("*.py"))
PRINTED = re.compile(r"`?(?:python (?:-m )?)?benchmarks[/.](\w+)(?:\.py)?([^`\n]*)")
COMMANDS = sorted(
    path.stem
    for path in (TOP / "benchmarks").glob("*.py")
    if "__main__" in path.read_text() and path.stem not in ("__main__", "rivals")
)
"""`rivals` runs in another environment, which `make rivals` makes."""


def run(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=TOP,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def options_of(name: str) -> set[str]:
    """Return the options with which a benchmark is printed anywhere."""
    found: set[str] = set()
    for text in TEXTS:
        for named, rest in PRINTED.findall(text.read_text()):
            if named == name:
                found |= set(re.findall(r"--[a-z][a-z-]*", rest))
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_runs_as_a_file_and_as_a_module(name: str) -> None:
    told = run(f"benchmarks/{name}.py", "--help")
    assert run("-m", f"benchmarks.{name}", "--help").split()[2:] == told.split()[2:]
    assert options_of(name) <= set(re.findall(r"--[a-z][a-z-]*", told))


def test_every_printed_benchmark_is_there() -> None:
    names = {name for t in TEXTS for name, _ in PRINTED.findall(t.read_text())}
    assert {"faults", "crashes", "skill"} <= names
    there = {path.stem for path in (TOP / "benchmarks").iterdir()}
    assert names - {"rivals"} <= there


def test_all_of_them_run_as_a_module() -> None:
    assert "SOURCE" in run("-m", "benchmarks", "--help").upper()
