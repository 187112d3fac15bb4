"""Where a path is taken as text, a path is taken as well."""

import inspect
from os import PathLike
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.flows.settings import Settings
from gnomon.grouping import unprotected_groups
from gnomon.storage.errors import InvalidInput
from gnomon.storage.userpath import place_of
from tests import sources
from tests.cases import HISTORY, Case

AT = "2001-01-10"


class Given(PathLike[str]):
    """A path that is no `pathlib.Path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


@pytest.mark.parametrize("kind", [Path, Given])
def test_a_repository_is_made_opened_and_moved_by_paths(
    kind: type[PathLike[str]], tmp_path: Path
) -> None:
    data = sources.temperature(8)
    sources.write(tmp_path / "source.zarr", data, 0, 8)
    place, source = kind(tmp_path / "repository"), kind(tmp_path / "source.zarr")  # type: ignore[call-arg]
    assert gnomon.describe(source).source == gnomon.describe(str(tmp_path / "source.zarr")).source
    made = gnomon.create(place, source)
    assert made.path == str(tmp_path / "repository")
    made.update()
    opened = gnomon.open(place)
    assert opened.status()["captures"] == 8
    (tmp_path / "source.zarr").rename(tmp_path / "moved.zarr")
    opened.move_source(kind(tmp_path / "moved.zarr"))  # type: ignore[call-arg]
    assert opened.source()["url"] == str(tmp_path / "moved.zarr")
    assert xr.open_dataset(place, engine="gnomon", at="2001-01-03").sizes["time"] == 1


@pytest.mark.parametrize("kind", [Path, Given])
def test_what_is_written_and_read_is_named_by_paths(kind: type[PathLike[str]], grown: Case) -> None:
    def at(name: str) -> PathLike[str]:
        return kind(grown.folder / name)  # type: ignore[call-arg]

    repository = grown.open()
    repository.restore(AT, at("copy.zarr"))
    repository.export_shadow(at("shadow.zarr"))
    repository.write_simulation(at("members.zarr"), members=2)
    repository.plot_points(at("points.png"))
    repository.diff(AT, "2001-01-11", plot=at("diff.png"))
    repository.preview(AT, at("look.png"), into=at("copy.zarr"))
    repository.plan_rollback(AT, into=at("copy.zarr"))
    repository.rollback(AT, into=at("copy.zarr"))
    mask = np.zeros(grown.data.sst.shape[1:], bool)
    mask[1, 1] = True
    np.save(grown.folder / "gone.npy", mask)
    grown.arrive(HISTORY, HISTORY + 1)
    repository.update(settings=Settings(alerts=grown.folder / "alerts"))
    repository.heal("2001-01-25", at("gone.npy"))
    report = gnomon.hindcast(at("source.zarr"), "sst", origins=2)
    assert report.verdict


@pytest.mark.parametrize("kind", [Path, Given])
def test_groups_are_protected_by_paths(kind: type[PathLike[str]], tmp_path: Path) -> None:
    data = sources.temperature(6)
    data.to_zarr(tmp_path / "s.zarr", group="a")
    folder = kind(tmp_path / "r")  # type: ignore[call-arg]
    gnomon.create_groups(folder, kind(tmp_path / "s.zarr"))  # type: ignore[call-arg]
    assert list(gnomon.group_places(folder)) == ["a"]
    assert unprotected_groups(folder) == ()


def test_a_url_that_was_made_a_path_is_refused() -> None:
    """A slash of it is lost, and a folder of that name would be made."""
    assert place_of("s3://bucket/x") == "s3://bucket/x"
    with pytest.raises(InvalidInput, match="s3://bucket/x is a URL"):
        gnomon.open(Path("s3://bucket/x"))
    with pytest.raises(InvalidInput, match="found bytes"):
        gnomon.open(b"x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "function", [gnomon.create, gnomon.describe, gnomon.open, gnomon.create_groups, gnomon.hindcast]
)
def test_a_signature_says_so(function: object) -> None:
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    for name in {"path", "source", "folder"} & parameters.keys():
        assert "PathLike" in str(parameters[name].annotation)
