"""The part of the Python API that compares states, and draws them."""

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import xarray as xr

from gnomon.progress import mapper_of
from gnomon.storage.errors import InvalidInput
from gnomon.storage.repository import Repository
from gnomon.storage.userpath import blaming, check_output, place_of
from gnomon.tasks.comparing.compare import Difference, compare_states
from gnomon.tasks.comparing.fields import (
    PIXELS,
    Field,
    check_drawable,
    difference_field,
    is_drawable,
    state_field,
)
from gnomon.tasks.comparing.operands import opened_states
from gnomon.tasks.comparing.preview import kept_state, opened_plan
from gnomon.tasks.comparing.states import State
from gnomon.tasks.restoring.cells import Cells
from gnomon.tasks.restoring.locate import Match
from gnomon.tasks.restoring.request import StateOptions, StateRequest
from gnomon.tasks.restoring.restore_point import RestorePoint
from gnomon.tasks.restoring.states import choose_states
from gnomon.tasks.restoring.timeline import charted, timeline_of
from gnomon.tasks.rollback.live import live_spec
from gnomon.tasks.work import Mapper

__all__ = ["MOST_DRAWN", "PICTURES", "Comparing", "check_picture"]

PICTURES = (".pdf", ".png", ".svg")
"""Endings of the files that can be drawn."""
MOST_DRAWN = 8
"""Variables in one picture, at most."""


def check_picture(option: str, path: str | PathLike[str]) -> Path:
    """Return the path of a picture; refuse one that cannot be written, before long work.

    Raises
    ------
    InvalidInput
        Names the option and the path.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise InvalidInput(
            f"{option} is {path}, which is not the name of a picture; end it in .png, .pdf or .svg"
        )
    check_output(option, path)
    return path


class Comparing:
    """Methods that compare states and draw them."""

    _repository: Repository

    if TYPE_CHECKING:  # of another part of the API, that every repository has as well

        def points(
            self, at: str | None = None, *, match: Match = "exact"
        ) -> tuple[RestorePoint, ...]:
            """Return restore points."""

    def diff(
        self,
        first: int | str,
        second: int | str,
        *,
        variable: str | Sequence[str] = (),
        plot: str | PathLike[str] | None = None,
    ) -> tuple[Difference, ...]:
        """Return what differs between two states, per variable that both have.

        Two captures are compared by their digests, and bit by bit where these differ; a capture and
        the live source as well.  Estimates are compared as numbers, in the units of init.

        Parameters
        ----------
        first, second
            A capture by number or time; ``TIME@KIND``, the restore point of a kind:
            ``2010-09@forecast``, ``latest@healed``; or ``live``, the live source: of an append
            source its step of the other one's time, of a state source as it is now.
        variable
            Names of the variables to compare; default: all, and of two captures what is fixed.
        plot
            File for a picture: both and their difference, of at most `MOST_DRAWN` variables, those
            that differ first.

        Raises
        ------
        NotFound
            There is no such state or variable, or the live source has no step of that time.
        InvalidInput
            The states are of two eras, or a variable that was named cannot be drawn.
        Integrity
            A chunk that is needed is damaged in the repository.
        """
        path = None if plot is None else check_picture("plot", plot)
        names = (variable,) if isinstance(variable, str) else tuple(variable)
        with opened_states(self._repository, str(first), str(second)) as (before, after, seen):
            if path is not None:
                _check_drawable(seen, names)
            mapper = mapper_of("compare", None, None)
            differences = compare_states(before, after, names, mapper=mapper)
            if path is not None:
                fields = _fields(seen, before, after, differences, mapper, named=bool(names))
        if path is not None:
            _draw(fields, path)
        return differences

    def plot_points(
        self,
        path: str | PathLike[str],
        at: str | None = None,
        *,
        match: Match = "exact",
        variable: str | None = None,
        points: Sequence[RestorePoint] | None = None,
    ) -> Path:
        """Draw the restore points of a time with their expected errors, or the timeline of all.

        Parameters
        ----------
        path
            File for the picture.
        at, match
            As for :meth:`points`; without a time, captures, suspects, revisions and the shadow
            with the error that is expected of each lead are drawn, all of it from the log.
        variable
            Whose errors; default: the first that is forecast.
        points
            What :meth:`points` has returned for the time; None: it is called.

        Returns
        -------
        Path
            The file.
        """
        path = check_picture("plot", path)
        from gnomon import pictures

        draw: Callable[[], Path]
        if at is None:
            timeline = timeline_of(self._repository, variable)
            draw = partial(pictures.draw_timeline, timeline, path)
        else:
            shown = tuple(self.points(at, match=match) if points is None else points)
            name = charted(self._repository, variable)
            draw = partial(pictures.draw_points, shown, name, path)
        with blaming("the picture", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return draw()

    def preview(
        self,
        at: str,
        path: str | PathLike[str],
        *,
        in_place: bool = False,
        into: str | PathLike[str] | None = None,
        cells: Cells | None = None,
        **options: Unpack[StateOptions],
    ) -> RestorePoint:
        """Draw what a restore would give, or change in a live dataset; nothing else is written.

        Where cells are estimated, standard errors and provenance are drawn beside the values.

        Parameters
        ----------
        path
            File for the picture.
        in_place
            Draw what :meth:`rollback` would change in the source.
        into
            The same for another dataset of the same grid: its path or URL.
        at, cells, **options
            As for :meth:`rollback`.  The picture shows whole chunks.

        Returns
        -------
        RestorePoint
            What would be restored.
        """
        path = check_picture("preview", path)
        into = None if into is None else place_of(into)
        if in_place and into is not None:
            raise InvalidInput(f"in_place is the source itself, and into is {into}; give one")
        request = StateRequest.of(at, accept_predicted=True, **options)
        states = choose_states(self._repository.refresh(), request, cells)
        seen, (point,), selection = states.seen, states.points, states.selection
        names = selection.variables
        _check_drawable(seen, names)
        mapper = mapper_of("compare", None, None)
        if in_place or into is not None:
            spec = live_spec(seen, point, into)
            with opened_plan(states, spec) as (live, planned, point):
                differences = compare_states(live, planned, names, mapper=mapper)
                fields = _fields(seen, live, planned, differences, mapper, named=bool(names))
        else:
            state, point = kept_state(states)
            settings, fixed = seen.settings, _fixed(seen)
            chosen = [settings.variable(n) for n in names] or [
                v for v in settings.variables if state.has(v) and is_drawable(v)
            ]
            pixels = _pixels(len(chosen))
            fields = [
                state_field(state, v, fixed, selection=selection, pixels=pixels, mapper=mapper)
                for v in chosen[:MOST_DRAWN]
            ]
        _draw(fields, path)
        return point


def _fields(
    seen: Repository,
    first: State,
    second: State,
    differences: Sequence[Difference],
    mapper: Mapper,
    *,
    named: bool,
) -> list[Field]:
    """Return what is drawn of two states; those that differ come first."""
    there = {v.name: v for v in seen.settings.variables}
    compared = [d for d in differences if d.variable in there]
    if not named:
        compared = [d for d in compared if is_drawable(there[d.variable])]
        compared.sort(key=lambda d: not d.changed_cells)
    fixed = _fixed(seen)
    pixels = _pixels(len(compared))
    return [
        difference_field(first, second, there[d.variable], d, fixed, pixels=pixels, mapper=mapper)
        for d in compared[:MOST_DRAWN]
    ]


def _fixed(seen: Repository) -> dict[str, xr.Variable]:
    """Return the variables that do not change, coordinates among them."""
    return {str(name): variable for name, variable in seen.frame.variables.items()}


def _pixels(count: int) -> int:
    """Return the pixels along a side of one of so many fields, all of which are held at once."""
    return PIXELS if count <= 2 else PIXELS // 2


def _check_drawable(seen: Repository, names: Sequence[str]) -> None:
    """Refuse variables that cannot be drawn, where they are named or there are no others."""
    variables = seen.settings.variables
    if names or not any(map(is_drawable, variables)):
        for variable in [v for v in variables if v.name in names] or variables[:1]:
            check_drawable(variable)


def _draw(fields: Sequence[Field], path: Path) -> None:
    if not fields:
        raise InvalidInput("no variable of these states can be drawn; leave the picture out")
    from gnomon.pictures import draw_fields

    with blaming("the picture", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_fields(fields, path)
