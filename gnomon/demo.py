"""The demo: four and a half years of sea surface temperature, one damaged month, healed.

Real data: the OSTIA monthly analyses of the tropics that the package ``iris-sample-data`` ships.
The source grows month by month; every update is one run of the Prefect flow on Dask workers.
"""

import json
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gnomon.cli import report, report_restore
from gnomon.creation import create
from gnomon.flows.cluster import local_cluster
from gnomon.flows.launch import prefect_api, run_backfill, run_restore, run_update
from gnomon.flows.settings import Settings
from gnomon.plots import Heal, plot_heal
from gnomon.repository import GnomonRepository, open_repository
from gnomon.storage.errors import Conflict, GnomonError, NotFound
from gnomon.storage.serve.planes import PROVENANCE
from gnomon.storage.userpath import blaming, check_output
from gnomon.tasks.restoring.restore_point import RestorePoint

__all__ = ["Row", "load_ostia", "run_demo", "score"]

VARIABLE = "surface_temperature"
HISTORY = 42
"""Number of months that are backfilled; the others arrive one by one."""
BLOCK = (9, 54)
"""Stored blocks of the source: 5 degrees of latitude by 45 of longitude."""
DAMAGED = (slice(0, 9), slice(378, 432))
"""The damaged block: the tropical Atlantic south of the equator, 315 to 360 degrees east."""
STRANGER = 47
"""The month whose values, in Celsius, are put into the block."""
_MARK = ".gnomon-demo"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One way to restore the damaged block, against the truth."""

    restored: str
    """What the block is filled with."""
    error: float
    """RMSE over the damaged cells."""
    stated: float
    """RMSE that was stated beforehand, without the truth."""
    confidence: float | None
    """Stated probability to be within tolerance; None where none is stated."""


def load_ostia() -> xr.Dataset:
    """Return the monthly temperatures, 54 x 18 x 432, land missing."""
    try:
        import iris_sample_data
    except ImportError as error:
        raise NotFound(
            "the data of the demo is in the package iris-sample-data; pip install 'gnomon[demo]'"
        ) from error
    path = Path(iris_sample_data.path) / "ostia_monthly.nc"
    with xr.open_dataset(path) as dataset:
        temperatures = dataset[[VARIABLE]].drop_vars(["forecast_period", "forecast_reference_time"])
        return temperatures.drop_attrs(deep=False).load()


def run_demo(folder: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Run the demo in a folder of its own and return its figures."""
    started = time.monotonic()
    _prepare(folder)
    data = load_ostia()
    source, place = folder / "sst.zarr", folder / "sst.gnomon"
    warnings.simplefilter("ignore")
    say = (lambda _text: None) if quiet else report.note
    say(f"source: {HISTORY} of {data.sizes['time']} months of {VARIABLE} in {source}")
    _write(source, data.isel(time=slice(HISTORY)))
    create(str(place), str(source))
    with _progress(data.sizes["time"], quiet) as move, prefect_api(), local_cluster(2) as address:
        settings = Settings(scheduler=address, docs=folder / "docs", alerts=folder / "alerts.jsonl")
        move("backfill", 0)
        run_backfill(str(place), until=None, settings=settings)
        false_alarms = 0
        for month in range(HISTORY, data.sizes["time"] - 1):
            move(f"update, month {month + 1}", month)
            arriving = data.isel(time=slice(month, month + 1))
            false_alarms += _capture(arriving, source, place, settings)["suspect_chunks"]
        last = data.sizes["time"] - 1
        move("a damaged month arrives", last)
        update = _capture(_damage(data), source, place, settings)
        at = update["captured"][-1]
        move("heal and restore", last + 1)
        target = str(folder / "healed.zarr")
        if not update["suspect_chunks"]:
            raise GnomonError(f"no check found the damage; see the checks in {folder / 'docs'}")
        run_restore(
            str(place),
            at,
            target,
            kind=None,
            accept_predicted=True,
            plain=False,
            settings=settings,
        )
    repository = open_repository(str(place))
    points = repository.points(at)
    result = _report(repository, data, points, folder, say)
    return result | {
        "false_alarms": false_alarms,
        "incidents": update["incidents"],
        "alerts": [json.loads(line) for line in _lines(folder / "alerts.jsonl")],
        "restored": target,
        "seconds": round(time.monotonic() - started, 1),
    }


def _prepare(folder: Path) -> None:
    check_output("--folder", folder, folder=True)
    with blaming("--folder", folder):
        if (folder / _MARK).exists():
            shutil.rmtree(folder)
        if folder.exists() and any(folder.iterdir()):
            raise Conflict(f"{folder} is not empty, and not from the demo; choose another --folder")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()


def _write(source: Path, months: xr.Dataset) -> None:
    with blaming("--folder", source.parent):
        if source.exists():
            months.to_zarr(source, append_dim="time")
        else:
            months.to_zarr(source, encoding={VARIABLE: {"chunks": (1, *BLOCK)}})


def _capture(months: xr.Dataset, source: Path, place: Path, settings: Settings) -> dict[str, Any]:
    """Let months arrive in the source, and return what an update says of them."""
    _write(source, months)
    return run_update(str(place), time=None, refit=False, settings=settings)


def _damage(data: xr.Dataset) -> xr.Dataset:
    """Return the last month with one stored block from another month, in the wrong unit."""
    month = data.isel(time=slice(-1, None)).copy(deep=True)
    kelvin = data[VARIABLE].values[STRANGER, *DAMAGED]
    month[VARIABLE].values[0, *DAMAGED] = kelvin - np.float32(273.15)
    return month


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Any]:
    columns = (TextColumn("{task.description:28}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting Prefect and Dask", total=total)

        def move(what: str, done: int) -> None:
            bar.update(task, description=what, completed=done)
            if not quiet and not console.is_terminal:
                report.note(f"  {what}")

        yield move


def _report(
    repository: GnomonRepository,
    data: xr.Dataset,
    points: Sequence[RestorePoint],
    folder: Path,
    say: Any,
) -> dict[str, Any]:
    """Print the findings and how well the damage was healed; draw the picture."""
    truth = data[VARIABLE].values[-1]
    with xr.open_dataset(folder / "healed.zarr", engine="zarr") as healed:
        rows, picture, intact = score(repository, points, healed.isel(time=0).load(), truth)
    with blaming("--folder", folder):
        path = plot_heal(picture, folder / "healed.png")
    if say is report.note:
        report.print_anomalies(repository.anomalies())
        report_restore.print_points(points)
        _print(rows, repository, intact, folder, path)
    return {
        "table": [asdict(row) for row in rows],
        "intact_bit_for_bit": intact,
        "picture": str(path),
        "points": [p.to_json() for p in points],
    }


def score(
    repository: GnomonRepository,
    points: Sequence[RestorePoint],
    restored: xr.Dataset,
    truth: NDArray[np.float32],
) -> tuple[list[Row], Heal, bool]:
    """Return errors against the truth over the suspect chunks, and whether all else is exact."""
    stored = repository.stored
    variable = stored.settings.variable(VARIABLE)
    healed = next(p for p in points if p.kind == "healed")
    point = next(p for p in points if p.kind == "forecast")
    last = next(p for p in points if p.kind == "last_capture")
    shadow = stored.shadow_named(point.shadow)
    assert shadow is not None
    predicted = stored.shadow(VARIABLE, shadow)
    at = point.valid_time
    fields = {
        "captured": repository.dataset(at, kind="suspect")[VARIABLE].values[0],
        "last capture": repository.dataset(at, kind="last_capture")[VARIABLE].values[0],
        "healed": restored[VARIABLE].values,
    }
    forecast = repository.dataset(at, kind="forecast", accept_predicted=True)
    fields["forecast"] = forecast[VARIABLE].values[0]
    errors = {
        "last capture": np.full(truth.shape, last.expected_error[VARIABLE] or np.nan),
        "forecast": forecast[f"{VARIABLE}_standard_error"].values[0],
        "healed": restored[f"{VARIABLE}_standard_error"].values,
    }
    hole = restored[f"{VARIABLE}_provenance"].values != PROVENANCE["captured"]
    verified = hole & np.isfinite(truth)
    stated = 0.0 if healed.confidence is None else healed.confidence
    confidence = np.ones(truth.shape)
    chances: dict[str, list[float]] = {"last capture": [], "forecast": [], "healed": []}
    for index in variable.grid.indices():
        cells = variable.grid.cells(index)
        if hole[cells].any():
            chances["forecast"].append(float(predicted.scores()[(point.lead - 1, *index, 2)]))
            chances["healed"].append(stated)
            confidence[cells] = stated
    rows = [
        Row(
            name,
            _rms((fields[name] - truth)[verified]),
            _rms(errors[name][verified]),
            _mean(values),
        )
        for name, values in chances.items()
    ]
    exact = np.array_equal(fields["healed"][~hole].view("u4"), truth[~hole].view("u4"))
    picture = Heal(truth, fields["captured"], fields["healed"], confidence, VARIABLE, at, "K")
    return rows, picture, exact


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _print(
    rows: list[Row], repository: GnomonRepository, intact: bool, folder: Path, picture: Path
) -> None:
    tolerance = repository.status()["variables"][VARIABLE]["tolerance"]
    report.print_table(
        ("restored block", "error (K)", "stated standard error (K)", "stated confidence"),
        [(r.restored, r.error, r.stated, r.confidence) for r in rows],
        title=f"RMSE over the damaged cells; confidence: to be within {tolerance:.2f} K",
    )
    report.note(f"intact cells are {'' if intact else 'NOT '}bit for bit those of the source")
    report.note(f"picture: {picture}")
    report.note(f"checks: {folder / 'docs' / 'index.html'}   alerts: {folder / 'alerts.jsonl'}")
    report.note(f"restored month: {folder / 'healed.zarr'}   repository: {repository.path}")
