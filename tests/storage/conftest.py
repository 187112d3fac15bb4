"""Repositories that several tests read."""

from pathlib import Path

import pytest

from tests.storage.building import add_shadow, capture_new, make_repository, weather, write_zarr


@pytest.fixture(scope="session")
def repository_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two commits of captures and a shadow; not to be changed."""
    folder = tmp_path_factory.mktemp("repository")
    source = write_zarr(weather(4), folder / "source.zarr")
    made = make_repository(folder / "r", source, chunks={"y": 4, "x": 5})
    made = capture_new(made, until=946684800_000_000 + 3_600_000_000)
    add_shadow(capture_new(made))
    return folder / "r"


@pytest.fixture(scope="session")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with few files, for tests that damage each of them."""
    folder = tmp_path_factory.mktemp("small")
    source = write_zarr(weather(3)[["t", "wet"]], folder / "source.zarr")
    made = make_repository(folder / "r", source, chunks={"y": 3, "x": 10})
    made = capture_new(made, until=946684800_000_000 + 3_600_000_000)
    add_shadow(capture_new(made), leads=1)
    return folder / "r"
