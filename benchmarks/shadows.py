"""What a predicted state takes beside a captured one: python -m benchmarks.shadows REPOSITORY.

Of the newest shadow of each variable: the bytes of one lead over those of a capture, the median
over commits of what one of their states takes, as they are stored, tables included.  And in bits
for each predicted value, what other ways to code it would take, with the same codec: each lead by
itself, as before; all leads together; what each lead adds to the one before; and against the shadow
before this one, where that had predicted the same time (all leads but the last).  `stored` chooses
among the second and third, by a sample of large chunks.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if not __package__:  # run as a file: the others are beside it
    sys.path[0] = str(Path(__file__).parents[1])

from gnomon.storage.arrays.residuals import compressed_size
from gnomon.storage.log.steps import Shadow
from gnomon.storage.repository import Repository
from gnomon.storage.stacks.quantising import along_leads
from gnomon.storage.stacks.shadows import ShadowStack
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import Variable

LARGEST = 2**30


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def predicted(stack: ShadowStack, index: Index) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the predictions (lead, *chunk) of a chunk, and the quanta (lead,)."""
    leads = range(1, len(stack.shadow.instants) + 1)
    every: tuple[Any, ...] = (slice(None), *index, 0)
    return np.stack([stack.chunk(lead, index)[0] for lead in leads]), stack.scores()[every]


def integers(change: NDArray[Any], quanta: NDArray[Any]) -> NDArray[np.int32]:
    """Return changes as multiples of the quanta of their leads; 0 where there is none."""
    steps = np.rint(change / quanta.reshape(-1, *(1,) * (change.ndim - 1)))
    return np.where(np.isfinite(steps), np.clip(steps, -LARGEST, LARGEST), 0).astype(np.int32)


def codings(
    repository: Repository, variable: Variable, shadow: Shadow, before: Shadow | None
) -> dict[str, float]:
    """Return the bits that changes take for each predicted value, by coding."""
    stack = repository.shadow(variable.name, shadow)
    earlier = None if before is None else repository.shadow(variable.name, before)
    numbers, total = defaultdict[str, int](int), 0
    for index in variable.grid.indices():
        values, quanta = predicted(stack, index)
        base = int(stack.slab.index()[(0, *index, 0)])
        held = stack.captures.physical(base, index) if base >= 0 else np.zeros(values.shape[1:])
        change = integers(values - np.nan_to_num(held), quanta)
        total += int(np.isfinite(values).sum())
        numbers["each lead by itself"] += sum(compressed_size(lead) for lead in change)
        numbers["together"] += compressed_size(change)
        numbers["from lead to lead"] += compressed_size(along_leads(change, quanta))
        if earlier is None:
            continue
        there = {t: lead for lead, t in enumerate(earlier.shadow.instants, start=1)}
        against = [
            integers((values[k] - earlier.chunk(there[t], index)[0])[None], quanta[k : k + 1])[0]
            if t in there
            else change[k]
            for k, t in enumerate(shadow.instants)
        ]
        numbers["against the shadow before"] += compressed_size(np.stack(against))
    folder = Path(repository.location.url) / "shadows" / shadow.id / variable.folder
    for part in ("change", "error", "index", "score"):
        numbers[f"stored {part}"] = stored_bytes(folder / part)
    return {f"bits, {name}": 8 * size / max(1, total) for name, size in numbers.items()}


def measure(repository: Repository) -> dict[str, dict[str, float]]:
    """Return figures by variable."""
    folder = Path(repository.location.url)
    *_, before, shadow = [None, *repository.shadows]
    if shadow is None:
        raise SystemExit(f"{folder} has no shadow; run 'gnomon update'")
    figures = {}
    for name in shadow.variables:
        variable = repository.settings.variable(name)
        slabs = {step.slab for step in repository.captured}
        sizes = [
            stored_bytes(folder / "captures" / slab / variable.folder)
            / sum(step.slab == slab for step in repository.captured)
            for slab in slabs
        ]
        lead = stored_bytes(folder / "shadows" / shadow.id / variable.folder) / len(shadow.instants)
        figures[name] = {
            "lead / capture": lead / float(np.median(sizes)),
            "bytes of a lead": lead,
            **codings(repository, variable, shadow, before),
        }
    return figures


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(Repository.open(options.repository))
    if options.json:
        print(json.dumps(figures))
        return
    for name, row in figures.items():
        print(name)
        for key, value in row.items():
            print(f"  {key:34}{value:10.3f}")


if __name__ == "__main__":
    main()
