"""Rewrite: store kept captures anew, so that they need nothing of forgotten ones.

The values are read and verified, coded against captures that stay, written to a new slab, read
back and verified again; then one record says where the captures are from now on.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.arrays.encoding import (
    BASE,
    COLUMNS,
    DIGEST,
    MAX_CHAIN,
    STATUS,
    Held,
    encode_unit,
)
from gnomon.storage.arrays.shards import forget_packed
from gnomon.storage.log.bodies.capture import RewriteBody
from gnomon.storage.log.staging import Batch, fresh_id
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.stacks.writing import (
    BlockWriter,
    create_captures,
    create_captures_index,
    units_of,
)
from gnomon.storage.values.grid import Block, Index
from gnomon.storage.values.model import Variable

__all__ = ["MAX_ROWS", "dependent", "rewrite"]

MAX_ROWS = 2**19
"""Index rows of one commit, steps times chunks, at most, unless one step has more."""

Progress = Callable[[str, int, int], None]


def dependent(repository: Repository) -> list[int]:
    """Return the numbers of kept captures with a chunk that is read against a forgotten one."""
    captured = repository.captured
    forgotten = np.array([s.step for s in captured if s.forgotten], np.int64)
    if not forgotten.size:
        return []
    stacks = [repository.captures(v.name) for v in repository.settings.variables]
    steps = [s.step for s in captured if not s.forgotten]
    return [
        step
        for step in steps
        if any(np.isin(stack.rows(step)[..., 0], forgotten).any() for stack in stacks)
    ]


def rewrite(
    repository: Repository, steps: Sequence[int], committed_at: str, progress: Progress
) -> Repository:
    """Store captures anew, against kept ones only, and return the repository afterwards.

    Raises
    ------
    Integrity
        A chunk that is needed is damaged; nothing was changed by the commit that met it.
    """
    chunks = sum(v.grid.size for v in repository.settings.variables)
    most = max(1, min(512, MAX_ROWS // max(1, chunks)))
    for start in range(0, len(steps), most):
        progress("store anew", start, len(steps))
        part = list(steps[start : start + most])
        batch = Batch(repository.location, fresh_id(len(repository.records)))
        roots = {
            variable.name: _rewrite_variable(repository, variable, batch, part)
            for variable in repository.settings.variables
        }
        body = RewriteBody(tuple(part), roots)
        _read_back(repository.foreseen(body, batch), part)
        repository = repository.commit(body, committed_at, batch)
    return repository


def _rewrite_variable(
    repository: Repository, variable: Variable, batch: Batch, steps: list[int]
) -> str:
    grid = variable.grid
    instants = [repository.captured[step].instant for step in steps]
    create_captures(batch, variable, instants, repository.settings.calendar)
    rows = np.zeros((len(steps), *grid.counts, len(COLUMNS)), np.int64)
    bases = _bases(repository, steps)
    stack = repository.captures(variable.name)
    limits = _limits(stack, steps)
    for block in grid.blocks():
        writer = BlockWriter(batch, variable)
        rows[:, *block.chunks] = _rewrite_block(stack, writer, block, steps, bases, limits)
    return create_captures_index(batch, variable, rows)


def _bases(repository: Repository, steps: list[int]) -> dict[int, int | None]:
    """Return the kept capture that each is coded against: the last before it, also in number."""
    captures = repository.state.kept
    places = {s.step: place for place, s in enumerate(captures)}
    bases: dict[int, int | None] = {}
    for step in steps:
        before = (s.step for s in reversed(captures[: places[step]]) if s.step < step)
        bases[step] = next(before, None)
    return bases


def _limits(stack: CaptureStack, steps: list[int]) -> dict[tuple[int, Index], int]:
    """Return how long the chain of a chunk may become, where it may not be `MAX_CHAIN`.

    Captures that stay as they are may be coded against the chunk: what is added to its chain is
    added to theirs, so it must not be longer than it was.
    """
    places = np.full(len(stack.steps), -1)
    places[steps] = np.arange(len(steps))
    followed = np.zeros((len(steps), *stack.variable.grid.counts), bool)
    for step in stack.steps:
        if not step.forgotten and places[step.step] < 0:
            there = places[stack.rows(step.step)[..., BASE]]
            for chunk in map(tuple, np.argwhere(there >= 0).tolist()):
                followed[(int(there[chunk]), *chunk)] = True
    limits: dict[tuple[int, Index], int] = {}
    for place, *rest in np.argwhere(followed).tolist():
        index = tuple(rest)
        limits[steps[place], index] = len(stack.chain(steps[place], index)) - 1
    return limits


def _rewrite_block(
    stack: CaptureStack,
    writer: BlockWriter,
    block: Block,
    steps: list[int],
    bases: dict[int, int | None],
    limits: dict[tuple[int, Index], int],
) -> NDArray[np.int64]:
    variable = stack.variable
    rows = np.zeros((len(steps), *block.grid, len(COLUMNS)), np.int64)
    held_chunks: dict[tuple[int, Index], Held] = {}
    rewritten = set(steps)
    for k, step in enumerate(steps):
        if step < variable.since:
            continue  # it was not captured yet: there is nothing to store
        base = bases[step]
        if base is not None and base < variable.since:
            base = None
        for unit in units_of(variable, block):
            chunks = []
            for index, _, _ in unit:
                previous = None
                if base is not None:
                    previous = held_chunks.get((base, index)) or _held(
                        stack, base, index, rewritten
                    )
                if previous is not None:
                    same = np.array_equal(previous.digest, stack.rows(step)[index][DIGEST])
                    limit = limits.get((step, index), MAX_CHAIN)
                    previous = previous if previous.chain() + (not same) <= limit else None
                chunks.append((index, stack.chunk(step, index), previous))
            encoded_unit = encode_unit(variable.name, step, chunks)
            for (index, local, _), encoded in zip(unit, encoded_unit, strict=True):
                held_chunks[step, index] = encoded.held
                rows[(k, *local)] = encoded.row
                rows[(k, *local, STATUS)] = stack.rows(step)[index][STATUS]
            writer.put(k, [(index, m) for (index, _, _), m in zip(unit, encoded_unit, strict=True)])
        # Only the capture just before, and those that later ones are coded against, stay needed.
        later = {bases[s] for s in steps[k + 1 :]}
        held_chunks = {key: held for key, held in held_chunks.items() if key[0] in later}
        writer.finish(k)
    return rows


def _held(stack: CaptureStack, base: int, index: Index, rewritten: set[int]) -> Held | None:
    """Return a base that is not rewritten itself; None if what holds it is."""
    held = stack.held(base, index)
    forgotten = stack.steps[held.holder].forgotten
    return None if forgotten or base in rewritten else held


def _read_back(repository: Repository, steps: list[int]) -> None:
    """Read what was written as it is stored; raises :class:`Integrity` if it is something else."""
    forget_packed(repository.location)
    for variable in repository.settings.variables:
        stack = repository.captures(variable.name)
        for index in variable.grid.indices():
            for step in steps:
                if step >= variable.since:
                    stack.chunk(step, index)
