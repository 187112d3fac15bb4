"""Repacked: a source whose values are to be read otherwise than those that were captured.

A store is encoded anew with another scale, or in other units; a field that is overwritten is packed
by its extremes each time.  The numbers go on, or they do not: where a captured state is still in
the source, the two are compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.errors import GnomonError
from gnomon.storage.log.description import Description
from gnomon.storage.log.readings import is_close
from gnomon.storage.repository import Repository
from gnomon.storage.source.files.opening import is_many, told_at
from gnomon.storage.source.states import read_state
from gnomon.storage.source.timeaxis import read_axis
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.meaning import IDENTITY, converting, is_scaled_alike, read_alike, reading
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing
from gnomon.storage.values.units import same_units

__all__ = ["Repacking", "is_read_anew", "judge_repacked", "readings_at", "varies_by_custom"]

Line = tuple[float, float]

_DIGITS = 1e-12
"""Of a factor or a shift, what is of the arithmetic."""


@dataclass(frozen=True, slots=True)
class Repacking:
    """What another packing, or other units, are to the numbers of a variable."""

    conversion: Line
    """Factor and shift to the units of init."""
    is_alike: bool
    """Whether the numbers mean what they meant."""


def readings_at(
    repository: Repository, dataset: xr.Dataset, variable: Variable, positions: list[int]
) -> dict[int, Packing]:
    """Return by position in an append source how it is to be read there, by what is known of it."""
    name = variable.name
    accepted = repository.state.description(repository.state.meant(name))
    packings: dict[str, Packing] = {}
    result = {}
    for position in positions:
        attributes = told_at(dataset, name, position)
        key = repr(sorted(attributes.items()))
        if key not in packings:
            line = accepted.conversions.get(name, IDENTITY)
            if is_read_anew(variable, accepted, attributes):
                line = judge_repacked(
                    repository, dataset, variable, accepted, attributes, is_usual=False
                ).conversion
            packings[key] = reading(variable.numpy_dtype, attributes, line)
        result[position] = packings[key]
    return result


def is_read_anew(variable: Variable, accepted: Description, attributes: Mapping[str, Any]) -> bool:
    """Tell whether raw values stand for other numbers than by the attributes that were accepted."""
    before = accepted.variables[variable.name]
    first, second = (reading(variable.numpy_dtype, by) for by in (before, attributes))
    return not (read_alike(first, second) and _same_units(before, attributes))


def varies_by_custom(repository: Repository, dataset: xr.Dataset, variable: Variable) -> bool:
    """Tell whether the packing of a variable is known, or told, to change from time to time.

    It was accepted that it changes, or the variable is captured for the first time: `init` tells
    how the files of a source are packed.
    """
    state = repository.state
    if not state.captured or state.varies(variable.name):
        return True
    learnt = state.forecaster.learnt if state.forecaster else {}
    is_first = variable.name not in learnt if variable.forecast else state.forecaster is None
    return is_first and is_many(dataset)


def judge_repacked(
    repository: Repository,
    dataset: xr.Dataset,
    variable: Variable,
    accepted: Description,
    attributes: Mapping[str, Any],
    *,
    is_usual: bool,
) -> Repacking:
    """Return what another packing, or other units, are to the numbers of a variable.

    Parameters
    ----------
    accepted
        By which it was last known to mean what it means.
    attributes
        Of the variable now.
    is_usual
        Whether other packing is no news; see `varies_by_custom`.
    """
    before, packing = accepted.variables[variable.name], accepted.reading(variable)
    same_units_still = _same_units(before, attributes)
    label = packing.factor, packing.shift
    step = IDENTITY if same_units_still else converting(attributes, before)
    is_convertible, line = step is not None, _one_by_one(step or IDENTITY, label)
    now = reading(variable.numpy_dtype, attributes, line)
    is_scaled = is_scaled_alike(packing, now)
    compared = _compare(repository, dataset, variable, packing, now)
    if compared is None:
        adds_fills = is_scaled and set(packing.fills().tolist()) <= set(now.fills().tolist())
        return Repacking(line, is_convertible and (adds_fills or is_usual))
    same_numbers, same_bits = compared
    # Where the bits are the same and all read otherwise, nothing tells which reading is right.
    is_alike = is_convertible and same_numbers and (is_scaled or not same_bits)
    if not same_numbers and not same_units_still:
        relabelled = reading(variable.numpy_dtype, attributes, label)
        as_relabelled = _compare(repository, dataset, variable, packing, relabelled)
        if same_bits or (as_relabelled is not None and as_relabelled[0]):
            line = label  # only the label is another
    return Repacking(line, is_alike)


def _one_by_one(first: Line, second: Line) -> Line:
    """Return the line that two lines make, one applied after the other."""
    factor, shift = first[0] * second[0], first[1] * second[0] + second[1]
    is_back = abs(shift) < _DIGITS * abs(second[1]), abs(factor - 1.0) < _DIGITS
    return 1.0 if is_back[1] else factor, 0.0 if is_back[0] else shift


def _units(attributes: Mapping[str, Any]) -> str:
    return str(attributes.get("units", ""))


def _same_units(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return same_units(_units(first), _units(second))


def _compare(
    repository: Repository,
    dataset: xr.Dataset,
    variable: Variable,
    packing: Packing,
    now: Packing,
) -> tuple[bool, bool] | None:
    """Compare a captured state with the source: whether the numbers are the same, and their bits.

    None where no state is there that was read as what was accepted last.
    """
    if repository.settings.source.kind == "state" or is_many(dataset):
        return None
    captures = repository.captures(variable.name)
    shared = _newest_shared(repository, dataset, captures, packing)
    if shared is None:
        return None
    step, position = shared
    same_numbers = same_bits = True
    count = 0
    for block in variable.grid.blocks():
        try:
            states = read_state(dataset, variable, position, block.cells)
        except GnomonError:  # who captures it will tell
            continue
        for index, _, cells in variable.grid.inner(block):
            raw: NDArray[np.generic] = states[cells]
            try:
                before = captures.chunk(step, index)
            except GnomonError:
                continue
            count += 1
            numbers = packing.to_physical(before), now.to_physical(raw)
            # What is missing is so by any scale, and tells nothing of it.
            valued = ~(np.isnan(numbers[0]) & np.isnan(numbers[1]))
            same_bits = same_bits and before[valued].tobytes() == raw[valued].tobytes()
            same_numbers = same_numbers and bool(is_close(*numbers, packing, now).all())
        if not (same_numbers or same_bits):
            break
    return (same_numbers, same_bits) if count else None


def _newest_shared(
    repository: Repository, dataset: xr.Dataset, captures: CaptureStack, packing: Packing
) -> tuple[int, int] | None:
    """Return the newest capture read by a packing that the source still has, and its position."""
    axis = read_axis(dataset, repository.settings)
    there = np.flatnonzero(~axis.missing)
    positions = dict(zip(axis.instants[there].tolist(), there.tolist(), strict=True))
    for captured in reversed(repository.timeline):
        if (
            captured.instant in positions
            and captured.step >= captures.variable.since
            and read_alike(captures.reading(captured.step), packing)
        ):
            return captured.step, positions[captured.instant]
    return None
