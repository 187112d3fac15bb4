"""What storage costs: python -m benchmarks.storage SOURCE --variable V [--json].

Bytes per value of the captures beside Zarr with zstd, Zarr with pcodec, and Icechunk, for the same
states in the same chunks; bytes of a shadow; time of a capture and of a restore, each beside plain
Zarr in the same run, medians of pairs; and how opening, committing and the disk grow with the
number of captures.  The source is any dataset with a time dimension that xarray opens.
"""

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import gnomon
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.model import Variable

if not __package__:  # run as a file: the other is beside it
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.timing import HOUR, capture_all, codecs, times_of


def size_of(folder: Path, pattern: str = "**/*") -> int:
    """Return the bytes of the files below a folder."""
    return sum(p.stat().st_size for p in folder.glob(pattern) if p.is_file())


def write_source(path: Path, fields: NDArray[Any], attributes: dict[str, Any]) -> Path:
    """Write states (step, ...) as a Zarr dataset with one chunk per state."""
    dims = [f"d{k}" for k in range(fields.ndim - 1)]
    shutil.rmtree(path, ignore_errors=True)
    time = xr.Variable("time", np.arange(len(fields)), {"units": "hours since 2000-01-01"})
    dataset = xr.Dataset({"v": (("time", *dims), fields, attributes)}, coords={"time": time})
    encoding = {"v": {"chunks": (1, *fields.shape[1:]), "_FillValue": None}}
    if "_FillValue" in attributes:
        encoding["v"].pop("_FillValue")
    dataset.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return path


# Bytes -----------------------------------------------------------------------------------------


def bytes_of(fields: NDArray[Any], attributes: dict[str, Any], folder: Path) -> dict[str, float]:
    """Return stored bits per value of the same states in several stores, all files counted."""
    source = write_source(folder / "source.zarr", fields, attributes)
    opened = gnomon.create(str(folder / "gnomon"), str(source))
    variable = opened.stored.settings.variables[0]
    capture_all(opened.stored)
    stored = gnomon.open(str(folder / "gnomon")).stats()
    for name, options in {
        "zstd": {},
        "pcodec": {"filters": None, **codecs(variable)},
    }.items():
        if name == "pcodec" and fields.dtype.itemsize == 1:
            continue
        array = zarr.create_array(
            folder / name,
            shape=fields.shape,
            chunks=(1, *variable.units),
            shards=(1, *variable.shards) if variable.shards != variable.units else None,
            dtype=fields.dtype,
            **options,  # type: ignore[arg-type]
        )
        array[...] = fields
    write_icechunk(folder / "icechunk", fields, variable)
    names = [n for n in ("zstd", "pcodec", "icechunk") if (folder / n).exists()]
    values = float(fields.size)
    sizes = {f"zarr {n}" if n != "icechunk" else n: size_of(folder / n) for n in names}
    parts = stored.parts
    sizes["gnomon, data"] = parts["captures"]
    sizes["gnomon, data and index"] = parts["captures"] + parts["index"]
    sizes["gnomon, everything"] = sum(parts.values())
    return {name: 8.0 * nbytes / values for name, nbytes in sizes.items()}


def write_icechunk(path: Path, fields: NDArray[Any], variable: Variable) -> None:
    """Write the states into an Icechunk repository, one commit, defaults, same chunks."""
    try:
        import icechunk
    except ImportError:
        return
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    array = zarr.create_array(
        session.store,
        name="v",
        shape=fields.shape,
        chunks=(1, *variable.units),
        dtype=fields.dtype,
    )
    array[...] = fields
    session.commit("all")


def shadow_bytes(source: str, name: str, folder: Path) -> dict[str, float] | None:
    """Return the bytes of one lead of a shadow beside those of one capture; None if no shadow."""
    opened = gnomon.create(str(folder / "shadowed"), source, variables=[name])
    opened.update()
    status, stats = opened.status(), opened.stats()
    if "confidence" not in status["variables"][name]:
        return None
    per_lead = stats.parts["shadows"] / stats.shadows / len(status["shadow"])
    variable = next(v for v in stats.variables if v.name == name)
    per_capture = variable.nbytes / stats.captures
    raw = variable.raw_nbytes / stats.captures
    return {
        "lead": per_lead,
        "capture": per_capture,
        "lead to raw": per_lead / raw,
        "lead to capture": per_lead / per_capture,
    }


# Growth ----------------------------------------------------------------------------------------


def growth(counts: list[int], folder: Path) -> list[dict[str, float]]:
    """Return cost of commit, opening and disk after so many captures of a small changing field."""
    rng = np.random.default_rng(0)
    path = folder / "small.zarr"
    field = rng.normal(size=(16, 16)).astype(np.float32)
    xr.Dataset({"v": (("y", "x"), field)}).to_zarr(path, zarr_format=3, consolidated=False)
    repository = gnomon.create(str(folder / "grown"), str(path), kind="state").stored
    live = zarr.open_array(path / "v", mode="r+")
    seconds: list[float] = []
    figures = []
    for number in track(range(1, counts[-1] + 1), "captures", console=Console(stderr=True)):
        live[...] = field + np.float32(number)
        start = perf_counter()
        repository = capture_all(repository, now=number * HOUR)
        seconds.append(perf_counter() - start)
        if number in counts:
            figures.append(
                {
                    "captures": number,
                    "commit_s": median(seconds[-50:]),
                    "open_and_list_s": median(opening(folder / "grown") for _ in range(3)),
                    "bytes_per_capture": size_of(folder / "grown") / number,
                }
            )
    return figures


def opening(path: Path) -> float:
    """Return the seconds that a fresh process needs to open a repository and list its points."""
    import subprocess

    program = (
        "import sys, time\nfrom gnomon.repository import open_repository\n"
        "start = time.perf_counter()\nopened = open_repository(sys.argv[1])\n"
        "found = opened.captures()\nopened.points(found[-1]['valid_time'])\n"
        "print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", program, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# Report ----------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    with xr.open_dataset(options.source, decode_cf=False) as dataset:
        array = dataset[options.variable]
        attributes = {
            k: v
            for k, v in array.attrs.items()
            if k in ("_FillValue", "scale_factor", "add_offset")
        }
        time = next(
            (d for d in array.dims if " since " in str(dataset[d].attrs.get("units"))), None
        )
        ordered = array.transpose(time or array.dims[0], ...)
        fields = native(ordered[: options.steps].values)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        figures["bits_per_value"] = bytes_of(fields, attributes, folder)
        figures["shadow_bytes"] = shadow_bytes(
            str(Path(options.source).absolute()), options.variable, folder
        )
        figures["times"] = times_of(fields, options.megabytes * 2**20, options.rounds, folder)
        if options.captures:
            figures["growth"] = growth(sorted({100, options.captures}), folder)
    return figures


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--steps", type=int, default=744, help="states to store")
    parser.add_argument("--megabytes", type=int, default=64, help="size of a state that is timed")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of timings")
    parser.add_argument("--captures", type=int, default=1000, help="0: leave the growth out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, bits in figures["bits_per_value"].items():
        print(f"{name:24} {bits:7.2f} bits per value")
    if figures["shadow_bytes"]:
        for name, value in figures["shadow_bytes"].items():
            print(f"shadow, {name:16} {value:10.3g}")
    for name, row in figures["times"].items():
        print(f"{name:30} {row['seconds']:.3f} s / {row['beside']:.3f} s = {row['ratio']:.2f}")
    for row in figures.get("growth", []):
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()))


if __name__ == "__main__":
    main()
