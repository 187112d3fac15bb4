"""Makes a golden repository of the present format: python -m tests.storage.golden

Run once per format, when it is fixed; the archives are kept and must stay readable for ever.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import xarray as xr

from gnomon.storage.care.forget import forget, tag
from gnomon.storage.care.prune import prune
from gnomon.storage.repository import Repository
from gnomon.storage.values.model import FORMAT
from tests.storage.building import (
    HOUR,
    WHEN,
    add_shadow,
    capture_new,
    make_repository,
    weather,
    write_zarr,
)

GOLDEN = Path(__file__).parents[1] / "golden"
START = 946_684_800_000_000


def contents(repository: Repository) -> dict[str, str]:
    """Return a hash of everything that a repository returns: captures, predictions, frame."""
    found = {}
    for variable in repository.settings.variables:
        stack = repository.captures(variable.name)
        for captured in repository.state.kept:
            for index in variable.grid.indices():
                values = stack.chunk(captured.step, index)
                text = repr(values.tolist()).encode() if variable.is_text else values.tobytes()
                found[f"{variable.name} {captured.step} {index}"] = _hash(text)
    for number, shadow in enumerate(repository.shadows):
        for name in shadow.variables:
            opened = repository.shadow(name, shadow)
            for lead in range(1, len(shadow.instants) + 1):
                for index in opened.variable.grid.indices():
                    # Rounded: the last bits of floating-point sums are the machine's own.
                    parts = [np.round(p, 6) + 0.0 for p in opened.chunk(lead, index)]
                    found[f"shadow {number} {name} {lead} {index}"] = _hash(
                        b"".join(p.tobytes() for p in parts)
                    )
    for key, fixed in repository.frame.variables.items():
        found[f"frame {key}"] = _hash(repr(np.asarray(fixed.values).tolist()).encode())
    return found


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


def source() -> xr.Dataset:
    """Return states of several types."""
    dataset = weather(8)
    words = np.array([["dry", "wet", "\u00e9t\u00e9"][k % 3] * (k + 1) for k in range(8)], object)
    dataset["word"] = (("time",), words)
    dataset["wave"] = (("time", "x"), (np.arange(80.0).reshape(8, 10) * (1 + 2j)).astype("c8"))
    return dataset


def main() -> None:
    """Write the archive and what must be read from it."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        os.chdir(folder)  # so that the archive holds no path of this machine
        live = write_zarr(source(), Path("source.zarr"))
        made = make_repository(folder / "r", live, chunks={"y": 4, "x": 5})
        made = capture_new(made, until=START + 2 * HOUR)
        made = capture_new(capture_new(made, until=START + 4 * HOUR))
        made = add_shadow(made)
        made = tag(made, [2], add=["gold"], committed_at=WHEN)
        made, _ = forget(made, captures=[0, 1], committed_at=WHEN)
        made, _ = prune(made, committed_at=WHEN)
        expected = contents(Repository.open(str(folder / "r")))
        archive = GOLDEN / f"format-{FORMAT}"
        shutil.make_archive(str(archive), "zip", folder / "r")
        archive.with_suffix(".json").write_text(json.dumps(expected, indent=0, sort_keys=True))


if __name__ == "__main__":
    main()
