"""A chunk of the live dataset is damaged, and put back in place: bytes, time, and undo.

    python -m benchmarks.restore inplace SOURCE --variable V [--repeat N N] [--rounds N] [--json]

A live Zarr store of the last steps is made whose field is the source's, repeated along its first
dimension so and so often: sizes to compare.  It is captured, one chunk of one step is overwritten
with noise, and `gnomon restore --in-place` puts the step back: once whole, which has to be compared
with the live store, and once with `--chunk`.  Then `gnomon undo` must give back every byte.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

import gnomon
from benchmarks.heal import open_record

STEPS = 4


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Return the parser of this part, added to the others."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "inplace",
        description=__doc__,
        help="one chunk is put back in place",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeat", type=int, nargs="+", default=[1, 4, 16], help="sizes (1 4 16)")
    parser.add_argument("--rounds", type=int, default=3, help="of each size (3)")
    parser.add_argument("--chunk", type=int, nargs="+", help="cells of a chunk on each axis")
    return parser


def run(options: argparse.Namespace) -> None:
    """Run all sizes and print a table or JSON."""
    record = open_record(options.source, options.variable)[[options.variable]]
    record = record.isel(time=slice(-STEPS, None)).load()
    results = []
    for repeat in options.repeat:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(enlarged(record, repeat), options, Path(folder)))
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print("chunks  written  chunk's own  whole step  one chunk  undo  (bytes; medians in s)")
    for r in results:
        print(
            f"{r['chunks']:6d}  {r['written']:7d}  {r['chunk_bytes']:11d}  "
            f"{r['whole_s']:10.3f}  {r['chunk_s']:9.3f}  {r['undo_s']:4.3f}"
        )


def enlarged(record: xr.Dataset, repeat: int) -> xr.Dataset:
    """Return a record whose first dimension in space is so many times as long."""
    (name,) = record.data_vars
    dim = str(record[name].dims[1])
    bare = record.drop_vars([n for n in record.coords if n != "time"])
    return xr.concat([bare] * repeat, dim)


def measure(record: xr.Dataset, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return what it costs to put a chunk back; raises if a byte is not what it should be."""
    name = options.variable
    source = folder / "live.zarr"
    shape = record[name].shape[1:]
    chunk = options.chunk or [min(size, 8) for size in shape]
    record.to_zarr(source, encoding={name: {"chunks": (1, *chunk)}}, consolidated=False)
    sizes = dict(zip(map(str, record[name].dims[1:]), chunk, strict=True))
    repository = gnomon.create(str(folder / "r"), str(source), chunks=sizes)
    repository.update()
    at = str(repository.status()["last"])
    values = bits_of(source, name)
    rng = np.random.default_rng(20240229)
    times: dict[str, list[float]] = {"whole_s": [], "chunk_s": [], "undo_s": []}
    written = own = 0
    for _ in range(options.rounds):
        index = tuple(int(rng.integers(-(-n // c))) for n, c in zip(shape, chunk, strict=True))
        files = bytes_of(source)
        damage(source, name, index, chunk, shape, rng)
        damaged = bytes_of(source)
        (path,) = [p for p in damaged if damaged[p] != files.get(p)]
        for key, part in (("whole_s", ()), ("chunk_s", (index,))):
            began = time.perf_counter()
            rolled = repository.rollback(at, chunk=part)
            times[key].append(time.perf_counter() - began)
            if bits_of(source, name) != values:
                raise SystemExit("the live store is not what it was before the damage")
            written, own = rolled.plan.nbytes, len(files.get(path, b""))
            began = time.perf_counter()
            repository.undo()
            times["undo_s"].append(time.perf_counter() - began)
            if bytes_of(source) != damaged:
                raise SystemExit("what was replaced was not put back bit for bit")
        repository.rollback(at)
    count = int(np.prod([-(-n // c) for n, c in zip(shape, chunk, strict=True)]))
    medians = {key: statistics.median(values) for key, values in times.items()}
    return {"chunks": count, "written": written, "chunk_bytes": own, **medians}


def damage(
    source: Path,
    name: str,
    index: tuple[int, ...],
    chunk: list[int],
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    """Overwrite a chunk of the last step with noise."""
    array = zarr.open_array(source / name, mode="r+")
    cells = tuple(
        slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, chunk, shape, strict=True)
    )
    last = array.shape[0] - 1
    extent = tuple(s.stop - s.start for s in cells)
    noise = rng.standard_normal(extent) * 100
    array[(last, *cells)] = noise.astype(array.dtype)


def bits_of(source: Path, name: str) -> bytes:
    """Return the values of a store, undecoded."""
    return np.asarray(zarr.open_array(source / name, mode="r")[...]).tobytes()


def bytes_of(folder: Path) -> dict[Path, bytes]:
    """Return the bytes of every file of a store."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
