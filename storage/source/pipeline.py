"""How Zarr reads the chunks of a source: small ones without a task of the event loop for each."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from threading import RLock
from typing import Any, Self

import zarr
from zarr.abc.codec import Codec, GetResult
from zarr.codecs import ShardingCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import NDBuffer
from zarr.core.codec_pipeline import BatchedCodecPipeline, FusedCodecPipeline
from zarr.registry import register_pipeline

__all__ = ["reading_quickly"]


SMALL = 2**14
"""Cells up to which a chunk is read and unpacked in less time than a task on a thread takes."""


class QuickPipeline(FusedCodecPipeline):
    """Zarr's quick pipeline, without a task on a thread for each small chunk."""

    def read_sync(
        self,
        batch_info: Iterable[tuple[Any, ArraySpec, Any, Any, bool]],
        out: NDBuffer,
        drop_axes: tuple[int, ...] = (),
        max_workers: int = 1,
    ) -> tuple[GetResult, ...]:
        """Read chunks into their places; small ones one after the other."""
        batch = list(batch_info)
        if all(prod(spec.shape) <= SMALL for _, spec, *_ in batch):
            max_workers = 1
        return super().read_sync(batch, out, drop_axes, max_workers)


class SourcePipeline(FusedCodecPipeline):
    """Zarr's quick pipeline for chunks that are objects, and its usual one for shards.

    The quick one takes less than half of the time for chunks of a few hundred bytes.  Of shards it
    returned wrong numbers (zarr-python 4202, 4203) until shortly before it was released.
    """

    @classmethod
    def from_codecs(cls, codecs: Iterable[Codec], *, batch_size: int | None = None) -> Self:
        """Return a pipeline of another class: which one, the codecs say."""
        chain = tuple(codecs)
        is_sharded = any(isinstance(codec, ShardingCodec) for codec in chain)
        kind = BatchedCodecPipeline if is_sharded else QuickPipeline
        return kind.from_codecs(chain, batch_size=batch_size)  # type: ignore[return-value]


register_pipeline(SourcePipeline)
_OPENING = RLock()


@contextmanager
def reading_quickly() -> Iterator[None]:
    """Let the arrays that are opened meanwhile be read by this pipeline.

    So are those that other threads open in this moment, which reads the same numbers.
    """
    path = f"{SourcePipeline.__module__}.{SourcePipeline.__qualname__}"
    # One after the other: what the second found set would be what it leaves behind.
    with _OPENING, zarr.config.set({"codec_pipeline.path": path}):
        yield
