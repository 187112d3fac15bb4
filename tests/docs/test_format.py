"""The format document suffices: a reader written from it agrees with the program bit for bit.

`Reader` is that reader.  It imports nothing of Gnomon and knows what ``docs/format.md`` says.
"""

import gzip
import hashlib
import json
import shutil
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import xarray as xr
import xxhash
import zarr
from numpy.typing import NDArray

import gnomon
from gnomon.storage.care.forget import forget
from gnomon.storage.care.prune import prune
from gnomon.storage.care.retention import Policy
from gnomon.storage.changes.era import begin_era
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import cut
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.work import serial
from tests import sources

Index = tuple[int, ...]
History = tuple[Path, Repository, list[xr.Dataset]]
WHEN = "2020-01-01T00:00:00+00:00"
FLOATS = ("<f2", "<f4", "<f8", "<c8", "<c16")

opened = cache(partial(zarr.open_array, mode="r"))


class Reader:
    """Reads the captures of a repository in a local folder, and verifies all they rest on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.eras: list[tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]] = []
        self.tables: dict[Path, NDArray[Any]] = {}
        data = (folder / "gnomon.json").read_bytes()
        self._begin(json.loads(data))
        for number, path in enumerate(sorted((folder / "log").iterdir())):
            parent, data = hashlib.sha256(data).hexdigest(), path.read_bytes()
            record = json.loads(data)
            assert record["sha256"] == hashlib.sha256(data[:-77]).hexdigest()
            assert (record["version"], record["sequence"], record["parent"]) == (1, number, parent)
            self._fold(record["kind"], record["body"])

    def _begin(self, settings: dict[str, Any]) -> None:
        assert settings["format"] == 2
        self.eras.append(({v["name"]: v for v in settings["variables"]}, []))

    def _fold(self, kind: str, body: dict[str, Any]) -> None:
        captures = self.eras[body.get("era", -1)][1]
        if kind == "capture":
            captures += [{"instant": i, "kept": True} for i in body["instants"]]
            body["steps"] = range(len(captures) - len(body["instants"]), len(captures))
        if kind in ("capture", "rewrite"):
            roots = {name: entry["root"] for name, entry in body["variables"].items()}
            for k, step in enumerate(body["steps"]):
                captures[step] |= {"slab": body["id"], "position": k, "roots": roots}
        if kind == "forget":
            for step in body["steps"]:
                captures[step]["kept"] = False
        if kind == "era":
            self._begin(body["settings"])

    def state(self, era: int, name: str, step: int) -> NDArray[Any]:
        """Return the values of a variable in a capture."""
        variable, captures = self.eras[era][0][name], self.eras[era][1]
        shape, chunks = variable["shape"], variable["chunks"]
        values = np.empty(shape, variable["dtype"])
        for index in np.ndindex(*(-(-n // c) for n, c in zip(shape, chunks, strict=True))):
            sides = zip(index, chunks, shape, strict=True)
            cells = tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in sides)
            size = tuple(c.stop - c.start for c in cells)
            kind, data = self._bytes(variable, captures, step, index, cells)
            address = f"{name}\0{index}\0{kind}\0{size}\0".encode()
            expected = self._row(variable, captures[step], index)[3:5]
            assert xxhash.xxh3_128_digest(address + data) == expected.tobytes()
            read = json.loads(data) if kind == "text" else np.frombuffer(data, values.dtype)
            values[cells] = np.array(read, values.dtype).reshape(size)
        return values

    def _bytes(
        self, variable: Any, captures: Any, step: int, index: Index, cells: tuple[slice, ...]
    ) -> tuple[str, bytes]:
        while (row := self._row(variable, captures[step], index))[1] == -1:
            assert 0 <= row[0] < step
            step = int(row[0])
        if variable["dtype"] == "|O":
            name = "/".join(map(str, ("residual/c", captures[step]["position"], *index)))
            path = self._slab(variable, captures[step]) / name
            return "text", gzip.decompress(path.read_bytes())
        integers = self._integers(variable, captures, step, index, cells)
        if variable["dtype"] in FLOATS:
            most = np.iinfo(integers.dtype).max
            integers = np.where(integers < 0, integers ^ most, integers)
        return variable["dtype"], integers.tobytes()

    def _integers(
        self, variable: Any, captures: Any, step: int, index: Index, cells: tuple[slice, ...]
    ) -> NDArray[Any]:
        base, coding, *_, filtered = map(int, self._row(variable, captures[step], index))
        assert coding == 0 or 0 <= base < step
        below = self._integers(variable, captures, base, index, cells) if coding else np.int8(0)
        if coding == -1:
            return np.asarray(below)
        path = self._slab(variable, captures[step]) / "residual"
        residual = np.asarray(opened(path)[(captures[step]["position"], *cells)])
        for axis in (-1, -2) if filtered else ():
            residual = residual.cumsum(axis=axis, dtype=residual.dtype)
        with np.errstate(over="ignore"):
            return np.asarray(residual + below)

    def _row(self, variable: Any, capture: Any, index: Index) -> NDArray[Any]:
        path = self._slab(variable, capture) / "index"
        if path not in self.tables:
            table = self.tables[path] = np.asarray(opened(path)[...])
            whole = f"{table.dtype.str}{table.shape}".encode() + table.tobytes()
            root = hashlib.blake2b(whole, digest_size=20).hexdigest()
            assert root == capture["roots"][variable["name"]]
        return np.asarray(self.tables[path][(capture["position"], *index)])

    def _slab(self, variable: Any, capture: Any) -> Path:
        name = quote(variable["name"], safe="").replace(".", "%2E").replace("%", "=")
        if len(name) > 120:
            name = f"{name[:86]}=_{hashlib.sha256(variable['name'].encode()).hexdigest()[:32]}"
        return self.folder.joinpath("captures", capture["slab"], f"v-{name}")


def everything(steps: int, lat: int) -> xr.Dataset:
    """Return a dataset with values of every kind, and among them what breaks careless readers."""
    rng = np.random.default_rng(7)
    noise = sources.noise(steps, (lat, 22))
    field = (250 + 30 * noise[0] + noise / 10).astype("f4")  # more in space than in time
    field[:, 0, :4] = [-0.0, np.inf, -np.inf, np.nan]
    field.view("u4")[:, 1, 1] = 0xFFC00001  # a NaN with a sign and a payload
    field[:, 4:] = field[0, 4:]  # chunks that never change
    grid = ("time", "lat", "lon")
    y, x = np.mgrid[:96, :256]
    smooth = 280 + 30 * np.sin(y / 9) * np.cos(x / 7) + rng.normal(size=(steps, 1, 1))
    packed = {"scale_factor": 0.01, "add_offset": 20.0, "_FillValue": np.int16(-32768)}
    who = [[f"\N{SNOWMAN} {k // 3}\n", "", 'say "a"', f"x{k}"] for k in range(steps)]
    return xr.Dataset(
        {
            "t": (grid, field, {"units": "K"}),
            "p": (grid, (9000 * noise[0] + 3 * noise).astype("i2"), packed),
            "wet": (grid, rng.random((steps, lat, 22)) < 0.5),
            "smooth": (("time", "m", "n"), smooth.astype("f4")),
            "z": (("time", "m", "n"), (rng.normal(size=(steps, 96, 256)) * (1 + 2j)).cumsum(0)),
            "wind speed, 10 m (é)" * 5: (("lat", "time"), field[..., 9].T.astype("f2")),
            "who": (("time", "station"), np.array(who, object)),
            "code": ("time", np.array([f"é{k % 4}" for k in range(steps)], "U3")),
        },
        {"time": ("time", range(steps), {"units": "days since 2001-01-01"})},
    )


def captured(
    live: str, source: xr.Dataset, repository: Repository, revised: tuple[int, ...] = ()
) -> Repository:
    """Let the source hold a dataset, and capture what is new in it."""
    sources.overwrite(live, source)
    plan = plan_capture(repository, revised=revised)
    assert plan is not None
    found = capture(repository, plan, serial)
    return commit_capture(repository, found, set(), report={}, committed_at=WHEN)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Return a repository with a revision, pruned captures and two eras, and the truth by era."""
    folder = tmp_path_factory.mktemp("history")
    live, place = str(folder / "live.zarr"), folder / "kept.gnomon"
    eras = [everything(20, lat=14), everything(4, lat=9)]
    sources.overwrite(live, eras[0])
    chunks = {"lat": 4, "lon": 8, "m": 24, "n": 64, "station": 3}
    made = gnomon.create(str(place), live, chunks=chunks).stored
    made = captured(live, eras[0].isel(time=slice(9)), made)
    eras[0].t.values[8, 0, 9] += 1.0
    made = captured(live, eras[0].isel(time=slice(15)), made, revised=(8,))
    made = captured(live, eras[0].isel(time=slice(17)), made)
    made, _ = forget(made, policy=Policy(last=6, weekly=2), committed_at=WHEN)
    made, pruned = prune(made, committed_at=WHEN)
    assert pruned.rewritten
    made = captured(live, eras[0], made)
    sources.overwrite(live, eras[1])
    made = captured(live, eras[1], begin_era(made, WHEN))
    return place, made, eras


def test_reader_agrees_with_the_program(history: History) -> None:
    place, stored, eras = history
    reader = Reader(place)
    for era, source in enumerate(eras):
        variables, captures = reader.eras[era]
        seen = stored.in_era(era)
        assert list(variables) == [v.name for v in seen.settings.variables]
        assert [c["kept"] for c in captures] == [not c.forgotten for c in seen.captured]
        for step in (s.step for s in seen.state.kept):
            day = (captures[step]["instant"] - captures[0]["instant"]) // 86_400_000_000
            for name in variables:
                found = reader.state(era, name, step)
                assert step == 8 or same(found, source[name].isel(time=day).values)
                stack = seen.captures(name)
                for index in stack.variable.grid.indices():
                    cells = stack.variable.grid.cells(index)
                    assert same(cut(found, cells), stack.chunk(step, index))


def test_every_way_to_store_a_chunk_is_read(history: History) -> None:
    _, stored, _ = history
    seen, ways = stored.in_era(0), set()
    for variable in seen.settings.variables:
        rows = [seen.captures(variable.name).rows(s.step).reshape(-1, 6) for s in seen.state.kept]
        sharded = variable.units != variable.shards
        ways |= {(sharded, variable.is_text, np.sign(r[1]), r[5]) for r in np.concatenate(rows)}
    for column, values in enumerate([{False, True}, {False, True}, {-1, 0, 1}, {0, 1}]):
        assert {way[column] for way in ways} == values


def same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Tell whether two arrays are equal, bit for bit."""
    if found.dtype == object:
        return bool(found.tolist() == expected.tolist())
    return sources.bits(found) == sources.bits(expected)


@pytest.mark.parametrize("part", ["residual", "index", "log"])
def test_reader_notices_a_changed_byte(history: History, tmp_path: Path, part: str) -> None:
    place, stored, _ = history
    copy = Path(shutil.copytree(place, tmp_path / "copy"))
    step = stored.in_era(0).timeline[-1]
    folder = part if part == "log" else f"captures/{step.slab}/v-t/{part}/c"
    path = min(p for p in (copy / folder).rglob("*") if p.is_file())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises((AssertionError, ValueError, RuntimeError)):
        Reader(copy).state(0, "t", step.step)
