"""A simulation: what members a shadow has, of which any chunk can be computed alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import PROVENANCE, Plane, plane_chunk
from gnomon.storage.serve.readings import served_reading
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable
from gnomon.storage.values.scaling import Packing
from gnomon.storage.values.times import format_instant
from gnomon.tasks.forecasting.specification import clip
from gnomon.tasks.learning.cadence import Cadence
from gnomon.tasks.restoring.choice import select
from gnomon.tasks.restoring.locate import Match
from gnomon.tasks.restoring.request import StateRequest
from gnomon.tasks.restoring.restore import planes
from gnomon.tasks.restoring.restore_point import RestorePoint
from gnomon.tasks.restoring.shadow import newest_shadow
from gnomon.tasks.simulating import fields
from gnomon.tasks.simulating.covariance import Covariance, correlate_leads, fit, root
from gnomon.tasks.simulating.departing import PastFields
from gnomon.tasks.simulating.draws import generator
from gnomon.tasks.simulating.history import History, Past, boxes_of
from gnomon.tasks.simulating.labels import draw_labels

__all__ = ["Drawn", "Request", "Simulation", "simulate"]

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]

MOST_MEMBERS = 10_000
"""Members, at most: far more than a disk would hold of anything but the smallest field."""
LEAST_SAMPLED = 0.1
"""Share of the sample covariance below which it is left out: to find the past departures of every
chunk would cost more than it tells."""
PAST_BYTES = 2**27
"""Past departures of a chunk beyond which they are left out, too: bounds the memory."""
KEPT_CHUNKS = 8
"""Predicted chunks that are kept, so that those of all members are read once."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be simulated."""

    members: int
    seed: int
    at: str | None = None
    """None: all leads of the newest shadow."""
    match: Match = "exact"
    variables: tuple[str, ...] = ()
    """Empty: all that are forecast."""

    def __post_init__(self) -> None:
        if not 1 <= self.members <= MOST_MEMBERS:
            advice = "" if self.members < 1 else "; join simulations of several seeds for more"
            raise InvalidInput(
                f"found {self.members} members, expected 1 to {MOST_MEMBERS}{advice}"
            )


@dataclass(frozen=True, slots=True)
class Drawn:
    """How members of one variable depart from what is predicted."""

    past: Past
    covariance: Covariance
    waves: fields.Waves
    row: int
    """Of its first lead in the waves."""
    independent: Floats
    """(H,) number of independent hindcasts."""

    def standard(
        self, seed: int, member: int, lead: int, index: Index, past: PastFields | None
    ) -> Floats:
        """Return a standardised field of one chunk: normal, of unit variance in each cell."""
        variable = self.past.history.variable
        cells, nugget = variable.grid.cells(index), self.covariance.nuggets[lead - 1]
        field = np.zeros(tuple(s.stop - s.start for s in cells))
        if nugget < 1.0:
            wave = self.waves.field(seed, member, self.row + lead - 1, cells)
            field = field + np.sqrt(1.0 - nugget) * wave
        if nugget > 0.0:
            number = int(np.ravel_multi_index(index, variable.grid.counts)) if index else 0
            # By the grid, not the variable: what variables have in common they have here, too.
            rough = fields.roughen(
                seed,
                "/".join(variable.dims),
                member,
                self.row + lead,
                self.waves.mixing,
                number,
                field.shape,
            )
            field = field + np.sqrt(nugget) * rough
        if past is None:
            return field
        alike = fields.resemble(seed, member, lead, past).reshape(field.shape)
        modelled = self.covariance.modelled
        joined = np.sqrt(1.0 - modelled) * np.nan_to_num(alike) + np.sqrt(modelled) * field
        return np.asarray(np.where(np.isfinite(alike), joined, field))


class Simulation:
    """Members of what is predicted of one or more times.

    Parameters
    ----------
    repository
        Pinned to a commit and an era.
    request
        What is asked for.
    shadow
        Which members are drawn of.
    shown
        The states, one for each time.
    point
        The restore point of a single time; None for all leads.
    drawn
        By variable.
    """

    def __init__(
        self,
        repository: Repository,
        request: Request,
        shadow: Shadow,
        shown: tuple[Plane, ...],
        point: RestorePoint | None,
        drawn: Mapping[str, Drawn],
    ) -> None:
        self.repository, self.request, self.shadow = repository, request, shadow
        self.shown, self.point, self.drawn = shown, point, dict(drawn)
        self.variables = {name: repository.settings.variable(name) for name in drawn}
        self.readings = {n: self._reading(v) for n, v in self.variables.items()}
        self.expected = lru_cache(maxsize=KEPT_CHUNKS)(self._expected)
        self._past_of = lru_cache(maxsize=KEPT_CHUNKS)(self._past)
        self._seen = lru_cache(maxsize=KEPT_CHUNKS)(self._labels)

    def _reading(self, variable: Variable) -> Packing:
        """Return what raw values of members stand for.

        A packing was chosen for what was measured, and may not hold the tails: packed variables are
        given as numbers.
        """
        reading = served_reading(self.repository, variable, self.shown)
        packed = reading.dtype.kind in "iu" and (reading.scale != 1.0 or reading.offset != 0.0)
        if packed and not variable.categorical:
            return Packing(np.dtype("<f8"), {}, reading.factor, reading.shift)
        return reading

    def lead(self, plane: int) -> int:
        """Return the lead of a state; of one without a shadow that of the nearest capture."""
        if self.point is None:
            return self.shown[plane].lead
        if self.point.lead and self.point.shadow is not None:
            return self.point.lead
        cadence = Cadence.from_json(dict(next(iter(self.shadow.learnt.values())).cadence))
        slot = cadence.slot(self.point.instant)
        near = min(abs(cadence.slot(s.instant) - slot) for s in self.repository.timeline)
        return int(np.clip(near, 1, len(self.shadow.instants)))

    def _expected(self, name: str, plane: int, index: Index) -> tuple[Floats, Floats, Any]:
        """Return prediction, standard error and provenance of a chunk, in the units of init."""
        captures = self.repository.captures(name)
        shown = self.shown[plane]
        plain = Packing(np.dtype("<f8"), {})
        shadow = None
        if shown.shadow is not None:
            shadow = self.repository.shadow(name, self.shadow, captures)
        values, errors, provenance, *_ = plane_chunk(captures, shadow, shown, index, plain)
        estimated = (provenance != PROVENANCE["captured"]) & (provenance != PROVENANCE["missing"])
        flags = np.where(estimated, PROVENANCE["simulated"], provenance).astype(np.uint8)
        return np.asarray(values, np.float64), errors, flags

    def _past(self, name: str, index: Index) -> PastFields | None:
        drawn = self.drawn[name]
        return None if drawn.covariance.modelled >= 1.0 else drawn.past.of_chunk(index)

    def _labels(self, name: str, index: Index) -> Floats:
        history = self.drawn[name].past.history
        return history.record([self.variables[name].grid.cells(index)]).values

    def physical(self, name: str, member: int, plane: int, index: Index) -> Floats:
        """Return a chunk of a member in the units of init, float64; NaN where nothing is known.

        Parameters
        ----------
        member
            Its number, from 0.
        plane
            Which of the states.
        """
        values, errors, provenance = self.expected(name, plane, index)
        drawn, seed, lead = self.drawn[name], self.request.seed, self.lead(plane)
        estimated = provenance == PROVENANCE["simulated"]
        if not estimated.any():
            return values
        field = drawn.standard(seed, member, lead, index, self._past_of(name, index))
        if self.variables[name].categorical:
            place = [int(n) for n in (*index, 0, 0)]
            uniform = generator(seed, f"labels/{name}/{place}", member, lead).random(values.size)
            seen = self._seen(name, index)
            labels = draw_labels(values.ravel(), errors.ravel(), field.ravel(), uniform, seen)
            return np.where(estimated, labels.reshape(values.shape), values)
        # What healing leaves uncertain was measured on hidden cells: it needs no Student's t.
        size = 1.0
        if self.shown[plane].shadow is not None:
            size = fields.stretch(seed, member, float(drawn.independent[lead - 1]))
        members = values + np.nan_to_num(errors) * size * field
        spec = drawn.past.history.specification
        if spec is not None:
            members = clip(spec, members)
        members = np.clip(members, *self.variables[name].bounds())
        return np.where(estimated, members, values)

    def chunk(self, name: str, member: int, plane: int, index: Index) -> NDArray[np.generic]:
        """Return the raw values of a chunk of a member."""
        shown, into = self.shown[plane], self.readings[name]
        if (self.expected(name, plane, index)[2] == PROVENANCE["captured"]).all():
            return plane_chunk(self.repository.captures(name), None, shown, index, into)[0]
        return into.from_physical(self.physical(name, member, plane, index))

    def provenance(self, name: str, plane: int, index: Index) -> NDArray[np.uint8]:
        """Return where the cells of a chunk come from, the same in all members."""
        flags: NDArray[np.uint8] = self.expected(name, plane, index)[2]
        return flags

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Return what a dataset says of itself: attributes by variable, its own under ""."""
        request = self.request
        whole = {
            "method": "simulated",
            "members": request.members,
            "seed": request.seed,
            "reference_time": self.reference_time,
            "commit": self.repository.records[-1].sequence,
            "summary": self.summary(),
        }
        each = {
            name: {
                "covariance": self.basis(name),
                "past_departures": drawn.past.count,
                "modelled_share": round(drawn.covariance.modelled, 3),
            }
            for name, drawn in self.drawn.items()
        }
        return {"": whole, **each}

    @property
    def reference_time(self) -> str:
        """When what members are drawn of was predicted, ISO 8601."""
        return format_instant(self.shadow.reference, self.repository.settings.calendar)

    def summary(self) -> str:
        """Say in one line what was simulated."""
        what = f"{self.request.members} simulated members (seed {self.request.seed})"
        if self.point is not None and self.point.kind != "healed" and self.point.shadow is None:
            return f"{what} of the {self.point}; they have the covariance of past departures"
        if self.point is not None and self.point.kind == "healed":
            return (
                f"{what} of the {self.point}; intact cells are the same in all of them, estimated "
                "ones have the covariance of departures from the forecast"
            )
        calendar = self.repository.settings.calendar
        first, last = (format_instant(self.shown[k].instant, calendar) for k in (0, -1))
        times = first if first == last else f"{first} to {last}"
        return f"{what} of {times}, drawn from the forecast made at {self.reference_time}"

    def basis(self, name: str) -> str:
        """Say what the covariance of a variable rests on."""
        drawn = self.drawn[name]
        count, changed = drawn.past.count, len(drawn.past.boxes[0].past.slots)
        share = drawn.covariance.modelled
        if not count and not changed:
            return "cells are independent: there are too few captures to tell what goes together"
        if not count:
            kind = "change" if changed == 1 else "changes"
            return f"a stationary model, fitted to {changed} {kind} between captures: {_few(drawn)}"
        if share >= 1.0:
            return f"a stationary model, fitted to {count} past departures"
        return (
            f"that of {count} past departures, {1 - share:.0%}, and that of a stationary model "
            f"fitted to them, {share:.0%}"
        )


def _few(drawn: Drawn) -> str:
    if drawn.past.history.variable.categorical:
        return "labels have no departures"
    if drawn.past.history.specification is None:
        return "what was learnt is of an older form, run 'gnomon update --refit'"
    return "there are too few captures for departures"


def simulate(
    repository: Repository, request: Request, progress: Progress | None = None
) -> Simulation:
    """Return the simulation that is asked for: its covariance is learnt, nothing is drawn yet.

    Raises
    ------
    NotFound
        There is no shadow, no such state, or no such variable.
    InvalidInput
        The state was captured exactly, or cannot be simulated.
    """
    point: RestorePoint | None = None
    if request.at is None:
        shown, _ = newest_shadow(repository, accept_predicted=True)
    else:
        state = StateRequest(request.at, match=request.match, accept_predicted=True)
        repository, point = select(repository, state)
        if not point.predicted:
            how = "exactly" if point.kind == "captured" else f"and has no estimate ({point.kind})"
            raise InvalidInput(
                f"the state of {point.valid_time} was captured {how}, so all members would be "
                "the same; restore it with 'gnomon restore', or simulate a time that was not "
                "captured"
            )
        shown, point = planes(repository, point)
    wanted = shown[0].shadow if point is None else point.shadow
    if not repository.shadows:
        raise NotFound("there is no forecast to learn from; run 'gnomon update'")
    # Of what was never forecast, such as a gap in a backfill, the newest one knows most.
    shadow = repository.shadow_named(wanted) or repository.shadows[-1]
    names = _names(repository, request.variables, shadow)
    # With those beside them: what a variable is drawn as must not depend on what else is asked for.
    grids = {_grid(repository.settings.variable(name)) for name in names}
    beside = [
        name
        for name in _names(repository, (), shadow)
        if _grid(repository.settings.variable(name)) in grids
    ]
    pasts = {}
    for number, name in enumerate(beside):
        variable = repository.settings.variable(name)
        pasts[name] = History.of(repository, shadow, name).learn(boxes_of(variable))
        if progress is not None:
            progress("learning covariances", number + 1, len(beside))
    drawn = _draw(pasts, len(shadow.instants))
    return Simulation(repository, request, shadow, shown, point, {n: drawn[n] for n in names})


def _names(repository: Repository, wanted: Sequence[str], shadow: Shadow) -> list[str]:
    """Return the variables that are simulated."""
    for name in wanted:
        variable = repository.settings.variable(name)
        if not variable.forecast or name not in shadow.variables or name not in shadow.learnt:
            there = ", ".join(shadow.variables) or "nothing"
            raise NotFound(f"{name!r} has no forecast at this time, which has those of {there}")
    names = [n for n in shadow.variables if n in shadow.learnt and (not wanted or n in wanted)]
    if not names:
        raise NotFound("no variable has a forecast; run 'gnomon update'")
    return names


def _grid(variable: Variable) -> tuple[object, ...]:
    """Return what variables have in common that are drawn together."""
    return variable.dims, variable.shape


def _draw(pasts: Mapping[str, Past], leads: int) -> dict[str, Drawn]:
    """Return how variables are drawn, those on one grid together."""
    grids: dict[tuple[object, ...], list[str]] = {}
    for name, past in pasts.items():
        grids.setdefault(_grid(past.history.variable), []).append(name)
    drawn = {}
    for names in grids.values():
        joint = correlate_leads(names, [pasts[name].boxes for name in names], leads)
        fits = {name: fit(pasts[name].boxes, joint, name) for name in names}
        fits = {
            name: replace(c, modelled=1.0)
            if 1.0 - c.modelled < LEAST_SAMPLED or pasts[name].chunk_bytes > PAST_BYTES
            else c
            for name, c in fits.items()
        }
        waves = fields.Waves(
            pasts[names[0]].history.variable.shape,
            pasts[names[0]].history.variable.cyclic,
            np.concatenate([c.lengths for c in fits.values()]),
            block_diag(*(c.weights for c in fits.values())),
            root(joint.correlations),
        )
        for name in names:
            rows = joint.rows(name)
            counted = pasts[name].boxes[0].past.independent() if pasts[name].count else 0.0
            drawn[name] = Drawn(
                pasts[name],
                fits[name],
                waves,
                rows.start,
                np.broadcast_to(counted, leads),
            )
    return drawn
