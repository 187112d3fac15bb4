"""What is found again in another call or process is the same repository, and not the same place."""

import pickle
import shutil
from pathlib import Path

import pytest
import xarray as xr

import gnomon
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import Conflict
from gnomon.storage.pin import Pin
from tests import sources

HOLE = "2001-01-10"
"""A day without a capture."""


def made(folder: Path, *, seed: int, count: int = 20) -> GnomonRepository:
    """Return a repository of other data at a place where one may have been before."""
    for path in folder.iterdir():
        shutil.rmtree(path)
    data = sources.temperature(count + 1, seed=seed)
    sources.write(folder / "s.zarr", data.drop_isel(time=9))
    repository = gnomon.create(
        str(folder / "r"), str(folder / "s.zarr"), chunks={"lat": 4, "lon": 4}
    )
    repository.update()
    return repository


def answers(repository: GnomonRepository) -> list[xr.Dataset]:
    """Return what is learnt and drawn when it is asked for: an estimate and members."""
    estimate = repository.dataset(HOLE, accept_predicted=True).load()
    return [estimate, repository.simulate(members=2, seed=1).load()]


def test_a_repository_that_was_made_anew_gives_nothing_of_the_one_before(tmp_path: Path) -> None:
    """As many commits, at the same place, in the same process."""
    first = answers(made(tmp_path, seed=1))
    second = answers(made(tmp_path, seed=2))
    # What a process gives that has never seen the first.
    (tmp_path / "r").rename(tmp_path / "elsewhere")
    alone = answers(gnomon.open(str(tmp_path / "elsewhere")))
    for before, found, wanted in zip(first, second, alone, strict=True):
        for name in ("sst", "sst_standard_error"):
            if name in wanted:
                assert sources.bits(found[name].values) == sources.bits(wanted[name].values)
        assert sources.bits(found.sst.values) != sources.bits(before.sst.values)


def test_a_repository_that_was_made_anew_with_fewer_captures_is_estimated(tmp_path: Path) -> None:
    made(tmp_path, seed=1).dataset(HOLE, accept_predicted=True).load()
    shorter = made(tmp_path, seed=1, count=14).dataset(HOLE, accept_predicted=True).load()
    assert shorter.attrs["gnomon_method"] == "interpolated"


def test_a_lazy_dataset_does_not_go_on_in_another_repository(tmp_path: Path) -> None:
    repository = made(tmp_path, seed=1)
    pin = Pin.of(repository.stored)
    assert pin.open().records == repository.stored.records
    pickles = [
        pickle.dumps(repository.reading_store("2001-01-05")),
        pickle.dumps(repository.simulate(members=2)),
    ]
    for pickled in pickles:
        pickle.loads(pickled)
    made(tmp_path, seed=2)
    for pickled in pickles:
        with pytest.raises(Conflict, match="another repository than the one that was opened"):
            pickle.loads(pickled)
    with pytest.raises(Conflict, match="another repository"):
        pin.open()
