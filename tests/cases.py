"""Repositories for tests: grown once per session, copied for each test that changes one."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.repository import GnomonRepository
from tests import sources

HISTORY = 24
"""Days that are backfilled."""
DAMAGED = (0, 1)
"""The chunk that arrives 20 K too warm on day `HISTORY`."""


@dataclass(frozen=True)
class Case:
    """A source and its repository in one folder, the working directory of the test."""

    folder: Path
    data: xr.Dataset
    """What the source holds, undamaged, and what will arrive."""

    @property
    def source(self) -> Path:
        return self.folder / "source.zarr"

    @property
    def place(self) -> Path:
        return self.folder / "repository"

    def open(self) -> GnomonRepository:
        return gnomon.open(str(self.place))

    def arrive(self, start: int, stop: int) -> None:
        """Let time steps arrive in the source."""
        sources.write(self.source, self.data, start, stop)

    def copy(self, folder: Path) -> "Case":
        shutil.copytree(self.source, folder / "source.zarr")
        shutil.copytree(self.place, folder / "repository")
        return Case(folder, self.data.copy(deep=True))


def grow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Return a case with the history captured and a shadow."""
    monkeypatch.chdir(folder)
    case = Case(folder, sources.temperature(HISTORY + 8))
    case.arrive(0, HISTORY)
    # The path stays relative, so that copies of the repository find their own copy of the source.
    monkeypatch.setattr("gnomon.creation.source_path", str)
    made = gnomon.create(str(case.place), "source.zarr", chunks={"lat": 4, "lon": 4})
    made.backfill()
    return case


def damage(case: Case) -> Case:
    """Let the next day arrive with one chunk damaged, and capture it."""
    data = case.data.copy(deep=True)
    lat, lon = (slice(4 * i, 4 * i + 4) for i in DAMAGED)
    data.sst.values[HISTORY, lat, lon] += np.float32(20)
    sources.write(case.source, data, HISTORY, HISTORY + 1)
    case.open().update()
    return case
