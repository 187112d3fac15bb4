"""Readings: how the raw values of each capture of a variable stand for numbers.

A capture keeps the bits that the source had, and the packing and units that it had then.  So that
captures can stand in one series, all are read as numbers in the units that the variable had at
init: where a source has changed its units, and the new ones are of the same quantity, the numbers
are converted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.log.description import Change, Description
from gnomon.storage.values.meaning import IDENTITY, RANGE, READ_BY, is_scaled_alike, reading
from gnomon.storage.values.model import RepositorySettings, Variable
from gnomon.storage.values.scaling import Packing

__all__ = ["accepted_settings", "is_close", "limited", "readings", "vary"]

_ROUNDINGS = 4
"""Steps of the last digit by which a value may be off that was packed anew, or converted."""
_HALF = 0.501
"""Share of a step by which a packing rounds at most; the rest is of the arithmetic."""


def readings(variable: Variable, changes: Sequence[Change]) -> tuple[Packing, ...]:
    """Return how a variable is read after none of some changes, after the first, and so on.

    Parameters
    ----------
    variable
        As it was at init.
    """
    attributes, conversion = variable.attributes, IDENTITY
    now = reading(variable.numpy_dtype, attributes)
    packings = [now]
    for change in changes:
        edit, converted = change.variables.get(variable.name), change.conversions.get(variable.name)
        if converted is not None:
            conversion = converted
        if edit is not None:
            attributes = edit.after(attributes)
        if converted is not None or (edit is not None and edit.touches(READ_BY)):
            now = reading(variable.numpy_dtype, attributes, conversion)
        packings.append(now)
    return tuple(packings)


def is_close(
    first: NDArray[np.float64], second: NDArray[np.float64], *by: Packing
) -> NDArray[np.bool_]:
    """Tell which numbers are equal within the rounding of the packings they were read by."""
    if len({(packing.scale, packing.offset) for packing in by}) == 1:  # nothing was rounded
        return np.asarray((first == second) | (np.isnan(first) & np.isnan(second)))
    steps = _HALF * sum(packing.resolution for packing in by)
    is_half = any(packing.dtype == np.float16 for packing in by)
    digits = _ROUNDINGS * float(np.finfo(np.float16 if is_half else np.float32).eps)
    # What is near 0 in the one units was rounded as a large number in the others.
    far = max((abs(packing.offset) for packing in by if packing.dtype.kind == "f"), default=0.0)
    return np.isclose(first, second, rtol=digits, atol=steps + digits * far, equal_nan=True)


def vary(packings: Sequence[Packing]) -> bool:
    """Tell whether the same raw values stood for different numbers at different times."""
    return any(not is_scaled_alike(packings[0], other) for other in _distinct(packings))


def accepted_settings(
    settings: RepositorySettings, accepted: Mapping[str, Description]
) -> RepositorySettings:
    """Return settings in which variables have the units and valid ranges that were accepted.

    Packing stays that of init, and so do units to which numbers are converted: all captures are
    read in these.

    Parameters
    ----------
    accepted
        By variable.
    """
    variables = []
    for variable in settings.variables:
        now = accepted.get(variable.name)
        names: tuple[str, ...] = ()
        if now is not None and now.conversions.get(variable.name, IDENTITY) == IDENTITY:
            alike = is_scaled_alike(variable.packing, now.reading(variable))
            names = ("units", *RANGE) if alike else ("units",)
        if now is not None and names:
            attributes = now.variables[variable.name]
            rest = {n: v for n, v in variable.attributes.items() if n not in names}
            taken = {n: attributes[n] for n in names if n in attributes}
            variable = replace(variable, attributes=rest | taken)  # noqa: PLW2901
        variables.append(variable)
    return replace(settings, variables=tuple(variables))


def limited(variable: Variable, packings: Sequence[Packing]) -> Variable:
    """Return a variable whose valid range takes in all that was valid by one of its readings.

    A range is given in packed values, so that with another packing it means another range.
    """
    bounds = [packing.bounds() for packing in _distinct(packings)]
    if not vary(packings) or all(set(RANGE).isdisjoint(p.attributes) for p in _distinct(packings)):
        return variable
    attributes = {n: v for n, v in variable.attributes.items() if n not in RANGE}
    ends = zip(*bounds, strict=True)
    packing = variable.packing
    names = ("valid_min", "valid_max") if packing.scale > 0 else ("valid_max", "valid_min")
    for name, end, widest in zip(names, ends, (min, max), strict=True):
        limits = [limit for limit in end if limit is not None]
        if len(limits) == len(bounds):
            attributes[name] = (widest(limits) - packing.offset) / packing.scale
    return replace(variable, attributes=attributes)


def _distinct(packings: Sequence[Packing]) -> list[Packing]:
    return list({id(packing): packing for packing in packings}.values())
