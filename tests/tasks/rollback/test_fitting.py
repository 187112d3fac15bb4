"""What the types of the live dataset cannot hold is not written into it, and never in silence."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import gnomon
from gnomon.flows.settings import Settings
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.scaling import Packing
from gnomon.tasks.restoring import restore as restoring
from gnomon.tasks.rollback.fitting import Numbers
from tests import sources
from tests.gnomon.test_cli import run

FILL = np.int16(-32768)
PACKED: dict[str, Any] = {"scale_factor": 0.001, "add_offset": 285.0, "_FillValue": FILL}
"""Holds 252.3 to 317.8 K."""
DAYS = 24
DAY = "2001-01-25"
FIRST, SECOND = (0, 1), (1, 2)
"""The chunks that arrive damaged."""
Change = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def packed(days: int, **attributes: Any) -> xr.Dataset:
    data = sources.temperature(days, land=False)
    packing = PACKED | attributes
    raw = np.rint((data["sst"].values - packing["add_offset"]) / packing["scale_factor"])
    return data.assign(sst=(data["sst"].dims, raw.astype("i2"), {"units": "K", **packing}))


def place(index: tuple[int, ...]) -> tuple[int, slice, slice]:
    """Return the cells of a chunk on the last day."""
    lat, lon = (slice(4 * i, 4 * i + 4) for i in index)
    return DAYS, lat, lon


@pytest.fixture(scope="module")
def _grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of packed integers; on the last day two chunks arrive 20 K too cold."""
    folder = tmp_path_factory.mktemp("grown")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # The path stays relative, so that copies of the repository find their own source.
        patch.setattr("gnomon.creation.source_path", str)
        sources.overwrite("s.zarr", packed(DAYS))
        made = gnomon.create("r", "s.zarr", chunks={"lat": 4, "lon": 4})
        made.update()
        data = packed(DAYS + 1)
        for index in (FIRST, SECOND):
            data["sst"].values[place(index)] -= np.int16(20_000)
        sources.overwrite("s.zarr", data)
    return folder


@pytest.fixture
def opened(_grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GnomonRepository:
    """Return a copy of it, in the working directory."""
    shutil.copytree(_grown, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return gnomon.open("r")


def estimates(monkeypatch: pytest.MonkeyPatch, change: Change, *indices: tuple[int, ...]) -> None:
    """Let the estimates of some chunks be others."""
    true = restoring.heal_point  # type: ignore[attr-defined]

    def changed(*arguments: Any) -> Any:
        patches, point = true(*arguments)
        return {
            key: replace(patch, values=change(patch.values)) if key[1] in indices else patch
            for key, patch in patches.items()
        }, point

    monkeypatch.setattr(restoring, "heal_point", changed)


def warm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values = values.copy()
    values[:2, 0] = 330.5, 320.0
    return values


def told_by_rule(text: str) -> list[str]:
    return [line for line in text.splitlines() if "auto_heal" in line]


def there(index: tuple[int, ...]) -> NDArray[np.int16]:
    stored: NDArray[np.int16] = sources.raw("s.zarr")["sst"].values[place(index)]
    return stored


def test_an_estimate_that_packed_integers_cannot_hold_is_refused_in_one_line(
    opened: GnomonRepository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert opened.update().suspect_chunks == 2
    estimates(monkeypatch, warm, FIRST)
    files, records = sources.listing(Path("s.zarr")), len(opened.stored.refresh().records)
    told = (
        "2 cells of sst chunk 0/1 should become 330.5 K, where int16 as it is packed holds "
        "252.233 to 317.767 K"
    )
    for options in (["--dry-run"], ["--accept-predicted"]):
        code, _, err = run(capsys, "restore", "r", "--at", DAY, "--in-place", *options)
        assert code == 2
        assert told in " ".join(err.split())
        assert "restore to a new place with --to" in " ".join(err.split())
        assert len(err.strip().splitlines()) == 1
    assert sources.listing(Path("s.zarr")) == files
    assert len(opened.stored.refresh().records) == records
    # Beside it there is room, and of the rest in place too.
    opened.restore(DAY, "beside.zarr", accept_predicted=True)
    assert sources.raw("beside.zarr")["sst"].values[0, 0, 4] == 330.5
    before = there(FIRST)
    rolled = opened.rollback(DAY, accept_predicted=True, chunk=SECOND)
    assert [c.index for c in rolled.plan.chunks] == [SECOND]
    np.testing.assert_array_equal(there(FIRST), before)


def test_a_standing_rule_leaves_it_alone_tells_and_goes_on(
    opened: GnomonRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened.rules(auto_heal={"sst": 100.0}, auto_heal_confidence=0.0)
    estimates(monkeypatch, warm, FIRST)
    alerts = Settings(alerts=tmp_path / "alerts.jsonl")
    before = there(FIRST)
    (done,) = opened.update(settings=alerts).put_right
    assert done["chunks"] == {"sst": ["1/2"]}
    assert [left.split(" should")[0] for left in done["left"]] == ["2 cells of sst chunk 0/1"]
    np.testing.assert_array_equal(there(FIRST), before)
    truth = packed(DAYS + 1)["sst"].values[place(SECOND)]
    assert np.abs(there(SECOND) - truth.astype("f8")).max() < 5_000
    told = (tmp_path / "alerts.jsonl").read_text()
    assert [("cannot hold" in line, "330.5 K" in line) for line in told_by_rule(told)] == [
        (False, False),
        (True, True),
    ]
    assert opened.update(settings=alerts, compare=-1).put_right == []
    assert (tmp_path / "alerts.jsonl").read_text() == told


def test_a_rule_that_can_write_nothing_tells_so_once(
    opened: GnomonRepository,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    opened.rules(auto_heal={"sst": 100.0}, auto_heal_confidence=0.0)
    estimates(monkeypatch, warm, FIRST, SECOND)
    alerts = Settings(alerts=tmp_path / "alerts.jsonl")
    files = sources.listing(Path("s.zarr"))
    (done,) = opened.update(settings=alerts).put_right
    assert (done["chunks"], done["rollback"], len(done["left"])) == ({}, None, 2)
    assert sources.listing(Path("s.zarr")) == files
    told = (tmp_path / "alerts.jsonl").read_text()
    assert len(told_by_rule(told)) == 2
    assert opened.rollbacks() == []
    assert opened.update(settings=alerts, compare=-1).put_right == []
    assert (tmp_path / "alerts.jsonl").read_text() == told


def test_an_estimate_is_never_stored_as_missing(
    opened: GnomonRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fill value in the midst of the numbers may be what an estimate is rounded to."""
    data = sources.raw("s.zarr").load()
    chance = np.int16(1234)
    data["sst"].attrs["missing_value"] = chance
    data["sst"].values[data["sst"].values == chance] += np.int16(1)
    sources.overwrite("s.zarr", data)
    number = 285.0 + 0.001 * float(chance)
    opened.update()
    assert opened.status()["captures"] == DAYS + 1
    estimates(monkeypatch, lambda values: np.full_like(values, number), FIRST)
    opened.rollback(DAY, accept_predicted=True)
    assert (np.abs(there(FIRST) - chance) == 1).all()
    restored = xr.open_zarr("s.zarr", consolidated=False)["sst"].values[place(FIRST)]
    np.testing.assert_allclose(restored, number, atol=0.0011)


def test_captured_numbers_that_another_packing_cannot_hold_are_refused(
    opened: GnomonRepository,
) -> None:
    """The live dataset was packed anew since, with a narrower range."""
    opened.update()
    narrow = 1e-5
    data = packed(DAYS + 1)
    numbers = data["sst"].values * 0.001
    data["sst"].values[...] = np.clip(np.rint(numbers / narrow), -30_000, 30_000).astype("i2")
    data["sst"].attrs["scale_factor"] = narrow
    sources.overwrite("s.zarr", data)
    files = sources.listing(Path("s.zarr"))
    with pytest.raises(InvalidInput, match=r"int16 as it is packed holds 284\.672 to 285\.328 K"):
        opened.plan_rollback("2001-01-05")
    assert sources.listing(Path("s.zarr")) == files


# What types can hold ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "attributes", "span", "fits", "beyond"),
    [
        ("u1", {}, (0, 255), [-0.4, 255.4], [-0.6, 255.6]),
        ("u1", {"_FillValue": np.uint8(255)}, (0, 254), [254.4], [254.6, 255.0]),
        ("u1", {"_FillValue": 0, "missing_value": 1}, (2, 255), [1.6], [0.0, 1.4]),
        ("<i2", {"scale_factor": -0.5}, (-16383.5, 16384), [16384.2], [16384.3]),
        ("i1", {"_Unsigned": "true", "_FillValue": np.int8(-1)}, (0, 254), [200.0], [255.0]),
        ("<f2", {}, (-65504, 65504), [65504.0, np.inf], [65505.0]),
        ("<f4", {"scale_factor": 2.0}, None, [6e38], [7e38]),
        ("?", {}, (0, 1), [0.3, 0.9], []),
    ],
)
def test_the_span_of_a_type(
    dtype: str, attributes: dict[str, Any], span: Any, fits: list[float], beyond: list[float]
) -> None:
    packing = Packing(np.dtype(dtype), attributes)
    assert span is None or packing.span() == span
    assert not packing.beyond(np.array([*fits, np.nan])).any()
    assert packing.beyond(np.array(beyond)).all()
    assert packing.holds(np.array(fits))
    assert not beyond or not packing.holds(np.array(beyond))


@pytest.mark.parametrize(
    ("dtype", "attributes"),
    [
        ("u1", {"_FillValue": np.uint8(7)}),
        ("<i2", {"_FillValue": -999, "missing_value": [-1000, -998], "scale_factor": 0.1}),
        ("<i8", {"_FillValue": 3}),
        ("<u8", {"_FillValue": 0, "missing_value": 9}),
        ("i1", {"_Unsigned": "true", "_FillValue": np.int8(-100)}),
        ("<f4", {"_FillValue": np.float32(0.0)}),
        ("<f4", {"_FillValue": np.float32(-999.9)}),
        ("<f4", {"_FillValue": np.finfo("f4").max}),
        ("<f8", {"missing_value": [-999.0, np.nan]}),
    ],
)
def test_no_number_becomes_a_value_that_means_missing(
    dtype: str, attributes: dict[str, Any]
) -> None:
    packing = Packing(np.dtype(dtype), attributes)
    fills = packing.fills().view(packing.counted)
    numbers = fills[~np.isnan(fills)].astype("f8") * packing.scale
    found = packing.to_physical(packing.from_physical(numbers))
    assert not np.isnan(found).any()
    within = ~packing.beyond(numbers)
    step = 3 * packing.resolution
    np.testing.assert_allclose(found[within], numbers[within], rtol=1e-6, atol=max(step, 1e-40))


def test_what_is_beyond_by_less_than_its_error_is_the_nearest_number() -> None:
    """An unsigned amount that is estimated to be a little below zero is zero."""
    into = Packing(np.dtype("u1"), {})
    values = np.array([-2.0, -2.0, 300.0, np.nan, 7.0, -2.0])
    error = np.array([2.5, 1.5, np.nan, 1.0, 1.0, 0.0])
    numbers = Numbers(values, error, np.array([True] * 5 + [False]))
    assert numbers.clipped(into).tolist() == [True, False, False, False, False, False]
    # Without a fill value nothing can say that there is no value.
    assert numbers.unheld(into).tolist() == [False, True, True, True, False, False]
    filled = Packing(np.dtype("u1"), {"_FillValue": 255})
    assert numbers.unheld(filled).tolist() == [False, True, True, False, False, False]


def test_an_infinite_capture_stays_infinite() -> None:
    packing = Packing(np.dtype("<f4"), {"scale_factor": 2.0})
    assert packing.from_physical(np.array([np.inf, -np.inf])).tolist() == [np.inf, -np.inf]
