"""The socket for targets: what takes a restored dataset, block by block.

What is the same for all targets is done by :func:`gnomon.tasks.restoring.restore.restore`: choosing
the blocks, spreading them over workers, comparing what is read back, saying what went wrong.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from gnomon.storage.repository import Repository

__all__ = ["Layout", "Resumable", "Target", "Where"]

Where = tuple[Any, ...]
"""A place in an array: an integer, a slice of step 1 or an ellipsis for each dimension."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array is cut that is written in blocks."""

    blocks: tuple[int, ...]
    """Cells of a block along each dimension; those at the far ends may be smaller."""
    chunks: tuple[int, ...]
    """Cells of what should be readable alone; a block is a whole number of chunks."""


@runtime_checkable
class Target(Protocol):
    """Takes one restored dataset.

    A target is a small value that can be pickled: each worker gets a copy, writes blocks of its own
    through it and reads them back.  ``str`` of it is what messages call it, and tells no secret.

    Failures are raised: an `OSError` or `RuntimeError` is reported as a failure to write to the
    target, a `GnomonError` unchanged.
    """

    def check(self, repository: Repository) -> None:
        """Refuse what cannot be written, before any work; write nothing.

        Parameters
        ----------
        repository
            What is restored from: its place, and the types of its variables.

        Raises
        ------
        GnomonError
            The place is taken, or cannot be written, or the format cannot hold a variable exactly.
        """

    def making(self) -> AbstractContextManager["Target"]:
        """Give the target that is written to; remove what it has written after a failure.

        Until `finish`, nobody who looks for the dataset may take what is there for it.
        """

    def create(self, dataset: xr.Dataset, layout: Mapping[str, Layout]) -> None:
        """Make the dataset: metadata, and the values of all that is not written in blocks.

        Parameters
        ----------
        dataset
            Undecoded; `attrs` holds what a fill value is, if there is one.  What is in `layout` is
            lazy, a Dask chunk for each block.
        layout
            Of the arrays that `write` fills.  A format that only one process can write may write
            them here instead, and do nothing in `write`.
        """

    def write(self, name: str, where: Where, values: NDArray[Any]) -> object:
        """Write a block of an array.

        Parameters
        ----------
        values
            With the dimensions of `where`, without those of its integers.

        Returns
        -------
        object
            What `finish` must know of it, such as the tag of a part; can be pickled.
        """

    def read(self, name: str, where: Where, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a part of an array as it was written, bit for bit, NaN and fill values included.

        Parameters
        ----------
        dtype
            Of what was written; a format that keeps values in another form gives them back so.
        """

    def finish(self, written: Sequence[object]) -> None:
        """Make it durable, and give the dataset its name.

        Parameters
        ----------
        written
            What each `write` returned, in no order that means anything; of blocks that an earlier
            try had written, nothing.

        Raises
        ------
        Conflict
            Something has appeared there meanwhile.
        """


@runtime_checkable
class Resumable(Target, Protocol):
    """A target that goes on with what a restore that was killed has written."""

    @property
    def resumed(self) -> bool:
        """Whether such a restore was through with `create`.

        Then `create` is not called.  Blocks that can be read as they should be are not written;
        the others are, and may be there in part.
        """

    def marked(self, mark: str) -> Self:
        """Return the target for a restore, before `making`.

        Parameters
        ----------
        mark
            Says in one line of JSON what is restored, and tells no secret.  Only what was written
            under the same mark may be gone on with: of anything else it may be a part.
        """

    def created(self) -> None:
        """Note that `create` is through, so that a later try can go on from here."""
