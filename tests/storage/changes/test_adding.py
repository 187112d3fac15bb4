"""Variables that are added later: from then on they are captured, and no state is lost."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import gnomon
from gnomon.storage.errors import InvalidInput, NotFound


def write(path: Path, steps: range, *names: str) -> xr.Dataset:
    rng = [np.random.default_rng(k) for k in range(40)]
    base = np.stack(
        [10 + np.sin(k / 3) + 0.1 * r.standard_normal((6, 8)) for k, r in enumerate(rng)]
    )
    dataset = xr.Dataset(
        {
            "t": (("time", "y", "x"), base.astype("f4"), {"units": "K"}),
            "count": (("time", "y", "x"), (base * 100).astype("i4"), {"units": "1"}),
            "label": (("time",), np.array([f"step {k}" for k in range(40)], object)),
        },
        coords={"time": ("time", np.arange(40), {"units": "hours since 2024-03-01"})},
    )
    chosen = dataset[list(names)].isel(time=slice(steps.start, steps.stop))
    chosen.to_zarr(path, mode="w", zarr_format=2)
    return dataset


@pytest.fixture
def grown(tmp_path: Path) -> tuple[Path, gnomon.GnomonRepository, xr.Dataset]:
    """A repository to which two variables are added after twelve captures."""
    source = tmp_path / "s.zarr"
    write(source, range(12), "t")
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    repository.update()
    everything = write(source, range(4, 13), "t", "count", "label")
    report = repository.update()
    assert any("count" in note for note in report.notes)
    assert set(repository.status()["unprotected"]) == {"count", "label"}
    repository.add(["count", "label"])
    return source, repository, everything


def hour(number: int) -> str:
    return f"2024-03-01T{number:02d}"


def test_later_states_have_them_and_earlier_ones_are_as_they_were(
    grown: tuple[Path, gnomon.GnomonRepository, xr.Dataset],
) -> None:
    source, repository, everything = grown
    write(source, range(4, 14), "t", "count", "label")
    report = repository.update(compare=-1)
    assert (report.revised, report.suspect_chunks) == (9, 0)
    assert not any(i["severity"] == "critical" for i in report.incidents)
    for number in range(14):
        found = repository.dataset(hour(number), plain=True, decode=False)
        expected = ["t", "count", "label"] if number >= 4 else ["t"]
        assert set(map(str, found.data_vars)) == set(expected)
        for name in expected:
            np.testing.assert_array_equal(
                np.squeeze(found[name].values), everything[name].values[number]
            )
    assert repository.check(read_data=True).problems == ()
    assert repository.update(compare=-1).captured == []


def test_they_are_forecast_once_there_are_enough(
    grown: tuple[Path, gnomon.GnomonRepository, xr.Dataset],
) -> None:
    source, repository, _ = grown
    at = repository.status()["shadow"][0]
    old = repository.dataset(at, accept_predicted=True)
    assert "t" in old
    for last in range(14, 19):
        write(source, range(last - 2, last), "t", "count", "label")
        repository.update()
    shown = repository.dataset(repository.status()["shadow"][0], accept_predicted=True)
    assert (shown["count_provenance"] == 3).all()
    assert float(abs(shown["count"] - 1000).max()) < 300


def test_maintenance_knows_them(
    grown: tuple[Path, gnomon.GnomonRepository, xr.Dataset], tmp_path: Path
) -> None:
    from gnomon.storage.care.retention import Policy

    source, repository, everything = grown
    write(source, range(4, 15), "t", "count", "label")
    repository.update(compare=-1)
    repository.diff(hour(1), hour(2))
    repository.diff(hour(1), hour(13))
    repository.stats()
    repository.forget(Policy(last=4))
    repository.prune()
    assert repository.check(read_data=True).problems == ()
    found = repository.dataset(hour(14), plain=True, decode=False)
    np.testing.assert_array_equal(np.squeeze(found["count"].values), everything["count"].values[14])
    repository.restore(hour(14), str(tmp_path / "out.zarr"), plain=True)
    assert {"count", "label"} <= set(xr.open_zarr(tmp_path / "out.zarr").data_vars)
    reopened = gnomon.open(repository.path)
    assert [v.since for v in reopened.stored.settings.variables] == [0, 13, 13]
    assert [v.name for v in reopened.stored.at(3).settings.variables] == ["t"]


def test_what_cannot_be_added_is_said(
    grown: tuple[Path, gnomon.GnomonRepository, xr.Dataset],
) -> None:
    _, repository, _ = grown
    with pytest.raises(InvalidInput, match="captured already"):
        repository.add(["count"])
    with pytest.raises(NotFound, match="no variable 'nothing'"):
        repository.add(["nothing"])


def test_a_state_source_takes_them_too(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    field = np.random.default_rng(0).random((4, 5)).astype("f4")
    xr.Dataset({"a": (("y", "x"), field)}).to_zarr(source, mode="w", zarr_format=2)
    repository = gnomon.create(str(tmp_path / "r"), str(source))
    repository.update("2024-01-01")
    both = xr.Dataset({"a": (("y", "x"), field), "b": (("y", "x"), field + 1)})
    both.to_zarr(source, mode="w", zarr_format=2)
    repository.add(["b"])
    repository.update("2024-01-02")
    assert set(repository.dataset("2024-01-01", plain=True).data_vars) == {"a"}
    np.testing.assert_array_equal(repository.dataset("2024-01-02", plain=True)["b"], field + 1)
