"""Bits per value of the ways to store a field: python benchmarks/bits.py SOURCE --variable V.

Every step along the first dimension is one chunk; values are taken undecoded.
"""

import argparse
import itertools
import json

import numpy as np
import xarray as xr
from numcodecs.pcodec import PCodec
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from gnomon.storage.arrays.residuals import ordered
from gnomon.storage.values.dtypes import native


def measure(fields: NDArray[np.generic]) -> dict[str, float]:
    """Return bits per value by coding; fields is (step, ...)."""
    keys = [ordered(field) for field in fields]
    deltas = [b - a for a, b in itertools.pairwise(keys)]
    unsigned = np.dtype(f"<u{fields.dtype.itemsize}")
    pcodec = PCodec(level=8)
    parts = {
        "raw, zstd": (fields, Zstd(level=3)),
        "raw, pcodec": (fields, pcodec),
        "key": (keys, pcodec),
        "delta, unsigned": ([d.view(unsigned) for d in deltas], pcodec),
        "delta": (deltas, pcodec),
    }
    return {
        name: float(
            np.mean([8 * len(codec.encode(np.ascontiguousarray(c))) / c.size for c in chunks])
        )
        for name, (chunks, codec) in parts.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--variable", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with xr.open_dataset(options.source, decode_cf=False) as dataset:
        fields = native(dataset[options.variable][: options.steps].values)
    bits_per_value = measure(fields)
    if options.json:
        print(json.dumps(bits_per_value))
        return
    for name, bits in bits_per_value.items():
        print(f"{name:18} {bits:6.2f}")


if __name__ == "__main__":
    main()
