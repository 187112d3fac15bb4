"""With which of its captures' attributes and packings a view is served."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gnomon.storage.changes.observed import tell_the_same
from gnomon.storage.log.description import Description
from gnomon.storage.log.readings import vary
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane, is_predicted
from gnomon.storage.values.meaning import read_alike
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing

__all__ = ["served_description", "served_reading"]


def served_description(repository: Repository, planes: tuple[Plane, ...]) -> Description:
    """Return the attributes and fixed variables that planes are served with.

    A state as it was captured has those that it was captured with.  Several states together have
    those of the one of them that was captured last, and predicted ones those of the last capture
    that the prediction knew.  Times are told in the units of init, where those of now would give
    the numbers another meaning.
    """
    state, settings = repository.state, repository.settings
    description = state.description(_described(repository, planes))
    together = state.changes and (len(planes) > 1 or is_predicted(planes))
    if not together and _is_told_alike(description.time, settings.time_attributes):
        return description
    return replace(
        description, time=_with(description.time, ("units", "calendar"), settings.time_attributes)
    )


def _described(repository: Repository, planes: tuple[Plane, ...]) -> int:
    """Return after how many changes the description is the one that planes are served with."""
    shadows = {s.id: s.step for s in repository.shadows}
    steps = [p.step if p.step is not None else shadows.get(str(p.shadow)) for p in planes]
    captures = [step for step in steps if step is not None]
    if not captures:
        return len(repository.state.changes)
    return repository.captured[max(captures)].description


def served_reading(
    repository: Repository, variable: Variable, planes: tuple[Plane, ...]
) -> Packing:
    """Return what the served values of a variable stand for.

    They stand for the same as in the source, so that captured bits are served unchanged.  States
    that were packed in more than one way are served as numbers, float64, in the units of the last;
    and so are estimates that may be beyond what the last packing, made for its state, can hold.
    """
    readings = repository.state.readings(variable.name)
    last = readings[_described(repository, planes)]
    captured = repository.captured
    described = {captured[p.step].description for p in planes if p.step is not None}
    is_one = all(read_alike(readings[number], last) for number in described)
    # A packing that is made anew for each state holds no more than that state.  One that stays is
    # all that the source can hold: of a forecast beyond it, what is nearest is served.
    is_foreseen = any(p.shadow is not None or p.estimators for p in planes)
    is_foreseen = is_foreseen and variable.numpy_dtype.kind in "iu" and vary(readings)
    patched = [p.patches[key] for p in planes for key in p.patches if key[0] == variable.name]
    if is_one and not is_foreseen and all(last.holds(patch.values) for patch in patched):
        return last
    return Packing(np.dtype("<f8"), {}, last.factor, last.shift)


def _is_told_alike(now: Mapping[str, Any], init: Mapping[str, Any]) -> bool:
    """Tell whether times that are kept in the units of init mean the same in those of now."""
    if "units" not in now or "units" not in init:
        return "units" not in now and "units" not in init
    pair, other = (
        (str(attributes["units"]), str(attributes.get("calendar", "standard")))
        for attributes in (now, init)
    )
    return tell_the_same(pair, other)


def _with(
    attributes: Mapping[str, Any], names: tuple[str, ...], other: Mapping[str, Any]
) -> dict[str, Any]:
    """Return attributes with some of them replaced by those of others, or left out."""
    rest = {n: v for n, v in attributes.items() if n not in names or n in other}
    return rest | {n: other[n] for n in names if n in other}
