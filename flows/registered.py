"""The checks of a run beside the built-in ones: of installed packages, of a file, or given to it.

A package registers a :class:`Check`, or several, in the entry-point group ``gnomon.checks``: so
scheduled runs have it, and so have the workers, which load its function from the same package.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from gnomon.flows.checkfile import checks_of
from gnomon.storage.checks.captures import CAPTURE_CHECKS, CAPTURE_STATISTICS, PLACE
from gnomon.storage.checks.check import Check, Statistic
from gnomon.storage.checks.shadows import SHADOW_CHECKS
from gnomon.storage.entrypoints import contest, package_of, registered, take
from gnomon.storage.errors import InvalidInput
from gnomon.tasks.capturing import replacements
from gnomon.validations.actual import actual_checks

__all__ = ["GROUP", "InUse", "checks_in_use"]

GROUP = "gnomon.checks"
"""Entry-point group of checks."""

_NAMES = frozenset(c.name for c in (*CAPTURE_CHECKS, *SHADOW_CHECKS)) | {"believable_time"}
"""What incidents may say already."""
_BUILT_IN = {s.name: s for s in (*PLACE, *CAPTURE_STATISTICS)}
_BUILT_IN |= {check.column: check.statistic for check in CAPTURE_CHECKS}
_ASIDE = frozenset({"lead", *replacements.COLUMNS})
"""Columns that stand in a table, or are told by a worker, for a moment."""


@dataclass(frozen=True, slots=True)
class InUse:
    """What a run checks of captures."""

    checks: tuple[Check, ...] = ()
    """Checks beside the built-in ones."""
    failures: dict[str, str] = field(default_factory=dict)
    """By entry point: why what it registers is not checked."""

    def suite(self, alpha: float) -> tuple[Check, ...]:
        """Return the built-in checks, at a rate of false discoveries, and the others."""
        return actual_checks(alpha, (*CAPTURE_CHECKS, *self.checks))


def checks_in_use(given: Sequence[Check] = (), file: Path | None = None) -> InUse:
    """Return the checks of a run.

    What is registered and cannot be used is left out, and told: a package that is broken shall not
    end the captures.  One that is given is refused instead.

    Parameters
    ----------
    given
        Checks of this run alone.
    file
        A Python file with more of them.

    Raises
    ------
    InvalidInput
        One that is given is none, lacks a function, or has a name that is taken; or the file
        cannot be used.
    """
    checks: list[Check] = []
    failures: dict[str, str] = {}
    loaded: list[tuple[EntryPoint, list[Any]]] = []
    refusals: list[tuple[EntryPoint, str]] = []
    for point in _points():
        try:
            loaded.append((point, _listed(take(point, _is_listed, "check"))))
        except InvalidInput as error:
            refusals.append((point, str(error)))
    contested = _contested(loaded)
    for point, listed in loaded:
        refusals += [(point, reason) for reason in _take_up(listed, checks, contested)]
    for point, reason in refusals:  # two packages may use the same name of an entry point
        before = f"{failures[point.name]}; " if point.name in failures else ""
        failures[point.name] = before + reason
    for check in (*given, *(checks_of(file) if file else ())):
        if isinstance(check, Check) and check in checks:
            continue  # it is registered as well
        _refuse_unfit(check, checks)
        checks.append(check)
    return InUse(tuple(checks), failures)


@cache
def _points() -> tuple[EntryPoint, ...]:
    """Return what is registered; looking through all packages takes a tenth of an update."""
    return tuple(sorted(registered(GROUP), key=lambda point: (point.name, point.value)))


def _is_listed(named: object) -> bool:
    return isinstance(named, Check | Iterable)


def _listed(named: Any) -> list[Any]:
    return list(named) if isinstance(named, Iterable) else [named]


type _Name = tuple[str, str]
"""``check`` or ``statistic``, and its name."""


def _names(check: Check) -> dict[_Name, object]:
    """Return the names that a check takes, and for what."""
    names: dict[_Name, object] = {("check", check.name): check}
    if check.statistic != _BUILT_IN.get(check.column):
        names["statistic", check.column] = check.statistic
    return names


def _contested(loaded: Sequence[tuple[EntryPoint, Sequence[Any]]]) -> dict[_Name, str]:
    """Return what several packages register under one name, and how that is told."""
    claims: dict[_Name, dict[str, tuple[EntryPoint, object]]] = {}
    for point, listed in loaded:
        for check in listed:
            for name, thing in _names(check).items() if isinstance(check, Check) else ():
                claims.setdefault(name, {}).setdefault(package_of(point), (point, thing))
    contested = {}
    for name, by_package in claims.items():
        points, things = zip(*by_package.values(), strict=True)
        if any(thing != things[0] for thing in things):
            contested[name] = contest(" ".join(name), points)
    return contested


def _take_up(
    listed: Sequence[Any], checks: list[Check], contested: Mapping[_Name, str]
) -> list[str]:
    """Add those that can be used to the checks; returns why the others cannot."""
    refusals = []
    for check in listed:
        try:
            for name in _names(check) if isinstance(check, Check) else ():
                if name in contested:
                    raise InvalidInput(contested[name])
            _refuse_unfit(check, checks)
            checks.append(check)
        except InvalidInput as error:
            refusals.append(str(error))
    return refusals


def _refuse_unfit(check: object, others: Sequence[Check]) -> None:
    """Refuse what is no check, cannot be measured, or is called like another."""
    if not isinstance(check, Check):
        raise InvalidInput(f"a {type(check).__name__} is no check; give a gnomon.Check")
    if check.name in _NAMES or any(check.name == other.name for other in others):
        raise InvalidInput(f"there is a check {check.name} already; choose another name")
    statistic = check.statistic
    if statistic == _BUILT_IN.get(statistic.name):
        return  # a bound of one's own
    statistics: dict[str, Statistic] = _BUILT_IN | {
        other.column: other.statistic for other in others
    }
    if statistic.name in _ASIDE or statistics.get(statistic.name, statistic) != statistic:
        raise InvalidInput(
            f"check {check.name}: there is a statistic {statistic.name} already; choose another "
            "name for its own"
        )
    if statistic.measure is None:
        raise InvalidInput(
            f"check {check.name}: nothing fills its statistic {statistic.name}; give it a measure"
        )
