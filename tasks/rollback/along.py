"""Along: what an object of a live dataset holds beside the state that is written into it.

Where an object cannot be decoded, the other steps in it are lost with it.  They are put back as
they were captured, as the live dataset is read now: it may have been packed anew since.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.arrays.residuals import digest
from gnomon.storage.changes.repacked import readings_at
from gnomon.storage.log.steps import CapturedStep
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane, plane_chunk
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.dtypes import native
from gnomon.storage.values.grid import Index
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing
from gnomon.storage.values.times import format_instant

__all__ = ["Along", "Box", "captured_along"]

Box = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Along:
    """Cells of one chunk of another step that are put back with an object."""

    variable: str
    """Name of the variable."""
    time: str
    """Valid time of the step, ISO 8601."""
    position: int
    """Its place along time."""
    index: Index
    """Index of the chunk on the repository's grid."""
    cells: Box
    """The cells, of the whole state."""
    digest: str
    """Digest, in hexadecimal, of their raw values as they should stand."""


def captured_along(
    repository: Repository,
    dataset: xr.Dataset,
    variable: Variable,
    position: int,
    box: Box,
) -> Iterator[tuple[Along, NDArray[np.generic]]]:
    """Yield what was captured of the other steps in a box of a live array.

    Steps that were not captured, or are not trusted, are left out; so are chunks whose numbers
    cannot be stored as the live dataset is packed.

    Parameters
    ----------
    position
        Along time, of the step that is left out, as it is written.
    box
        Cells of the array, with those along time.

    Yields
    ------
    along
        The cells.
    values
        Their raw values, in their shape, without the dimension of time.
    """
    axis = variable.time_axis
    steps = _trusted(repository, dataset, variable, box[axis])
    steps.pop(position, None)
    readings = readings_at(repository, dataset, variable, list(steps))
    captures = repository.captures(variable.name)
    inner = (*box[:axis], *box[axis + 1 :])
    touched = [
        range(s.start // c, -(-s.stop // c))
        for s, c in zip(inner, variable.grid.chunks, strict=True)
    ]
    for place, captured in steps.items():
        time = format_instant(captured.instant, repository.settings.calendar)
        for index in product(*touched):
            chunk = _read(captures, captured, index, readings[place])
            if chunk is None:
                continue
            corner = variable.grid.cells(index)
            cells = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(inner, corner, strict=True)
            )
            local = tuple(
                slice(s.start - c.start, s.stop - c.start)
                for s, c in zip(cells, corner, strict=True)
            )
            values = np.ascontiguousarray(chunk[local])
            content = digest(variable.name, index, values).hex()
            yield Along(variable.name, time, place, index, cells, content), values


def _trusted(
    repository: Repository, dataset: xr.Dataset, variable: Variable, span: slice
) -> dict[int, CapturedStep]:
    """Return by position along time the trusted captures of some steps."""
    axis = read_axis(dataset, repository.settings)
    steps = {}
    for position in range(span.start, min(span.stop, axis.instants.size)):
        if axis.missing[position]:
            continue
        versions = repository.state.versions(int(axis.instants[position]))
        if versions and not versions[0].suspects and versions[0].step >= variable.since:
            steps[position] = versions[0]
    return steps


def _read(
    captures: CaptureStack, captured: CapturedStep, index: Index, into: Packing
) -> NDArray[np.generic] | None:
    """Return a captured chunk in another packing; None if that cannot hold its numbers."""
    step = captured.step
    if not read_alike(captures.reading(step), into):
        numbers = captures.physical(step, index)
        tells_missing = into.dtype.kind == "f" or into.fills().size
        if not into.holds(numbers) or (not tells_missing and np.isnan(numbers).any()):
            return None
    plane = Plane(captured.instant, step=step)
    raw, *_ = plane_chunk(captures, None, plane, index, into, marks=False)
    return native(raw)
