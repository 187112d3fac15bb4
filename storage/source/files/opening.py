"""Many files as one source: a folder or a pattern of NetCDF, HDF5 or GRIB files.

New files are new steps.  A file that does not fit the others is left out and told, and never stops
them; only files that are new, or are read, are opened.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from gnomon.storage.errors import InvalidInput, Unavailable
from gnomon.storage.log.location import Location
from gnomon.storage.source.files.agreement import Expected, expected_of
from gnomon.storage.source.files.array import StepsArray
from gnomon.storage.source.files.axis import FileAxis, axis_of
from gnomon.storage.source.files.form import Part, differing, form_of_settings, other_times
from gnomon.storage.source.files.index import Entry, SourceMemory, load_index, save_index
from gnomon.storage.source.files.listing import list_files
from gnomon.storage.source.files.reading import Files, Stale, Unfit, look_at, stamp_of
from gnomon.storage.values.meaning import converting, reading
from gnomon.storage.values.model import RepositorySettings, SourceSpec, Variable
from gnomon.storage.values.times import format_instant

__all__ = [
    "file_at",
    "is_as_at_init",
    "is_many",
    "keep_index",
    "open_files",
    "read_numbers",
    "rest",
    "source_notes",
    "source_told",
    "told_at",
    "written_at",
]

_NOTES, _SEEN, _FORM, _FILES = "notes", "seen", "form", "files"
"""What is told of an open source beside it, in its encoding: it is no data."""
_FRESH_NS = 10 * 10**9
"""A file that does not open, and is no older than this beside the newest, may still be written."""
_MOST_TOLD = 3
"""Files of one reason that are named."""


class _NothingTaken(InvalidInput):
    """No file is as it should be."""


@dataclass
class _Look:
    """What was found of the files, and what is said of those that are left out."""

    seen: dict[str, Entry] = field(default_factory=dict)
    """What is in each file that could be opened."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Names by reason."""
    unfinished: dict[str, list[str]] = field(default_factory=dict)
    """Likewise, of those that may still be written."""

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        for name, reason in reasons.items():
            self.left_out.setdefault(reason, []).append(name)

    @property
    def count(self) -> int:
        return sum(map(len, self.left_out.values()))

    def notes(self) -> tuple[str, ...]:
        left = [f"left out: {_named(n)}: {reason}" for reason, n in self.left_out.items()]
        later = "it may still be written, the next run looks again"
        wait = [f"not yet taken: {_named(n)}: {r}; {later}" for r, n in self.unfinished.items()]
        return (*left, *wait)


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_TOLD])
    return f"{len(names)} files ({shown}, ...)" if len(names) > _MOST_TOLD else shown


def open_files(spec: SourceSpec, memory: SourceMemory | None) -> xr.Dataset:
    """Open a folder or a pattern of files as one dataset, undecoded and lazy.

    Parameters
    ----------
    memory
        What a repository knows of its source; None: there is none yet.

    Raises
    ------
    NotFound
        There are no files.
    InvalidInput
        Nothing can be made of them: no file opens, or they have not enough in common.
    """
    if spec.kind == "state":
        raise InvalidInput(
            f"{spec.url} is made of many files, each with its own times: an append source; leave "
            "out --kind state, or name one file that is overwritten in place"
        )
    paths = list_files(spec.url)
    try:
        return _open(paths, spec, memory, load_index(memory, spec))
    except _NothingTaken:
        if memory is None:
            raise
    except Stale as error:
        if memory is None:
            raise Unavailable(f"source {spec.url}: {error}") from error
    return _open(paths, spec, memory, {})  # what was remembered may be wrong


def _open(
    paths: dict[str, Path],
    spec: SourceSpec,
    memory: SourceMemory | None,
    entries: Mapping[str, Entry],
) -> xr.Dataset:
    """Open files, of which some are known from the index."""
    look = _look(paths, spec, memory, entries)
    expected = expected_of(look.seen, paths, spec, memory)
    reasons = expected.differing(look.seen)
    look.leave_out(reasons)
    taken = {name: entry for name, entry in look.seen.items() if name not in reasons}
    settings = None if memory is None else memory.settings
    while True:
        axis, reasons = axis_of(taken, settings)
        look.leave_out(reasons)
        taken = {name: entry for name, entry in taken.items() if name not in reasons}
        _refuse_few(spec, look, taken, is_first=memory is None)
        files = Files(spec, paths, taken, axis.targets, memory)
        try:
            dataset = _combined(files, axis, expected, taken)
            break
        except Stale:
            raise
        except Unfit as error:  # by which all are described; it may be damaged, or gone
            first, *_ = files.names
            look.leave_out({first: str(error).removeprefix(f"{first} ")})
            del taken[first]
    notes = (*look.notes(), *expected.notes(taken), *_other_series(files, expected.time))
    dataset.encoding |= {_NOTES: notes, _SEEN: look.seen}
    dataset.encoding |= {_FORM: expected.form, _FILES: files}
    return dataset


def _other_series(files: Files, time: str) -> tuple[str, ...]:
    """Return what is to be told of variables that are not along the time dimension."""
    names = ", ".join(sorted(other_times(files.dataset(files.names[0]), time)))
    return (f"not taken: along another time dimension: {names}",) if names else ()


def source_notes(dataset: xr.Dataset) -> tuple[str, ...]:
    """Return what is to be told of an open source: files that were left out, and why."""
    return tuple(dataset.encoding.get(_NOTES, ()))


def source_told(dataset: xr.Dataset) -> tuple[str, ...]:
    """Return how many files a source is made of, from when to when, and what is left out."""
    files = dataset.encoding.get(_FILES)
    return () if files is None else (_summary(files), *_packed(files), *source_notes(dataset))


def _packed(files: Files) -> tuple[str, ...]:
    """Return which variables are packed in more than one way."""
    ways: dict[str, set[str]] = {}
    for packings in {id(e.packings): e.packings for e in files.entries.values()}.values():
        for name, attributes in packings.to_json().items():
            ways.setdefault(name, set()).add(json.dumps(attributes, sort_keys=True))
    return tuple(
        f"{name!r} is packed, or its units are told, in {len(kinds)} ways, which differ from file "
        "to file; each step is kept as its file has it"
        for name, kinds in ways.items()
        if len(kinds) > 1
    )


def written_at(dataset: xr.Dataset) -> NDArray[np.float64] | None:
    """Return when the file of each step was written, in seconds since 1970; None: no files."""
    files = dataset.encoding.get(_FILES)
    if files is None:
        return None
    counts = [entry.count for entry in files.entries.values()]
    return np.repeat([entry.mtime_ns for entry in files.entries.values()], counts) / 1e9


def is_many(dataset: xr.Dataset) -> bool:
    """Tell whether an open source is made of files."""
    return _FILES in dataset.encoding


def file_at(dataset: xr.Dataset, position: int) -> tuple[str, int] | None:
    """Return in which file a step is, and where in it; None if the source is not made of files."""
    files = dataset.encoding.get(_FILES)
    return None if files is None else files.place(position)


def told_at(dataset: xr.Dataset, name: str, position: int | None) -> Mapping[str, Any]:
    """Return the attributes of a variable at a step: the files of a source may differ in some.

    Parameters
    ----------
    position
        Along time; None for the one state of a state source.
    """
    attributes = dataset.variables[name].attrs
    if position is None or not is_many(dataset):
        return attributes
    files: Files = dataset.encoding[_FILES]
    return files.told_at(name, position, attributes)


def read_numbers(
    dataset: xr.Dataset,
    variable: Variable,
    positions: Sequence[int | None],
    states: NDArray[np.generic],
) -> NDArray[np.float64]:
    """Return raw states as float64 in the units of a variable, NaN where they are missing.

    Parameters
    ----------
    positions
        Of each state along time; None for the one of a state source.
    states
        (state, ...) as they were read there.
    """
    numbers = np.empty(states.shape)
    for k, position in enumerate(positions):
        attributes = told_at(dataset, variable.name, position)
        line = converting(attributes, variable.attributes)
        numbers[k] = reading(variable.numpy_dtype, attributes, line).to_physical(states[k, ...])
    return numbers


def rest(dataset: xr.Dataset) -> None:
    """Close the files that are open; they are opened again when they are read.

    A process that holds a file open may keep others from writing to it.
    """
    if _FILES in dataset.encoding:
        dataset.encoding[_FILES].close()


def is_as_at_init(dataset: xr.Dataset, settings: RepositorySettings) -> bool:
    """Tell whether files mean what those of init meant; of sources that are no files, true."""
    form = dataset.encoding.get(_FORM)
    if form is None:
        return True
    before = form_of_settings(settings).parts
    return all(
        n not in before or before[n].hash or differing(part.meaning, before[n].meaning) is None
        for n, part in form.parts.items()
    )


def keep_index(dataset: xr.Dataset, location: Location, spec: SourceSpec) -> None:
    """Keep in a new repository what was seen in the files: it need not look at them again."""
    if _SEEN in dataset.encoding:
        save_index(SourceMemory(location), spec, dataset.encoding[_SEEN])


def _look(
    paths: Mapping[str, Path],
    spec: SourceSpec,
    memory: SourceMemory | None,
    entries: Mapping[str, Entry],
) -> _Look:
    """Look at the files that are new or have changed; the contents of the others are known."""
    look = _Look()
    unfit: dict[str, Unfit] = {}
    stamps: dict[str, tuple[int, int]] = {}
    for name, path in paths.items():
        try:
            stamps[name] = stamp_of(path)
            entry = entries.get(name)
            if entry is None or not entry.is_of(stamps[name]):
                entry = look_at(path, spec)
            look.seen[name] = entry
        except FileNotFoundError:
            continue
        except (Unfit, OSError) as error:
            unfit[name] = error if isinstance(error, Unfit) else Unfit(_why(error), opened=False)
    newest = max((mtime for _, mtime in stamps.values()), default=0)
    for name, fault in unfit.items():
        fresh = not fault.opened and stamps.get(name, (0, 0))[1] >= newest - _FRESH_NS
        kind = look.unfinished if fresh else look.left_out
        kind.setdefault(str(fault), []).append(name)
    if memory is not None and any(entries.get(n) is not e for n, e in look.seen.items()):
        save_index(memory, spec, look.seen)
    return look


def _why(error: OSError) -> str:
    return f"cannot be read ({(error.strerror or str(error)).lower()})"


def _refuse_few(
    spec: SourceSpec, look: _Look, taken: Mapping[str, Entry], *, is_first: bool
) -> None:
    """Refuse files of which none can be taken, or, at init, less than those that are left out."""
    count = look.count + sum(map(len, look.unfinished.values()))
    first = next(iter(look.notes()), "they were removed meanwhile")
    if not taken:
        kind = _NothingTaken if is_first or look.seen else Unavailable
        raise kind(f"none of the files of {spec.url} can be captured; {first}")
    if is_first and count > len(taken):
        raise InvalidInput(
            f"only {len(taken)} of {len(taken) + count} files of {spec.url} fit into one "
            f"series; {first}; give a folder or pattern of files that belong together"
        )


def _summary(files: Files) -> str:
    ends = [
        (int(end(entry.good)), entry.calendar)
        for entry in files.entries.values()
        if entry.good.size
        for end in (np.min, np.max)
    ]
    count = f"{len(files.names)} files" if len(files.names) != 1 else "1 file"
    steps = f"{count} of {files.spec.url}, {files.steps} steps"
    if not ends:
        return steps
    return f"{steps} from {format_instant(*min(ends))} to {format_instant(*max(ends))}"


def _combined(
    files: Files, axis: FileAxis, expected: Expected, taken: Mapping[str, Entry]
) -> xr.Dataset:
    """Return the files as one dataset, described as the first of them is."""
    first = files.dataset(files.names[0])
    parts = expected.parts(taken)
    variables: dict[str, xr.Variable] = {}
    for name, variable in ((str(n), v) for n, v in first.variables.items()):
        attributes = dict(variable.attrs)
        if name in axis.targets and "units" in attributes:
            attributes["units"] = axis.targets[name].units
        if name == expected.time and axis.raw is not None:
            variables[name] = xr.Variable((name,), axis.raw, attributes)
        elif name in parts:
            variables[name] = _variable(files, name, expected.time, parts[name], variable)
            variables[name].attrs = attributes
    dataset = xr.Dataset(variables, attrs=first.attrs)
    dataset.set_close(files.close)
    return dataset


def _variable(files: Files, name: str, time: str, part: Part, first: xr.Variable) -> xr.Variable:
    if time not in part.dims:
        return xr.Variable(first.dims, first._data)
    sizes = iter(part.shape)
    shape = tuple(files.steps if d == time else next(sizes) for d in part.dims)
    dtype = np.dtype(object) if part.dtype == "|O" else np.dtype(part.dtype)
    array = StepsArray(files, name, time, part.dims, shape, dtype)
    chunks = {str(d): int(n) for d, n in (first.encoding.get("preferred_chunks") or {}).items()}
    # Steps that are read together must not be of two files, or damage to one would be of both.
    within = chunks.get(time, 1)
    aligned = within > 1 and not (files.starts[:-1] % within).any()
    encoding = {"preferred_chunks": chunks | {time: within if aligned else 1}} if chunks else {}
    return xr.Variable(part.dims, indexing.LazilyIndexedArray(array), encoding=encoding)
