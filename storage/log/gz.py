"""Gzip, unpacked no further than its reader can want."""

import gzip
import zlib
from collections.abc import Iterator

__all__ = ["lines", "pack", "unpack"]

WBITS = 31
"""zlib's window bits for the gzip format."""
LEVEL = 9
PART = 2**20
"""Bytes that are unpacked at a time."""


def pack(data: bytes, level: int | None = None) -> bytes:
    """Return bytes in gzip; the same for the same bytes, whenever they are packed."""
    return gzip.compress(data, LEVEL if level is None else level, mtime=0)


def unpack(data: bytes, most: int) -> bytes:
    """Return what was packed.

    Raises
    ------
    ValueError
        It is damaged, does not end where it should, or is larger than `most` bytes.
    """
    unpacker = zlib.decompressobj(wbits=WBITS)
    try:
        unpacked = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(unpacked) > most:
        raise ValueError(f"it unpacks to more than {most} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("its length differs")
    return unpacked


def lines(data: bytes, most: int) -> Iterator[bytes]:
    """Yield the lines of what was packed, without their ends, unpacking no more than is asked for.

    Raises
    ------
    ValueError
        It is damaged, does not end where it should, or a line is longer than `most` bytes.
    """
    unpacker = zlib.decompressobj(wbits=WBITS)
    line, left = b"", data
    while not unpacker.eof:
        try:
            part = unpacker.decompress(left, PART)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        left = unpacker.unconsumed_tail
        if not part and not left and not unpacker.eof:
            raise ValueError("its length differs")
        *whole, rest = part.split(b"\n")
        if whole:
            yield line + whole[0]
            yield from whole[1:]
            line = b""
        line += rest
        if len(line) > most:
            raise ValueError(f"a line is longer than {most} bytes")
    if unpacker.unused_data:
        raise ValueError("its length differs")
    yield line
