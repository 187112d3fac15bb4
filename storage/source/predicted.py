"""Predicted cells in a source: what a restore marked is never captured as data."""

from collections.abc import Sequence
from dataclasses import replace

import xarray as xr

from gnomon.storage.errors import InvalidInput
from gnomon.storage.source.marks import marks_of, predicted
from gnomon.storage.source.states import read_states
from gnomon.storage.values.model import Variable

__all__ = ["predicted_steps", "refuse_all_predicted", "refuse_predicted"]


def refuse_all_predicted(dataset: xr.Dataset, name: str) -> None:
    """Refuse a variable of a source that is a prediction as a whole, by what attributes say of it.

    Raises
    ------
    InvalidInput
        They say so, and no flags tell which cells are not.
    """
    marks = marks_of(dataset, name)
    if marks.method:
        raise InvalidInput(f"the source {marks.refusal(name, 0)}")


def predicted_steps(
    dataset: xr.Dataset,
    variable: Variable,
    positions: Sequence[int] | None,
    cells: tuple[slice, ...],
) -> dict[int, str]:
    """Return which states have a cell in a region that is marked as predicted, and what to tell.

    It is marked by whatever is left of what a restore wrote, and must never be captured as data.

    Parameters
    ----------
    positions
        Along time in the source; None for the one state of a state source.

    Returns
    -------
    dict
        By number among the positions, from 0.

    Raises
    ------
    InvalidInput
        All of the variable is.
    """
    found: dict[int, str] = {}
    refuse_all_predicted(dataset, variable.name)
    marks = marks_of(dataset, variable.name)
    by_dim = dict(zip(variable.dims, cells, strict=True))
    for flags in marks.flags:
        array = dataset.variables[flags]
        time = None
        if positions is not None:
            time = dataset.variables[variable.name].dims[variable.time_axis]
        along = time in array.dims
        like = replace(
            variable,
            name=flags,
            dims=tuple(str(d) for d in array.dims if d != time),
            time_axis=array.dims.index(time) if along else 0,
        )
        where = tuple(by_dim.get(d, slice(None)) for d in like.dims)
        raw = read_states(dataset, like, positions if along else None, where)
        counts = predicted(raw, array.attrs).reshape(len(raw), -1).sum(axis=1)
        for k in range(1 if positions is None else len(positions)):
            if count := int(counts[k if along else 0]):
                found.setdefault(k, f"the source {marks.refusal(variable.name, count)}")
    return found


def refuse_predicted(
    dataset: xr.Dataset,
    variable: Variable,
    positions: Sequence[int] | None,
    cells: tuple[slice, ...],
) -> None:
    """Refuse a region of a source that has any such cell; see :func:`predicted_steps`.

    Raises
    ------
    InvalidInput
        It has.
    """
    for text in predicted_steps(dataset, variable, positions, cells).values():
        raise InvalidInput(text)
