"""Files that are cut off: is all there that a classic NetCDF header, or a GRIB message, speaks of?

A classic NetCDF file that is cut off opens, and its library reads zeros where nothing is; of a GRIB
file messages are passed over, and missing in a step.  Both say how long they should be.
"""

import os
from math import prod
from pathlib import Path
from typing import BinaryIO

__all__ = ["missing_bytes"]

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
"""Bytes of a value by the number of its type."""
_VERSIONS = (1, 2, 5)
_MOST = 2**20
"""Dimensions, variables, attributes or letters of one list: a header of more is damaged."""


def missing_bytes(path: Path) -> int:
    """Return how many bytes a classic NetCDF or a GRIB file lacks at its end; 0 for other kinds.

    Raises
    ------
    ValueError
        The header of a NetCDF file is cut off, or no header.
    """
    with open(path, "rb") as file:
        magic = file.read(4)
        if magic == b"GRIB":
            end = _end_of_grib(file)
        elif len(magic) == 4 and magic[:3] == b"CDF" and magic[3] in _VERSIONS:
            end = _Header(file, magic[3]).end()
        else:
            return 0
        return max(0, end - os.fstat(file.fileno()).st_size)


def _end_of_grib(file: BinaryIO) -> int:
    """Return where the last message of a GRIB file ends, as far as they follow each other."""
    end = 0
    while True:
        file.seek(end)
        start = file.read(16)
        if start[:4] != b"GRIB":
            return end
        if len(start) < 16:
            return end + 16  # the least that a message has
        length = int.from_bytes(start[8:16] if start[7] == 2 else start[4:7], "big")
        if length < 16 or (start[7] == 1 and length >= 2**23):  # of these it is told otherwise
            return end
        end += length


class _Header:
    """A header as it is read, number by number."""

    def __init__(self, file: BinaryIO, version: int) -> None:
        self._file = file
        self._count = 8 if version == 5 else 4
        self._offset = 4 if version == 1 else 8

    def end(self) -> int:
        """Return where the data of the last variable ends."""
        records = self._number(self._count)
        if records == 2 ** (8 * self._count) - 1:  # written as a stream: as many as there are
            records = 0
        sizes = [self._dimension() for _ in range(self._list())]
        self._attributes()
        fixed, recorded = [0], []
        for _ in range(self._list()):
            begin, nbytes, is_record = self._variable(sizes)
            if is_record:
                recorded.append((begin, nbytes))
            else:
                fixed.append(begin + nbytes)
        if not records or not recorded:
            return max(fixed)
        # The records of a variable that is the only one of them are not padded.
        padded = [nbytes if len(recorded) == 1 else -(-nbytes // 4) * 4 for _, nbytes in recorded]
        ends = [begin + (records - 1) * sum(padded) + nbytes for begin, nbytes in recorded]
        return max(*fixed, *ends)

    def _number(self, width: int) -> int:
        data = self._file.read(width)
        if len(data) < width:
            raise ValueError("its header is cut off")
        return int.from_bytes(data, "big")

    def _length(self) -> int:
        length = self._number(self._count)
        if length > _MOST:
            raise ValueError("its header is damaged")
        return length

    def _list(self) -> int:
        self._number(4)  # what the list is of
        return self._length()

    def _skip(self, nbytes: int) -> None:
        self._file.seek(-(-nbytes // 4) * 4, os.SEEK_CUR)

    def _dimension(self) -> int:
        self._skip(self._length())
        return self._number(self._count)

    def _attributes(self) -> None:
        for _ in range(self._list()):
            self._skip(self._length())
            size = self._size_of_type()
            self._skip(size * self._number(self._count))

    def _size_of_type(self) -> int:
        kind = self._number(4)
        if kind not in _SIZES:
            raise ValueError("its header is damaged")
        return _SIZES[kind]

    def _variable(self, sizes: list[int]) -> tuple[int, int, bool]:
        """Return where a variable begins, its bytes (of one record), and whether it has records."""
        self._skip(self._length())
        dims = [self._number(self._count) for _ in range(self._length())]
        if any(dim >= len(sizes) for dim in dims):
            raise ValueError("its header is damaged")
        self._attributes()
        size = self._size_of_type()
        self._number(self._count)  # of large variables it is wrong by design
        begin = self._number(self._offset)
        shape = [sizes[dim] for dim in dims]
        is_record = bool(shape) and shape[0] == 0  # the size of the record dimension stands as 0
        return begin, size * prod(shape[1:] if is_record else shape), is_record
