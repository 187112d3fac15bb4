"""Kept patches, read: estimates of suspect chunks that an update has made and stored."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from gnomon.storage.errors import Integrity
from gnomon.storage.log.steps import Patches
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import EstimatedChunk
from gnomon.storage.stacks.patches import read_patch
from gnomon.storage.values.grid import Index
from gnomon.tasks.restoring.heal import Figures, Healed, summed_up

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

    A variable is left out, and has to be healed, where one of the chunks is not kept or starts from
    another forecast, or cannot be read; the notes tell the latter.

    Parameters
    ----------
    shadow, lead
        The forecast that the estimates are to start from.
    chunks
        Suspect chunks by variable; others that are kept are not read.
    """
    patches = repository.state.patches.get(step)
    if patches is None or (patches.shadow, patches.lead) != (shadow, lead):
        return {}, ()
    estimates: dict[str, Healed] = {}
    notes = [*patches.notes]
    for name, indices in chunks.items():
        entry = patches.variables.get(name)
        if entry is None or not {chunk.chunk for chunk in entry.chunks}.issuperset(indices):
            continue
        try:
            estimates[name] = _read(repository, patches, name, set(indices))
        except Integrity as error:
            logger.warning("%s", error)
            notes.append(f"what was kept of {name} is damaged and was estimated anew: {error}")
    return estimates, tuple(notes)


def _read(repository: Repository, patches: Patches, name: str, indices: set[Index]) -> Healed:
    variable, entry = repository.settings.variable(name), patches.variables[name]
    chunks = [chunk for chunk in entry.chunks if chunk.chunk in indices]
    estimated = {
        c.chunk: EstimatedChunk(
            *read_patch(repository.location, patches.id, variable, c.chunk, c.root)
        )
        for c in chunks
    }
    if len(chunks) == len(entry.chunks):
        return Healed(estimated, entry.expected_error, entry.confidence)
    figures = {
        c.chunk: Figures(
            np.nan if c.expected_rmse is None else c.expected_rmse,
            np.nan if c.confidence is None else c.confidence,
            int(np.isfinite(estimated[c.chunk].standard_error).sum()),
        )
        for c in chunks
    }
    return Healed(estimated, *summed_up(repository, patches.step, name, figures))
