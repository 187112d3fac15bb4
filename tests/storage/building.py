"""Small sources and repositories for the tests, made through the public parts of the floors."""

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from gnomon.storage.arrays.encoding import COLUMNS, Held, encode_unit
from gnomon.storage.arrays.residuals import residual_dtype
from gnomon.storage.arrays.tables import Slab, create_index, create_residual, create_table
from gnomon.storage.care.check import Problem, check
from gnomon.storage.changes.era import settings_of
from gnomon.storage.errors import GnomonError
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES, SPAN, checkpoint_name, record_name
from gnomon.storage.log.staging import Batch, fresh_id
from gnomon.storage.log.steps import CapturedStep
from gnomon.storage.repository import _OPENED, Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.serve.view import raw_dataset
from gnomon.storage.source.opening import open_source
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.forecaster import (
    create_state,
    create_state_tables,
    state_grid,
    write_state,
)
from gnomon.storage.stacks.quantising import quantise
from gnomon.storage.stacks.shadows import (
    INDEX_COLUMNS,
    SCORE_COLUMNS,
    create_shadow,
    create_shadow_tables,
    write_block,
)
from gnomon.storage.values.grid import ChunkGrid
from gnomon.storage.values.model import Kind, RepositorySettings, SourceSpec, Variable
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import plan_capture
from gnomon.tasks.work import serial

HOUR = 3_600_000_000
WHEN = "2020-01-01T00:00:00+00:00"


@dataclass(frozen=True, slots=True)
class OtherBody:
    """What a record says in the words of whoever made it."""

    kind: str
    """The kind of the record."""
    fields: Mapping[str, Any]
    """As they stand."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without the header."""
        return dict(self.fields)


def weather(steps: int = 4, *, first: int = 0) -> xr.Dataset:
    """Return a small undecoded dataset: a field with land, a packed one, a mask."""
    y, x = np.mgrid[0:6, 0:10].astype(np.float32)
    time = np.arange(first, first + steps)
    field = np.stack([np.sin(x / 3 + k) * 4 + y for k in time]).astype(np.float32)
    field[:, 0, :3] = np.nan
    packed = np.rint(field[:, :, ::-1] * 50).astype(np.float32)
    packed = np.where(np.isnan(packed), -32768, packed).astype(np.int16)
    wet = np.broadcast_to((x + y > 5).astype(np.uint8), field.shape).copy()
    dims = ("time", "y", "x")
    scale = {"scale_factor": 0.02, "add_offset": 1.0, "_FillValue": -32768}
    return xr.Dataset(
        {
            "t": (dims, field, {"units": "K", "standard_name": "air_temperature"}),
            "p": (dims, packed, {"units": "hPa", **scale}),
            "wet": (dims, wet, {"flag_values": [0, 1], "flag_meanings": "dry wet"}),
        },
        coords={
            "time": ("time", time, {"units": "hours since 2000-01-01", "calendar": "standard"}),
            "y": ("y", np.arange(6.0), {"units": "degrees_north"}),
            "x": ("x", np.arange(10.0), {"units": "degrees_east"}),
        },
        attrs={"title": "weather", "version": 3},
    )


def write_zarr(dataset: xr.Dataset, path: Path, **options: Any) -> Path:
    """Write an undecoded dataset as a Zarr store."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.to_zarr(path, consolidated=False, **options)
    return path


def make_repository(
    url: str | Path,
    source: str | Path,
    *,
    kind: Kind | None = None,
    names: tuple[str, ...] = (),
    chunks: dict[str, int] | None = None,
    engine: str | None = None,
    time: str | None = None,
    start: str | None = None,
    interval_s: float | None = None,
) -> Repository:
    """Make a repository for a source, as init does."""
    spec = SourceSpec(str(source), kind or "append", time, engine)
    with open_source(spec) as dataset:
        wanted = RepositorySettings(
            spec, (), "", "", {}, names=names, chunk_sizes=dict(chunks or {}), interval_s=interval_s
        )
        settings, frame, _ = settings_of(dataset, wanted, kind=kind, start=start)
        return Repository.create(str(url), settings, frame, WHEN)


def capture_new(
    repository: Repository, *, now: int | None = None, until: int | None = None
) -> Repository:
    """Capture what is new in the source, as an update does, without judging it."""
    plan = plan_capture(repository, now=now, until=until)
    assert plan is not None
    found = capture(repository, plan, serial)
    return commit_capture(repository, found, set(), report={}, committed_at=WHEN)


def captured(url: str | Path, source: str | Path, **options: Any) -> Repository:
    """Make a repository and capture everything that the source holds."""
    return capture_new(make_repository(url, source, **options))


def add_shadow(repository: Repository, leads: int = 2, lasting: int = 1) -> Repository:
    """Commit a made-up shadow of every forecast variable, and a made-up state."""
    batch = Batch(repository.location, fresh_id(len(repository.records)))
    last = repository.timeline[-1]
    rng = np.random.default_rng(7)
    variables: dict[str, Any] = {}
    forecaster: dict[str, Any] = {}
    for variable in repository.settings.variables:
        if variable.forecast:
            roots = _write_shadow(repository, variable, batch, leads, lasting, rng)
            ledger = create_table(
                batch,
                f"ledger/{batch.id}/prediction-{variable.folder}",
                np.zeros((leads, *variable.grid.counts, 1)),
                ["cells"],
            )
            variables[variable.name] = {
                "roots": roots,
                "confidence": [0.5] * leads,
                "expected_rmse": [1.0] * leads,
                "tolerance": 1.0,
                "ledger": ledger,
            }
            root, shared = _write_state(variable, batch, rng)
            learnt = {"root": root, "shared": shared, "rows": 2, "columns": 3}
            forecaster[variable.name] = learnt
    body = {
        "step": last.step,
        "reference": last.instant,
        "instants": [last.instant + (k + 1) * HOUR for k in range(leads)],
        "bases": [last.step],
        "variables": variables,
        "forecaster": forecaster,
        "report": {},
        "lasting": lasting,
    }
    return repository.commit(OtherBody("shadow", body), WHEN, batch)


def residual_array(
    batch: Batch, path: str, *, lead: int, grid: ChunkGrid, dtype: np.dtype[Any]
) -> zarr.Array[Any]:
    """Make an array of integers and open it for writing with Zarr."""
    create_residual(batch, path, lead=lead, grid=grid, dtype=dtype)
    return zarr.open_array(batch.store(), path=path, mode="r+")


def _write_shadow(
    repository: Repository,
    variable: Variable,
    batch: Batch,
    leads: int,
    lasting: int,
    rng: np.random.Generator,
) -> dict[str, str]:
    grid = variable.grid
    last = repository.timeline[-1].step
    stack = repository.captures(variable.name)
    create_shadow(batch, variable, leads, lasting, {})
    rows = np.zeros((leads, *grid.counts, len(INDEX_COLUMNS)), np.int64)
    scores = np.zeros((leads, *grid.counts, len(SCORE_COLUMNS)))
    for block in grid.blocks():
        chunks = {}
        for index, _, _ in grid.inner(block):
            base = variable.to_physical(stack.chunk(last, index))
            mean = base + rng.normal(size=(leads, *base.shape))
            sigma = np.where(np.isnan(base), np.nan, rng.uniform(0.5, 2.0, mean.shape))
            claims = np.full(leads, 0.5), np.ones(leads)
            made = quantise(variable.name, index, mean, sigma, base, last, *claims)
            chunks[index] = made
            place: tuple[Any, ...] = (slice(None), *index)
            scores[place] = made.score
        rows[:, *block.chunks] = write_block(batch, variable, block, chunks, lasting)
    roots = create_shadow_tables(batch, variable, rows, scores)
    return dict(zip(("index", "score"), roots, strict=True))


def _write_state(variable: Variable, batch: Batch, rng: np.random.Generator) -> tuple[str, str]:
    path = f"forecaster/{batch.id}/{variable.folder}"
    grid = state_grid(variable.grid, 2)
    create_state(batch, path, grid, 2)
    numbers = rng.normal(size=(2, *grid.shape))
    index = np.zeros((*grid.counts, 4), np.int64)
    for block in grid.blocks():
        part = numbers[(slice(None), *block.cells)]
        fineness = np.full((2, *block.grid), -40)
        index[block.chunks] = write_state(batch, path, variable.name, grid, block, part, fineness)
    return create_state_tables(batch, path, index, rng.normal(size=(*grid.counts, 3)))


def store_stack(
    location: Location, variable: Variable, states: list[Any], *, per_slab: int = 1000
) -> CaptureStack:
    """Store states of one variable in slabs of `per_slab` steps and open them for reading."""
    grid: ChunkGrid = variable.grid
    held: dict[Any, Held] = {}
    steps: list[CapturedStep] = []
    slabs: dict[str, dict[str, str]] = {}
    for first in range(0, len(states), per_slab):
        part = states[first : first + per_slab]
        batch = Batch(location, f"s{first:03d}")
        path = f"captures/{batch.id}/{variable.folder}"
        dtype = residual_dtype(variable.numpy_dtype)
        array = residual_array(
            batch, f"{path}/residual", lead=len(part), grid=variable.stored_grid, dtype=dtype
        )
        rows = np.zeros((len(part), *grid.counts, len(COLUMNS)), np.int64)
        for k, state in enumerate(part):
            residual = np.zeros(grid.shape, dtype)
            for index in grid.indices():
                chunk = np.asarray(state[grid.cells(index)], order="C")
                made = encode_unit(variable.name, first + k, [(index, chunk, held.get(index))])[0]
                held[index], rows[(k, *index)] = made.held, made.row
                if made.residual is not None:
                    residual[grid.cells(index)] = made.residual
            array[k] = residual
            steps.append(CapturedStep(first + k, (first + k) * HOUR, batch.id, k, 0, WHEN))
        root = create_index(batch, f"{path}/index", rows, COLUMNS)
        slabs[batch.id] = {variable.name: root}
    return CaptureStack(location, variable, tuple(steps), slabs, (variable.packing,))


def planes_of(repository: Repository) -> tuple[Plane, ...]:
    """Return every captured state."""
    return tuple(Plane(s.instant, step=s.step) for s in repository.timeline)


def history(repository: Repository) -> xr.Dataset:
    """Return every captured state of an append source, undecoded."""
    return raw_dataset(repository, planes_of(repository), plain=True)


def assert_identical(found: xr.Dataset, wanted: xr.Dataset) -> None:
    """Demand the same variables, dims, types, bits and attributes."""
    assert set(found.variables) == set(wanted.variables)
    assert same_attributes(found.attrs, wanted.attrs)
    for name in wanted.variables:
        a, b = found.variables[name], wanted.variables[name]
        assert a.dims == b.dims, name
        assert same_attributes(a.attrs, b.attrs), (name, a.attrs, b.attrs)
        x, y = np.asarray(a.values), np.asarray(b.values)
        assert x.shape == y.shape, name
        if y.dtype.kind in "OT":
            assert x.tolist() == y.tolist(), name
        else:
            assert x.dtype == y.dtype.newbyteorder("<"), name
            assert x.tobytes() == y.astype(x.dtype).tobytes(), name


def same_attributes(a: dict[Any, Any], b: dict[Any, Any]) -> bool:
    """Tell whether attributes have the same names, types and bits."""

    def form(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
            return type(value).__name__, array.dtype.newbyteorder("<").str, repr(array.tolist())
        return type(value).__name__, repr(value)

    return {k: form(v) for k, v in a.items()} == {k: form(v) for k, v in b.items()}


def reopened(url: str | Path) -> Repository:
    """Open a repository as a new process would: this one remembers the records it has verified."""
    _OPENED.clear()
    return Repository.open(str(url))


def problems_of_a_stopped_writer(repository: Repository) -> list[Problem]:
    """Return what a check finds, but for what the next commit puts beside the newest record."""
    newest = repository.records[-1].sequence
    due = {COPIES + record_name(newest)}
    if (newest + 1) % SPAN == 0:
        due.add(checkpoint_name(newest + 1 - SPAN))
    return [p for p in check(repository, read_data=True).problems if p.file not in due]


def shorten_spans(monkeypatch: pytest.MonkeyPatch, span: int = 4) -> None:
    """Let a checkpoint hold few records."""
    for module in ("log.records", "care.check", "care.repair"):
        monkeypatch.setattr(f"gnomon.storage.{module}.SPAN", span)


def everything(url: str | Path) -> dict[str, Any]:
    """Read all that a repository may ever return, as a new process would, or raise."""
    repository = reopened(url)
    found: dict[str, Any] = {
        "records": [(r.kind, r.body) for r in repository.records],
        "settings": repository.settings.to_json(),
    }
    for name, fixed in repository.frame.variables.items():
        found[f"frame {name}"] = _plain(fixed.values)
    for variable in repository.settings.variables:
        stack = repository.captures(variable.name)
        for captured in repository.timeline:
            for index in variable.grid.indices():
                chunk = stack.chunk(captured.step, index)
                found[f"captured {variable.name} {captured.step} {index}"] = _plain(chunk)
    for shadow in repository.shadows:
        for name in shadow.variables:
            predicted = repository.shadow(name, shadow)
            for lead in range(1, len(shadow.instants) + 1):
                for index in predicted.variable.grid.indices():
                    parts = predicted.chunk(lead, index)
                    found[f"shadow {name} {lead} {index}"] = [p.tobytes() for p in parts]
    newest = repository.forecaster
    for name in newest.learnt if newest else ():
        state = repository.forecaster_state(name)
        for index in state.variable.grid.indices():
            found[f"state {name} {index}"] = [p.tobytes() for p in state.chunk(index)]
    return found | _ledger(repository)


def _plain(values: np.ndarray) -> Any:
    return values.tolist() if values.dtype == object else values.tobytes()


def _ledger(repository: Repository) -> dict[str, Any]:
    """Return the statistics of captures and shadows, by table."""
    found: dict[str, Any] = {}
    for record in repository.records:
        if record.kind in ("capture", "shadow"):
            group = "actual" if record.kind == "capture" else "prediction"
            for name, entry in record.body["variables"].items():
                key = f"{group}-{repository.settings.variable(name).folder}"
                path = f"ledger/{record.body['id']}"
                slab = Slab(repository.location, path, {key: entry["ledger"]})
                found[f"{path}/{key}"] = slab.index(key).tobytes()
    return found


def attempt(url: str | Path) -> dict[str, Any] | GnomonError:
    """Return everything, or the error that was raised on purpose."""
    try:
        return everything(url)
    except GnomonError as error:
        return error


def files_of(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file())


def copy_of(folder: Path, target: Path) -> Path:
    """Return a copy that may be damaged."""
    return Path(shutil.copytree(folder, target))


def undecoded(source: str | Path, steps: int | None = None) -> xr.Dataset:
    """Return the source, or its first steps, as it is stored."""
    dataset = open_source(SourceSpec(str(source), "append")).load()
    return dataset if steps is None else dataset.isel(time=slice(steps))
