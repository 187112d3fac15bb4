"""Statistics of a repository: what takes how many bytes, and what was saved."""

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from gnomon.storage.arrays.encoding import CODING, UNCHANGED
from gnomon.storage.arrays.residuals import compressed_size, ordered, subtracted
from gnomon.storage.care.inventory import take_inventory, unreferenced
from gnomon.storage.errors import GnomonError
from gnomon.storage.log.records import COPIES
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.captures import CaptureStack

__all__ = ["Stats", "VariableStats", "stats"]

SAMPLE = 64
"""Delta chunks that are coded as keys too, to say what deltas save."""


@dataclass(frozen=True, slots=True)
class VariableStats:
    """The captures of one variable, those that are kept."""

    name: str
    """The variable."""
    raw_nbytes: int
    """Bytes of its captured states, uncompressed."""
    nbytes: int
    """Stored bytes of its residuals."""
    values: int
    """Values of its captured states."""
    chunks: int
    """Chunks of its captured states."""
    unchanged: int
    """Chunks of which nothing had to be stored."""
    deltas: int
    """Chunks stored as a change against an earlier one."""
    keys: int
    """Chunks stored whole."""
    delta_share: float | None
    """Bytes of deltas over bytes of the same chunks as keys, from a sample; None without any."""

    @property
    def bits_per_value(self) -> float:
        """Stored bits per captured value that had to be stored or was unchanged."""
        return 8.0 * self.nbytes / self.values if self.values else 0.0


@dataclass(frozen=True, slots=True)
class Stats:
    """What takes how many bytes."""

    parts: dict[str, int]
    """Stored bytes of captures, index, shadows, patches, state, ledger, log, frame, replaced, and
    of what is unreferenced."""
    objects: int
    """Stored objects."""
    captures: int
    """Captures that are kept."""
    forgotten: int
    """Captures that were forgotten."""
    shadows: int
    """Shadows."""
    variables: tuple[VariableStats, ...]
    """By captured variable of the present era."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"nbytes": sum(self.parts.values())}


_PARTS = {
    "captures": "captures",
    "shadows": "shadows",
    "patches": "patches",
    "forecaster": "state",
    "ledger": "ledger",
    "frame": "frame",
    "replaced": "replaced",
    "manifests": "log",
    "log": "log",
    "checkpoints": "log",
    "gnomon.json": "log",
}


def stats(repository: Repository) -> Stats:
    """Return what a repository holds and how much room it takes; reads no data but a sample."""
    there = repository.location.sizes("")
    loose = set(unreferenced(repository, there))
    names = "captures", "index", "shadows", "patches", "state", "ledger", "log", "frame", "replaced"
    parts = dict.fromkeys((*names, "unreferenced"), 0)
    for name, size in there.items():
        group = name.removeprefix(COPIES).split("/", maxsplit=1)[0]
        part = _PARTS.get(group, "log")
        if group == "captures" and "/residual/" not in name:
            part = "index"
        parts["unreferenced" if name in loose else part] += size
    objects = take_inventory(repository).objects
    return Stats(
        parts=parts,
        objects=len(there),
        captures=len(repository.state.kept),
        forgotten=len(repository.captured) - len(repository.state.kept),
        shadows=len(repository.shadows),
        variables=tuple(
            _variable(repository, v.name, {n: e[0] for n, e in objects.items()})
            for v in repository.settings.variables
        ),
    )


def _variable(repository: Repository, name: str, sizes: dict[str, int]) -> VariableStats:
    stack = repository.captures(name)
    variable = stack.variable
    places = {(s.slab, str(s.local)) for s in repository.state.kept}
    stored = 0
    for path, size in sizes.items():
        parts = path.split("/")
        mine = len(parts) > 5 and parts[2:5] == [variable.folder, "residual", "c"]
        if mine and (parts[1], parts[5]) in places:
            stored += size
    codings = [stack.rows(s.step)[..., CODING] for s in repository.state.kept]
    unchanged = sum(int((c == UNCHANGED).sum()) for c in codings)
    deltas = sum(int((c > 0).sum()) for c in codings)
    chunks = sum(c.size for c in codings)
    cells = prod(variable.shape) * len(codings)
    return VariableStats(
        name=name,
        raw_nbytes=cells * variable.numpy_dtype.itemsize,
        nbytes=stored,
        values=cells,
        chunks=chunks,
        unchanged=unchanged,
        deltas=deltas,
        keys=chunks - unchanged - deltas,
        delta_share=_delta_share(repository, stack) if deltas else None,
    )


def _delta_share(repository: Repository, stack: CaptureStack) -> float | None:
    """Return how large deltas are beside the same chunks as keys, from a sample."""
    as_delta = as_key = taken = 0
    captures = repository.state.kept
    for captured in captures[:: max(1, len(captures) // SAMPLE)]:
        rows = stack.rows(captured.step)
        there = np.argwhere(rows[..., CODING] > 0)
        if not len(there) or taken >= SAMPLE:
            continue
        index = tuple(map(int, there[len(there) // 2]))
        try:
            key = ordered(stack.chunk(captured.step, index))
            base = ordered(stack.chunk(int(rows[index][0]), index))
        except GnomonError:
            continue
        as_delta += compressed_size(subtracted(key, base))
        as_key += compressed_size(key)
        taken += 1
    return as_delta / as_key if as_key else None
