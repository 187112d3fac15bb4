"""Which files of a source agree.

Values of two files stand in one series only if they are of one grid and mean the same.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import xarray as xr

from gnomon.storage.errors import InvalidInput
from gnomon.storage.source.files.form import Form, Part, differing, form_of_settings
from gnomon.storage.source.files.index import Entry, SourceMemory
from gnomon.storage.source.files.reading import Unfit, open_file
from gnomon.storage.source.unchanged import check_frame
from gnomon.storage.stacks.fixed import load_frame
from gnomon.storage.values.model import SourceSpec
from gnomon.storage.values.times import calendar_of, same_calendar

__all__ = ["Expected", "expected_of"]

RECENT = 16
"""What most of so many of the newest files are like is expected of all, if nothing is known."""


@dataclass
class Expected:
    """What a file must be like."""

    form: Form
    """Its variables and their grid."""
    calendar: str
    """Of its times."""
    singles: dict[str, str]
    """Hashes of what is one value or array in a file, and must be the same in all."""
    repeated: frozenset[str]
    """What is one value or array in a file, and may be another in the next."""
    kept: "_Kept"
    """Values that do not change with time, as they are expected."""
    names: tuple[str, ...] = ()
    """Variables that the user named; others do not matter then."""
    _known: dict[str, str | None] = field(default_factory=dict)
    _alike: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    """By form, name and hash of a value: whether it is as expected, but for rounding."""

    @property
    def time(self) -> str:
        """Name of the time dimension."""
        return self.form.time

    def differing(self, entries: Mapping[str, Entry]) -> dict[str, str]:
        """Return the files that are not as expected, and what is different."""
        reasons = {}
        for name, entry in entries.items():
            key = entry.form.key
            if key not in self._known:
                self._known[key] = self._difference(name, entry.form)
            reason = self._known[key] or self._of_one(name, entry)
            if reason is not None:
                reasons[name] = reason
        return reasons

    def _difference(self, file: str, form: Form) -> str | None:
        """Return how a form differs; None if in nothing that matters."""
        if form.time != self.time:
            return f"its time dimension is {form.time!r}, expected {self.time!r}"
        for name, part in self.form.parts.items():
            there = form.parts.get(name)
            if there is None:
                others = ", ".join(sorted(n for n, p in form.parts.items() if not p.hash)) or "none"
                return f"it has no variable {name!r} (it has {others[:80]})"
            dims = part.dims
            if name in self.repeated and self.time not in there.dims:
                dims = tuple(d for d in dims if d != self.time)
            for what, now, before in (
                ("dimensions", there.dims, dims),
                ("shape", there.shape, part.shape),
                *((("type", there.dtype, part.dtype),) if not part.hash else ()),
            ):
                if now != before:
                    return f"{name} has {what} {now}, expected {before}"
            if not part.hash and (key := differing(there.meaning, part.meaning)):
                return _meant(name, key, there, part)
            moved = part.hash and there.hash and there.hash != part.hash
            if moved and not self.kept.is_alike(name, file):
                return f"it has another grid ({name!r} differs)"
        return None

    def _of_one(self, file: str, entry: Entry) -> str | None:
        """Return how one file differs from others of its form."""
        is_told = entry.instants is not None
        if is_told and not same_calendar(entry.calendar, self.calendar, entry.good):
            return f"its calendar is {entry.calendar!r}, expected {self.calendar!r}"
        for name, before in self.singles.items():
            now = entry.singles.get(name)
            if now is None or now == before:
                continue
            key = (entry.form.key, name, now)
            if key not in self._alike:
                self._alike[key] = self.kept.is_alike(name, file)
            if not self._alike[key]:
                return f"{name!r} differs"
        return None

    def parts(self, taken: Mapping[str, Entry]) -> dict[str, Part]:
        """Return the variables that all files have, with time where they change with it.

        What is one value in a file, and not the same in all of them, changes with time.
        """
        forms = list({e.form.key: e.form for e in taken.values()}.values())
        parts = {}
        for name, part in forms[0].parts.items():
            expected = self.form.parts.get(name)
            if expected is None and not all(_agree(form.parts.get(name), part) for form in forms):
                continue
            parts[name] = part
            if name in forms[0].singles:
                values = {entry.singles.get(name) for entry in taken.values()}
                same = name in self.singles or (expected is None and len(values) == 1)
                if not same or (expected and self.time in expected.dims):
                    parts[name] = replace(part, dims=(self.time, *part.dims))
        return parts

    def notes(self, taken: Mapping[str, Entry]) -> tuple[str, ...]:
        """Return what is to be told of variables that only some of the files have."""
        common = self.parts(taken)
        others: dict[str, list[str]] = {}
        for file, entry in taken.items():
            for name in entry.form.parts.keys() - common.keys():
                others.setdefault(name, []).append(file)
        return tuple(
            f"not taken: variable {name!r}, which {len(files)} of {len(taken)} files have alike "
            f"({files[0]} is the first)"
            for name, files in sorted(others.items())
            if not self.names
        )


def _agree(first: Part | None, second: Part) -> bool:
    """Tell whether a variable is the same in two files, up to units of one quantity."""
    if first is None or differing(first.meaning, second.meaning):
        return False
    return replace(first, meaning=second.meaning) == second


def _meant(name: str, key: str, there: Part, part: Part) -> str:
    """Say in which attribute two variables differ whose numbers mean different things."""
    now, before = dict(there.meaning), dict(part.meaning)
    return f"{key} of {name} is {now.get(key)}, expected {before.get(key)}"


@dataclass
class _Kept:
    """Where the values are that do not change with time."""

    spec: SourceSpec
    paths: Mapping[str, Path]
    example: str
    """A file that has them, if no repository does."""
    memory: SourceMemory | None

    def is_alike(self, name: str, file: str) -> bool:
        """Tell whether a variable of a file is as expected, up to rounding."""
        try:
            with open_file(self.paths[file], self.spec) as dataset:
                if self.memory is not None and self.memory.settings is not None:
                    frame = load_frame(self.memory.location, self.memory.settings)
                    check_frame(xr.Dataset({name: frame.variables[name]}), dataset)
                else:
                    with open_file(self.paths[self.example], self.spec) as example:
                        expected = xr.Dataset({name: example.variables[name].load()})
                        check_frame(expected, dataset)
        except (Unfit, InvalidInput):
            return False
        return True


def expected_of(
    entries: Mapping[str, Entry],
    paths: Mapping[str, Path],
    spec: SourceSpec,
    memory: SourceMemory | None,
) -> Expected:
    """Return what the files of a source must be like.

    That is what they were like at init; at init, what most of the newest are like, and of their
    variables those that at least half of all files have; for a new era, what the newest is like.
    """
    settings = None if memory is None else memory.settings
    if settings is not None:
        form = form_of_settings(settings)
        singles = {n: p.hash for n, p in form.parts.items() if p.hash}
        calendar = calendar_of({"calendar": settings.calendar})
        fixed = _Kept(spec, paths, "", memory)
        return Expected(form, calendar, singles, _singles(entries), fixed, settings.names)
    if not entries:
        return Expected(Form("", {}), "", {}, frozenset(), _Kept(spec, paths, "", None))
    newest = sorted(entries, key=lambda name: _age(name, entries[name]))
    recent = newest[-RECENT if memory is None else -1 :]
    forms = Counter(entries[name].form.key for name in recent)
    most = max(forms.values())
    example = next(name for name in reversed(recent) if forms[entries[name].form.key] == most)
    form = entries[example].form
    if memory is None:
        counts = Counter(name for entry in entries.values() for name in entry.form.parts)
        parts = {n: p for n, p in form.parts.items() if 2 * counts[n] >= len(entries)}
        form = Form(form.time, parts or form.parts)
    fixed = _Kept(spec, paths, example, None)
    singles = _alike(entries, form)
    return Expected(form, entries[example].calendar, singles, _singles(entries), fixed)


def _singles(entries: Mapping[str, Entry]) -> frozenset[str]:
    """Return what is one value or array in most of the files that have it."""
    forms = Counter(entry.form.key for entry in entries.values())
    by_key = {entry.form.key: entry.form for entry in entries.values()}
    votes: Counter[str] = Counter()
    for key, count in forms.items():
        singles = by_key[key].singles
        for name in by_key[key].parts:
            votes[name] += count if name in singles else -count
    return frozenset(name for name, vote in votes.items() if vote > 0)


def _alike(entries: Mapping[str, Entry], form: Form) -> dict[str, str]:
    """Return what is one value or array in a file, and the same in more than half of them.

    A time of a file, when its forecast was made say, is another one in the next.
    """
    alike = {}
    for name in form.singles:
        is_told = any(name in entry.units for entry in entries.values())
        values = Counter(e.singles[name] for e in entries.values() if name in e.singles)
        ((value, count),) = values.most_common(1)
        if not is_told and 2 * count > values.total():
            alike[name] = value
    return alike


def _age(name: str, entry: Entry) -> tuple[int, str]:
    """Return the key that sorts files by their times, and those without times by their names."""
    return (int(entry.good.min(initial=2**62)), name)
