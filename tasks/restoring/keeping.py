"""Keep patches: the suspect chunks of a capture are estimated once, and served from then on.

They rest on what was trusted and forecast when they were made.  A verdict on their capture or one
beside it, or another capture of its time, drops them (see :mod:`gnomon.storage.log.folding`); then,
or where they are damaged, they are estimated when they are read, and an update keeps them again.
They are renewed once, when the first intact capture after theirs is there, as from both sides more
is known; and again if that is no longer the first one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite, prod

from gnomon.storage.log.bodies.patch import PatchBody, PatchedChunk, PatchedEntry
from gnomon.storage.log.conflicts import Work
from gnomon.storage.log.staging import Batch, Entry, fresh_id
from gnomon.storage.log.steps import Patches
from gnomon.storage.pin import Pin
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.patches import create_patch
from gnomon.storage.values.grid import Index
from gnomon.tasks.learning.trusted import gather
from gnomon.tasks.restoring.composite import compose
from gnomon.tasks.restoring.heal import Figures, summed_up
from gnomon.tasks.restoring.kept import kept_estimates
from gnomon.tasks.restoring.points import candidates
from gnomon.tasks.restoring.region import Region, regions
from gnomon.tasks.restoring.suspected import suspects
from gnomon.tasks.work import Mapper

__all__ = ["Damage", "Patched", "commit_patches", "estimate", "find_damage"]

NEWEST = 64
"""Captures, the newest, whose estimates an update sees to: its cost does not grow with age."""
AT_ONCE = 8
"""Captures that one update estimates, at most: each may take seconds. The next goes on."""
LARGEST = 10_000_000
"""Cells of one capture, at most: more are not kept, as they would take as much room as many
captures. They are estimated when they are read."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Suspect chunks of a capture whose estimates are not kept, or stale."""

    step: int
    """Number of the capture."""
    shadow: str
    """Id of the shadow that they start from."""
    lead: int
    """Its lead."""
    chunks: Mapping[str, tuple[Index, ...]]
    """The suspect chunks by variable."""
    sequence: int
    """The commit at which it is so."""
    between: tuple[int, int] | None = None
    """The intact captures before and after that tell of them, too; None: not both are there."""


@dataclass(frozen=True, slots=True)
class Patched:
    """Estimates, written but not yet committed."""

    damage: Damage
    """What they are of."""
    id: str
    """Their folder."""
    variables: dict[str, PatchedEntry]
    """What the record will say of each variable."""
    entries: dict[str, Entry]
    """The objects that were written."""
    notes: tuple[str, ...]
    """What they had to do without."""

    @property
    def count(self) -> int:
        """Chunks that were estimated."""
        return sum(len(entry.chunks) for entry in self.variables.values())


def find_damage(repository: Repository) -> tuple[Damage, ...]:
    """Return the damage that was forecast and has no estimate of today, the newest first."""
    lacking = _lacking(repository)
    return tuple(damage for damage, _ in zip(lacking, range(AT_ONCE), strict=False))


def _lacking(repository: Repository) -> Iterator[Damage]:
    for captured in reversed(repository.timeline[-NEWEST:]):
        if not captured.suspects:
            continue
        points = candidates(repository, captured.instant)
        point = next((p for p in points if p.kind == "healed"), None)
        if point is None or point.shadow is None or point.step != captured.step:
            continue
        chunks = {
            name: tuple(indices) for name, indices in suspects(repository, point.step).items()
        }
        estimates, _ = kept_estimates(repository, point.step, point.shadow, point.lead, chunks)
        before, after = repository.state.beside(captured.instant)
        between = None if before is None or after is None else (before, after)
        kept = repository.state.patches.get(captured.step)
        if estimates.keys() == chunks.keys() and not (kept and _is_stale(kept, between, after)):
            continue
        if _cells(repository, chunks) <= LARGEST:
            sequence = repository.records[-1].sequence
            yield Damage(point.step, point.shadow, point.lead, chunks, sequence, between)


def _is_stale(kept: Patches, between: tuple[int, int] | None, after: int | None) -> bool:
    """Tell whether the intact capture after is another one than that which estimates were made of.

    Which one is before does not count: what becomes of the past changes no estimate.
    """
    return between is not None if kept.between is None else kept.between[1] != after


def _cells(repository: Repository, chunks: Mapping[str, tuple[Index, ...]]) -> int:
    grids = {name: repository.settings.variable(name).grid for name in chunks}
    return sum(prod(grids[name].chunks) * len(indices) for name, indices in chunks.items())


def estimate(repository: Repository, damage: Damage, mapper: Mapper) -> Patched:
    """Estimate what is damaged, region by region, and write it; commits nothing yet.

    Raises
    ------
    Integrity
        A chunk that is needed is damaged in the repository.
    """
    batch = Batch(repository.location, fresh_id(len(repository.records)))
    parts = [
        (name, tuple(region.damaged))
        for name, indices in damage.chunks.items()
        for region in regions(repository.settings.variable(name), list(indices))
    ]
    kept: dict[str, dict[Index, tuple[str, Figures]]] = {name: {} for name in damage.chunks}
    notes: list[str] = []
    job = partial(_estimate_part, Pin.of(repository), damage, batch.id)
    for (name, _), (chunks, entries, passed) in zip(parts, mapper(job, parts), strict=True):
        kept[name] |= chunks
        batch.merge(entries)
        notes += passed
    variables = {name: _entry(repository, damage.step, name, c) for name, c in kept.items()}
    return Patched(damage, batch.id, variables, batch.entries, tuple(dict.fromkeys(notes)))


def _estimate_part(
    pin: Pin, damage: Damage, folder: str, part: tuple[str, tuple[Index, ...]]
) -> tuple[dict[Index, tuple[str, Figures]], dict[str, Entry], list[str]]:
    """Estimate and write the chunks of one region; runs on a worker."""
    repository = pin.recall()
    variable = repository.settings.variable(part[0])
    shadow = repository.shadow_named(damage.shadow)
    assert shadow is not None
    batch = Batch(repository.location, folder)
    with gather() as passed:
        region = Region(variable, list(part[1]))
        estimates = compose(repository, damage.step, shadow, damage.lead, [region])
    roots = {
        index: create_patch(
            batch, variable, index, (e.patch.values, e.patch.standard_error, e.patch.provenance)
        )
        for index, e in estimates.items()
    }
    chunks = {index: (roots[index], e.figures) for index, e in estimates.items()}
    notes = [f"estimated without what is damaged: {text}" for text in passed]
    return chunks, batch.entries, notes


def _entry(
    repository: Repository, step: int, name: str, chunks: Mapping[Index, tuple[str, Figures]]
) -> PatchedEntry:
    figures = {index: figure for index, (_, figure) in chunks.items()}
    expected, confidence = summed_up(repository, step, name, figures)
    patched = tuple(
        PatchedChunk(index, root, _known(figure.expected), _known(figure.chance))
        for index, (root, figure) in sorted(chunks.items())
    )
    return PatchedEntry(patched, expected, confidence)


def _known(figure: float) -> float | None:
    return float(figure) if isfinite(figure) else None


def commit_patches(repository: Repository, patched: Patched, committed_at: str) -> Repository:
    """Put the log record that makes estimates real.

    Raises
    ------
    Conflict
        What is trusted of the capture was changed meanwhile: find the damage again.
    """
    damage = patched.damage
    kept = frozenset([damage.step, *(damage.between or ())])
    work = Work("patch", damage.sequence, repository.era, patched.id, frozenset(), kept)
    repository.refuse_stale(work)
    batch = Batch(repository.location, patched.id, dict(patched.entries))
    body = PatchBody(
        damage.step,
        damage.shadow,
        damage.lead,
        patched.variables,
        damage.between,
        patched.notes,
    )
    return repository.commit(body, committed_at, batch, work)
