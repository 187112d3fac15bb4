"""Composite: of each suspect chunk the better of two estimates, healed and interpolated.

Healing knows the intact neighbours, interpolation the captures before and after.  Both state errors
that trials have calibrated, so the smaller one is the better bet.
"""

from dataclasses import dataclass
from math import inf, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import Integrity
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import EstimatedChunk
from gnomon.storage.values.grid import Index
from gnomon.tasks.learning.trusted import pass_over
from gnomon.tasks.restoring.between import Between, between
from gnomon.tasks.restoring.heal import Healed

__all__ = ["better", "has_both_sides"]


def has_both_sides(repository: Repository, instant: int) -> bool:
    """Tell whether there are captures before and after a time."""
    timeline = repository.timeline
    return bool(timeline) and timeline[0].instant < instant < timeline[-1].instant


def better(
    repository: Repository,
    instant: int,
    name: str,
    chunks: list[Index],
    healed: Healed | None,
) -> Healed:
    """Return the estimates of chunks with those that are interpolated where less error is expected.

    Parameters
    ----------
    healed
        Estimates of the same chunks; None: there are none.
    """
    nothing = healed or Healed({}, None, None)
    estimator = between(repository, name, instant) if has_both_sides(repository, instant) else None
    if estimator is None:
        return nothing
    captures = repository.captures(name)
    before = [_Patch.of(nothing.patches.get(index)) for index in chunks]
    after = list(before)
    chances: list[float | None] = [nothing.confidence] * len(chunks)
    for k, index in enumerate(chunks):
        try:
            patch = _Patch.of(estimator.chunk(captures, index))
        except Integrity as error:
            pass_over(error, repository.location.url, name, index)
            continue
        if patch.expected < before[k].expected:
            after[k] = patch
            chances[k] = _chance(estimator, patch.standard_error)
    patches = {i: p.chunk for i, p in zip(chunks, after, strict=True) if p.chunk is not None}
    squares = sum(p.cells * p.expected**2 for p in after if p.cells)
    cells = sum(p.cells for p in after)
    known = [c for c, p in zip(chances, after, strict=True) if c is not None and p.cells]
    if all(new is old for new, old in zip(after, before, strict=True)):
        return nothing
    return Healed(
        patches,
        sqrt(squares / cells) if cells else None,
        float(np.mean(known)) if known else None,
    )


@dataclass(frozen=True, slots=True)
class _Patch:
    """An estimated chunk, and what it states of itself."""

    chunk: EstimatedChunk | None
    expected: float
    """Root mean square of its standard errors; infinite without any."""
    cells: int

    @property
    def standard_error(self) -> NDArray[np.float64]:
        assert self.chunk is not None
        return self.chunk.standard_error.ravel()

    @classmethod
    def of(cls, chunk: EstimatedChunk | None) -> "_Patch":
        known = np.empty(0)
        if chunk is not None:
            known = chunk.standard_error[np.isfinite(chunk.standard_error)]
        return cls(chunk, sqrt(float(np.mean(known**2))) if known.size else inf, known.size)


def _chance(estimator: Between, standard_error: NDArray[np.float64]) -> float | None:
    """Return the probability that an interpolated chunk is within tolerance."""
    plan = next(iter(estimator.plans.values()), None)
    if plan is None:
        known = standard_error[np.isfinite(standard_error)]
        return float(known.mean() <= estimator.spec.tolerance)
    chance = plan.confidence(standard_error, estimator.spec.tolerance)
    return chance if isfinite(chance) else None
