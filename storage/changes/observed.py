"""The source as it describes itself now, beside what is known: what to refuse, to doubt, to tell.

==========================================  ==============================================
what has changed since init                 what follows
==========================================  ==============================================
grid, types, values of coordinates          refused: a new era, or a mended source
packing, units of the same quantity         a note if the numbers go on, else a finding
valid range, flags, quantity, other units   a finding: suspect until a person accepts it
other attributes, fixed variables           a note: told once, kept with each capture
==========================================  ==============================================
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from gnomon.storage.changes.noted import (
    MOST_NOTES,
    Remark,
    differences,
    note_doubts,
    note_fixed,
    note_remarks,
    note_unprotected,
)
from gnomon.storage.changes.repacked import (
    Repacking,
    is_read_anew,
    judge_repacked,
    varies_by_custom,
)
from gnomon.storage.errors import GnomonError, InvalidInput
from gnomon.storage.log.description import Change, Description, exact
from gnomon.storage.log.folders import frame_of
from gnomon.storage.log.readings import is_close
from gnomon.storage.repository import Repository
from gnomon.storage.source.axes import time_variable
from gnomon.storage.source.describing import has_own_time, unprotected
from gnomon.storage.source.files.opening import told_at
from gnomon.storage.source.unchanged import ADVICE, check_frame, check_unchanged
from gnomon.storage.stacks.fixed import encode_entry
from gnomon.storage.values.attributes import attributes_from_json, attributes_to_json
from gnomon.storage.values.documents import NONSENSE
from gnomon.storage.values.meaning import IDENTITY, RANGE, READ_BY, changed_meaning
from gnomon.storage.values.model import RepositorySettings, Variable
from gnomon.storage.values.scaling import PACKING, Packing
from gnomon.storage.values.times import calendar_of, decode
from gnomon.storage.values.units import same_units

__all__ = [
    "Observed",
    "check_source",
    "differs",
    "grid_names",
    "observe",
    "tell_the_same",
]

_POSITIONS = ("latitude", "longitude", "projection_", "grid_latitude", "grid_longitude")
_SIDES = ("degrees_north", "degrees_east")
_NAMING = ("bounds", "climatology", "formula_terms")


@dataclass(frozen=True, slots=True)
class Observed:
    """How a source describes itself, beside what is known of it."""

    changes: Mapping[int, Change]
    """What has changed since the last capture, by the number of the first new state with it."""
    notes: tuple[str, ...]
    """That in words."""
    doubted: Mapping[str, tuple[int, ...]]
    """New states, by captured variable, in which values mean something else than what was last
    accepted."""


def check_source(dataset: xr.Dataset, frame: xr.Dataset, settings: RepositorySettings) -> None:
    """Refuse a source whose values cannot stand beside those of the captures before.

    Raises
    ------
    InvalidInput
        Its variables, grid, types or coordinates are not what they were at init.
    """
    check_unchanged(dataset, settings)
    check_frame(frame, dataset, grid_names(settings))
    _check_times_within(dataset, settings)


def grid_names(settings: RepositorySettings) -> frozenset[str]:
    """Return the fixed variables that say where the cells are, which an era cannot change.

    They are coordinates of dimensions, what variables name as ``coordinates``, latitudes and
    longitudes of whatever name, and bounds and terms of these.
    """
    entries = settings.frame_entries
    names = {n for v in settings.variables for n in _named(v.attributes, "coordinates")}
    names |= set(_named(settings.attributes, "coordinates"))
    for name, entry in entries.items():
        attributes = entry["attributes"]
        position = str(attributes.get("standard_name", "")).startswith(_POSITIONS)
        side = any(same_units(str(attributes.get("units", "")), side) for side in _SIDES)
        if name in entry["dims"] or position or side or "axis" in attributes:
            names.add(name)
    for name in tuple(names & entries.keys()):
        attributes = entries[name]["attributes"]
        names.update(t for key in _NAMING for t in _named(attributes, key) if t[-1:] != ":")
    return frozenset(names & entries.keys())


def _named(attributes: Mapping[Any, Any], key: str) -> list[str]:
    return str(attributes.get(key, "")).split()


def _check_times_within(dataset: xr.Dataset, settings: RepositorySettings) -> None:
    """Refuse variables that hold times, in other units than at init: they are stored undecoded."""
    if settings.source.time is None:
        return
    coordinate = time_variable(dataset, settings.source)
    time = {} if coordinate is None else coordinate.attrs
    for variable in settings.variables:
        name = variable.name
        before = _told_in(name, variable.attributes, settings.time_attributes)
        now = _told_in(name, dataset.variables[name].attrs, time)
        if before is not None and now is not None and not tell_the_same(before, now):
            raise InvalidInput(
                f"{name} holds times in {now[0]!r} (calendar {now[1]}), at init they were in "
                f"{before[0]!r} (calendar {before[1]}); {ADVICE}"
            )


def _told_in(
    name: str, attributes: Mapping[Any, Any], time: Mapping[Any, Any]
) -> tuple[str, str] | None:
    """Return units and calendar of a variable that holds times; bounds take those of their time."""
    belongs = name in [*_named(time, "bounds"), *_named(time, "climatology")]
    units = attributes.get("units", time.get("units") if belongs else None)
    if " since " not in str(units):
        return None
    return str(units), str(attributes.get("calendar", time.get("calendar", "standard")))


def tell_the_same(before: tuple[str, str], now: tuple[str, str]) -> bool:
    """Tell whether numbers mean the same times in two pairs of units and calendar."""
    try:
        both = [decode(np.arange(2), *pair).tolist() for pair in (before, now)]
    except GnomonError:
        return before == now
    calendars = [calendar_of({"calendar": pair[1]}) for pair in (before, now)]
    return before == now or (calendars[0] == calendars[1] and both[0] == both[1])


def observe(
    dataset: xr.Dataset,
    repository: Repository,
    folder: str,
    positions: Sequence[int] | None = None,
) -> Observed:
    """Return what a source that was checked says of itself, beside the captures so far.

    Parameters
    ----------
    folder
        The commit that is being made: changed fixed variables are named as objects of it.
    positions
        Of the states that are captured, along time; None for the one of a state source.
    """
    before = repository.state.description()
    first = _describe(dataset, repository.settings, before, folder)
    judging = _Judging.of(repository, dataset)
    changes: dict[int, Change] = {}
    doubted: dict[str, list[int]] = {}
    notes: dict[str, None] = {}
    untold = 0
    previous, doubts = before, dict[str, list[Remark]]()
    for k, attributes in enumerate(_told(dataset, repository.settings, positions)):
        if attributes is not None:
            now = replace(first, variables={**first.variables, **attributes})
            now, doubts, alike = judging.judge(now)
            change = replace(Change.between(previous, now), alike=alike)
            if change:
                changes[k] = change
                new = [n for n in _notes(judging, previous, now, change, doubts) if n not in notes]
                untold += bool(new) and len(notes) >= MOST_NOTES
                if len(notes) < MOST_NOTES:
                    notes |= dict.fromkeys(new)
            previous = now
        for name in doubts:
            doubted.setdefault(name, []).append(k)
    if untold:
        notes[f"{untold} more steps have attributes of their own; 'gnomon diff' shows them"] = None
    return Observed(changes, tuple(notes), {n: tuple(k) for n, k in doubted.items()})


def _told(
    dataset: xr.Dataset, settings: RepositorySettings, positions: Sequence[int] | None
) -> Iterator[dict[str, dict[str, Any]] | None]:
    """Yield what each step says of its variables; None where it is what the step before said."""
    before: dict[str, Mapping[str, Any]] | None = None
    for position in positions or (None,):
        attributes = {v.name: told_at(dataset, v.name, position) for v in settings.variables}
        same = before is not None and all(a is before[n] for n, a in attributes.items())
        yield None if same else {name: _storable(attributes[name]) for name in attributes}
        before = attributes


@dataclass(frozen=True, slots=True)
class _Judging:
    """What is known of the variables of a source that describes itself anew."""

    repository: Repository
    dataset: xr.Dataset
    accepted: Mapping[str, Description]
    """By variable: by which it was last known to mean what it means."""
    usual: Mapping[str, bool]
    """By variable: whether other packing is no news."""

    @classmethod
    def of(cls, repository: Repository, dataset: xr.Dataset) -> "_Judging":
        state, variables = repository.state, repository.settings.variables
        meant = {v.name: state.meant(v.name) for v in variables}
        # Each goes through all changes until then.
        descriptions = {number: state.description(number) for number in set(meant.values())}
        usual = {v.name: varies_by_custom(repository, dataset, v) for v in variables}
        return cls(repository, dataset, {name: descriptions[d] for name, d in meant.items()}, usual)

    def judge(
        self, now: Description
    ) -> tuple[Description, dict[str, list[Remark]], tuple[str, ...]]:
        """Return a description with its conversions, what is doubted, and what means the same."""
        conversions: dict[str, tuple[float, float]] = {}
        doubts: dict[str, list[Remark]] = {}
        alike: list[str] = []
        for variable in self.repository.settings.variables:
            name, accepted = variable.name, self.accepted[variable.name]
            remarks = _doubts(variable, accepted, now)
            conversions[name] = accepted.conversions.get(name, IDENTITY)
            if is_read_anew(variable, accepted, now.variables[name]):
                repacking = self._judge_repacked(variable, now)
                conversions[name] = repacking.conversion
                reading = replace(now, conversions=conversions).reading(variable)
                same_range = _same_bounds(accepted.reading(variable), reading)
                keys = ("units", *(RANGE if same_range else ()))
                remarks = [r for r in remarks if r.of != name or r.key not in keys]
                if not repacking.is_alike:
                    remarks = [*_remarks_of_reading(name, accepted, now), *remarks]
                elif not remarks:
                    alike.append(name)
            if remarks:
                doubts[name] = remarks
        conversions = {name: line for name, line in conversions.items() if line != IDENTITY}
        return replace(now, conversions=conversions), doubts, tuple(alike)

    def _judge_repacked(self, variable: Variable, now: Description) -> Repacking:
        name = variable.name
        return judge_repacked(
            self.repository,
            self.dataset,
            variable,
            self.accepted[name],
            now.variables[name],
            is_usual=self.usual[name],
        )


def _remarks_of_reading(name: str, before: Description, now: Description) -> Iterator[Remark]:
    for key in (*PACKING, "units"):
        first, second = (description.variables[name].get(key) for description in (before, now))
        if exact(first) != exact(second):
            yield Remark(name, key, first, second)


def _same_bounds(first: Packing, second: Packing) -> bool:
    first_bounds, second_bounds = (
        np.array(packing.bounds(), np.float64) for packing in (first, second)
    )
    return bool(is_close(first_bounds, second_bounds, first, second).all())


def _notes(
    judging: _Judging,
    before: Description,
    now: Description,
    change: Change,
    doubts: Mapping[str, list[Remark]],
) -> Iterator[str]:
    """Yield what is new in a description; nothing about packing that changes as usual."""
    settings = judging.repository.settings
    changed = [
        remark
        for remark in differences(before, now, settings)
        if remark.key not in READ_BY or remark.of in doubts or not judging.usual.get(remark.of)
    ]
    yield from note_doubts(doubts, changed)
    yield from note_fixed(before, change, grid_names(settings))
    yield from note_unprotected(before.unprotected, change.unprotected or {})
    yield from note_remarks(doubts, changed)


def differs(dataset: xr.Dataset, repository: Repository) -> bool:
    """Tell whether values mean something else than those that were last accepted."""
    return bool(observe(dataset, repository, "").doubted)


def _describe(
    dataset: xr.Dataset, settings: RepositorySettings, before: Description, folder: str
) -> Description:
    left_out = unprotected(dataset, settings, before.fixed.keys())
    captured = {v.name for v in settings.variables}
    fixed: dict[str, dict[str, Any]] = {}
    for name in sorted(
        {*map(str, dataset.variables)} - captured - left_out.keys() - {str(settings.source.teller)}
    ):
        if name not in before.fixed and has_own_time(dataset, name):
            left_out[name] = "it has a time axis of its own"
            continue
        number = len(fixed)
        try:
            entry, _ = encode_entry(name, dataset.variables[name], f"{frame_of(folder)}/{number}")
        except InvalidInput as error:
            left_out[name] = str(error)
            continue
        entry["attributes"] = _storable(entry["attributes"])
        for earlier in (before.fixed.get(name), settings.frame_entries.get(name)):
            if earlier is not None and (earlier["hash"], earlier["dtype"]) == (
                entry["hash"],
                entry["dtype"],
            ):
                entry["file"] = earlier["file"]
                break
        fixed[name] = entry
    return Description(
        _storable(dataset.attrs),
        {name: _storable(dataset.variables[name].attrs) for name in sorted(captured)},
        _told_of_time(dataset, settings),
        fixed,
        left_out or (None if before.unprotected is None else {}),
    )


def _told_of_time(dataset: xr.Dataset, settings: RepositorySettings) -> dict[str, Any]:
    """Return the attributes of the time coordinate; those of init where the source has none."""
    coordinate = None
    if settings.source.time is not None and not settings.adds_times:
        coordinate = time_variable(dataset, settings.source)
    return dict(settings.time_attributes) if coordinate is None else _storable(coordinate.attrs)


def _storable(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes as they are read back, without those that cannot be stored."""
    storable: dict[str, Any] = {}
    for name, value in attributes.items():
        try:
            storable |= attributes_from_json(attributes_to_json({name: value}))
        except (InvalidInput, *NONSENSE):
            continue
    return storable


def _doubts(variable: Variable, accepted: Description, now: Description) -> list[Remark]:
    """Return what gives the values of a variable another meaning."""
    name = variable.name
    pairs = {name: (accepted.variables[name], now.variables[name])}
    for used in _used(variable, now):
        if used in accepted.fixed:
            pairs[used] = accepted.fixed[used]["attributes"], now.fixed[used]["attributes"]
    return [
        Remark(of, key, before.get(key), after.get(key))
        for of, (before, after) in pairs.items()
        for key in changed_meaning(before, after)
    ]


def _used(variable: Variable, description: Description) -> list[str]:
    """Return the fixed variables that say where the cells of a variable are."""
    attributes = description.variables[variable.name]
    mapping = str(attributes.get("grid_mapping", "")).replace(":", " ").split()
    names = {*variable.dims, *_named(attributes, "coordinates"), *mapping}
    return sorted(names & description.fixed.keys())
