"""Variables that are added to a repository, as they have come up in the source since init."""

from collections.abc import Sequence
from dataclasses import replace

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.storage.log.bodies.source import VariablesBody
from gnomon.storage.repository import Repository
from gnomon.storage.source.describing import describe, unprotected
from gnomon.storage.source.opening import open_source

__all__ = ["add_variables"]


def add_variables(repository: Repository, names: Sequence[str], committed_at: str) -> Repository:
    """Commit that variables are captured from now on, beside those of init.

    Captures that were made before do not have them; those whose states the source still holds are
    captured again, as revisions that complete them.

    Raises
    ------
    NotFound
        The source has no such variable, or none that is not captured yet.
    InvalidInput
        It does not change with time, cannot be stored, or is captured already.
    Conflict
        Another writer was first; nothing was changed.
    """
    settings = repository.settings
    captured = {v.name for v in settings.variables}
    for name in names:
        if name in captured:
            raise InvalidInput(f"{name} is captured already; name a variable that is not")
    with open_source(settings.source, repository.memory) as dataset:
        fixed = repository.state.description().fixed.keys()
        left_out = unprotected(dataset, settings, fixed)
        for name in names:
            if name not in dataset.variables:
                there = ", ".join(left_out) or "none that is not captured"
                raise NotFound(f"the source has no variable {name!r}; it has {there}")
        contents = describe(
            dataset,
            settings.source,
            kind=settings.source.kind,
            names=(*captured, *names),
            chunks=settings.chunk_sizes,
            form=settings.time_form,
        )
    since = len(repository.captured)
    added = [replace(v, since=since) for v in contents.variables if v.name in set(names)]
    for name in set(names) - {v.name for v in added}:
        reason = contents.skipped.get(name, "it does not change with time")
        raise InvalidInput(f"{name} cannot be added: {reason}; leave it out")
    return repository.commit(VariablesBody(tuple(added)), committed_at)
