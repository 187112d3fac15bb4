"""What is restored, in one line: what a killed restore has written is only for the same one."""

import json
from collections.abc import Mapping

import numpy as np
import xarray as xr
import xxhash

from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.values.attributes import attributes_to_json
from gnomon.storage.values.dtypes import native
from gnomon.tasks.restoring.targets.target import Layout

__all__ = ["mark_of"]


def mark_of(
    repository: Repository,
    planes: tuple[Plane, ...],
    summary: str,
    dataset: xr.Dataset,
    layout: Mapping[str, Layout],
) -> str:
    """Return a line of JSON that names the repository and the state, and has a hash of the rest.

    Parameters
    ----------
    summary
        The restore point in one sentence, for people.
    dataset
        What is restored, undecoded.
    layout
        The arrays whose blocks are verified one by one: their values are not part of the mark.

    Notes
    -----
    The hash is of all that a target is given before the blocks: attributes, types, shapes, how the
    arrays are cut, and the values of the others.  The commit is no part of it: a capture that
    arrives before the next try changes nothing of an older state, and blocks are compared anyway.
    """
    described = {
        str(name): [
            list(map(str, variable.dims)),
            list(variable.shape),
            str(variable.dtype),
            attributes_to_json(variable.attrs),
            repr(layout[str(name)]) if str(name) in layout else _content(variable),
        ]
        for name, variable in dataset.variables.items()
    }
    whole = json.dumps([attributes_to_json(dataset.attrs), described], sort_keys=True)
    state = [[p.instant, p.step, p.shadow, p.lead] for p in planes]
    return json.dumps(
        {
            "repository": repository.records[0].digest,
            "era": repository.era,
            "state": state,
            "summary": summary,
            "content": xxhash.xxh3_128_hexdigest(whole.encode()),
        }
    )


def _content(variable: xr.Variable) -> str:
    values = np.asarray(variable.values)
    plain = values.dtype.kind in "OTUS"
    data = repr(values.tolist()).encode() if plain else native(values).tobytes()
    return xxhash.xxh3_128_hexdigest(data)
