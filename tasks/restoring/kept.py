"""Kept patches, read: estimates of suspect chunks that an update has made and stored."""

import logging
from collections.abc import Mapping, Sequence

from gnomon.storage.errors import Integrity
from gnomon.storage.log.bodies.patch import PatchedEntry
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import EstimatedChunk
from gnomon.storage.stacks.patches import read_patch
from gnomon.storage.values.grid import Index
from gnomon.tasks.restoring.heal import Healed

__all__ = ["kept_estimates"]

logger = logging.getLogger(__name__)


def kept_estimates(
    repository: Repository,
    step: int,
    shadow: str | None,
    lead: int,
    chunks: Mapping[str, Sequence[Index]],
) -> tuple[dict[str, Healed], tuple[str, ...]]:
    """Return what is kept of the estimates of a capture's suspect chunks, and notes.

    A variable is left out, and has to be healed, where what is kept is of other chunks or starts
    from another forecast, or cannot be read; the notes tell the latter.

    Parameters
    ----------
    shadow, lead
        The forecast that the estimates are to start from.
    chunks
        The suspect chunks by variable.
    """
    patches = repository.state.patches.get(step)
    if patches is None or (patches.shadow, patches.lead) != (shadow, lead):
        return {}, ()
    estimates: dict[str, Healed] = {}
    notes = [*patches.notes]
    for name, indices in chunks.items():
        entry = patches.variables.get(name)
        if entry is None or {chunk.chunk for chunk in entry.chunks} != set(indices):
            continue
        try:
            estimates[name] = _read(repository, patches.id, name, entry)
        except Integrity as error:
            logger.warning("%s", error)
            notes.append(f"what was kept of {name} is damaged and was estimated anew: {error}")
    return estimates, tuple(notes)


def _read(repository: Repository, folder: str, name: str, entry: PatchedEntry) -> Healed:
    variable = repository.settings.variable(name)
    patches = {
        c.chunk: EstimatedChunk(*read_patch(repository.location, folder, variable, c.chunk, c.root))
        for c in entry.chunks
    }
    return Healed(patches, entry.expected_error, entry.confidence)
