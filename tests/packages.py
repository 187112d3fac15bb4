"""Packages that register entry points, installed for one test as pip would."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gnomon.storage import entrypoints

Install = Callable[..., None]


@contextmanager
def installing(folder: Path, monkeypatch: pytest.MonkeyPatch, group: str) -> Iterator[Install]:
    """Give a function that takes a name, the code of a module, and lines of entry points."""
    names: list[str] = []
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a test may list what is in the folder

    def install(name: str, code: str, *entries: str) -> None:
        facts = folder / f"{name}-1.0.dist-info"
        facts.mkdir(parents=True)
        (folder / f"{name}.py").write_text(code)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text("\n".join([f"[{group}]", *entries]))
        monkeypatch.syspath_prepend(str(folder))
        names.append(name)

    entrypoints._tell_left_out.cache_clear()
    yield install
    for name in names:
        sys.modules.pop(name, None)
