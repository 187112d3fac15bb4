"""Byte ranges of an object, as Zarr asks for them."""

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest

__all__ = ["part_of"]


def part_of(data: bytes, byte_range: ByteRequest | None) -> bytes:
    """Return the bytes that a range asks for; None asks for all."""
    match byte_range:
        case None:
            return data
        case RangeByteRequest(start=start, end=end):
            return data[start:end]
        case OffsetByteRequest(offset=offset):
            return data[offset:]
        case SuffixByteRequest(suffix=suffix):
            return data[-suffix:]
