"""Marks: what a dataset says of predicted cells, in whatever way it was copied since a restore.

A restore writes flags, ``<var>_provenance``, and says in attributes what the dataset is.  Exports
rename variables, drop some of them, decode or pack the rest, and keep attributes or lose them.  So
flags are known by what they mean, and belong to the variable that names them, that they are called
after, or that lies along the same dimensions.  Where no flags are left, standard errors are known
by what a restore calls them, and the attributes decide.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.values.attributes import MEASURED, NOTE
from gnomon.storage.values.documents import NONSENSE
from gnomon.storage.values.scaling import Packing

__all__ = ["Marks", "marks_of", "note_marks", "predicted"]

_ENDING = "_provenance"
_SAID = "predicted"
"""Where in a dataset's encoding it is kept what the attributes said, before they are taken off."""
_ERROR = re.compile(r"standard error of (\S+)|probability that (\S+) is another")
"""What a restore calls standard errors; those of measurements have other names."""
_EXACT = 1e-6
"""How far a flag may be from 0, captured, after it was packed: a mean of flags is further off."""
_CODES = 5
"""The largest flag."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What marks cells of a variable as predicted."""

    flags: tuple[str, ...] = ()
    """Variables that say which cells are: flags, or where none are left, standard errors."""
    method: str = ""
    """What the attributes say that all cells are, where no flags are left; empty: nothing."""

    def refusal(self, name: str, count: int) -> str:
        """Return what is said, after the name of its place, of a variable with predicted cells."""
        cure = "predictions are never captured as data, restore from a measured copy"
        if self.flags:
            which = " and ".join(self.flags)
            return f"marks {count} cells of {name} as predicted ({which}); {cure}"
        return (
            f"says that {name} was predicted ({NOTE}method is {self.method!r}), and no flags tell "
            f"of which cells; {cure}, or remove the attribute where all of it was measured"
        )


def note_marks(dataset: xr.Dataset) -> None:
    """Keep beside a dataset what its attributes say of predictions; they are no data, and go."""
    whole = dataset.attrs.get(f"{NOTE}method")
    noted = {n for n, v in dataset.variables.items() if any(map(_is_note, v.attrs))}
    said: dict[str, str] = {}
    for name, variable in dataset.variables.items():
        # Of a variable without a word, beside others that have one, nothing is said.
        default = whole if name in noted or not noted else None
        method = variable.attrs.get(f"{NOTE}method", default)
        if method is not None and str(method) not in MEASURED:
            said[str(name)] = str(method)
    dataset.encoding[_SAID] = said


def _is_note(attribute: Any) -> bool:
    return str(attribute).startswith(NOTE)


def marks_of(dataset: xr.Dataset, name: str) -> Marks:
    """Return what marks cells of a variable of an undecoded dataset as predicted."""
    if _means_provenance(dataset.variables[name]):
        return Marks()
    said: Mapping[str, str] = dataset.encoding.get(_SAID, {})
    flags = _flags_of(dataset, name)
    if not flags and (alike := _along(dataset, name)):
        claimed = {f for n in dataset.variables if n != name for f in _flags_of(dataset, str(n))}
        flags = tuple(n for n in alike if n not in claimed)
    if flags:
        return Marks(flags)
    method = said.get(name, "")
    return Marks(() if method else _errors_of(dataset, name), method)


def _along(dataset: xr.Dataset, name: str) -> list[str]:
    """Return the flags that lie along no other dimensions than a variable."""
    dims = set(dataset.variables[name].dims)
    return [
        str(n)
        for n, variable in dataset.variables.items()
        if _means_provenance(variable) and dims.issuperset(variable.dims)
    ]


def _flags_of(dataset: xr.Dataset, name: str) -> tuple[str, ...]:
    """Return the flags that a variable names, or that are called after it."""
    named = _words(dataset.variables[name].attrs.get("ancillary_variables"))
    # Where the meaning of flags was lost, their name and that they are named have to do.
    bare = [n for n in named if n.endswith(_ENDING)]
    every = dict.fromkeys([*named, f"{name}{_ENDING}"])
    return tuple(
        flags
        for flags in every
        if (variable := dataset.variables.get(flags)) is not None
        and (
            _means_provenance(variable) or (flags in bare and "flag_meanings" not in variable.attrs)
        )
    )


def _means_provenance(variable: xr.Variable) -> bool:
    meanings = _words(variable.attrs.get("flag_meanings"))
    return meanings[:1] == ["captured"] and "forecast" in meanings


def _errors_of(dataset: xr.Dataset, name: str) -> tuple[str, ...]:
    """Return the standard errors that a restore has written of a variable, or of one it was."""
    dims = set(dataset.variables[name].dims)
    return tuple(
        str(n)
        for n, variable in dataset.variables.items()
        if (of := _is_error_of(variable))
        and (of == name or of not in dataset.variables)
        and dims.issuperset(variable.dims)
    )


def _is_error_of(variable: xr.Variable) -> str:
    """Return the variable of which something is the error, in a restore's own words; "" of none."""
    said = _ERROR.fullmatch(str(variable.attrs.get("long_name", "")))
    return (said[1] or said[2]) if said and variable.dtype.kind in "iuf" else ""


def _words(attribute: Any) -> list[str]:
    """Return the words of an attribute, which may have become a list of them."""
    parts = attribute if isinstance(attribute, list | tuple | np.ndarray) else [attribute or ""]
    return [word for part in parts for word in str(part).split()]


def predicted(raw: NDArray[np.generic], attributes: Mapping[Any, Any]) -> NDArray[np.bool_]:
    """Return which cells flags mark as predicted, whatever numbers they became.

    Parameters
    ----------
    raw
        Undecoded: integers, packed ones, or floats.  Standard errors mark what they are larger than
        0 of.  NaN and the fill value mark nothing, as where
        restored states were joined with measured ones; a fill value that is a flag does.
    attributes
        Of the flags.
    """
    if raw.dtype.kind not in "biuf":
        return np.ones(raw.shape, np.bool_)  # what no numbers say is not known
    try:
        numbers = Packing(raw.dtype, attributes).to_physical(raw)
    except NONSENSE:
        return np.ones(raw.shape, np.bool_)
    if _is_error_of(xr.Variable((), raw.dtype.type(0), attributes)):
        return np.asarray(numbers > 0)
    filled = np.isnan(numbers) & np.isin(raw, np.arange(1, _CODES + 1))
    return np.asarray(filled | (np.abs(numbers) > _EXACT))
