import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.log import gz


@given(data=st.binary(max_size=300), most=st.integers(0, 300))
def test_no_more_is_unpacked_than_is_wanted(data: bytes, most: int) -> None:
    packed = gz.pack(data)
    assert gzip.decompress(packed) == data
    if len(data) <= most:
        assert gz.unpack(packed, most) == data
    else:
        with pytest.raises(ValueError, match=f"more than {most} bytes"):
            gz.unpack(packed, most)


@given(
    data=st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), min_size=1),
    part=st.integers(1, 64),
)
def test_lines_are_those_that_were_packed(data: list[bytes], part: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gz, "PART", part)
        assert list(gz.lines(gz.pack(b"\n".join(data)), 64)) == data


def test_a_long_line_is_not_collected() -> None:
    bomb = gz.pack(bytes(2**26))
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        list(gz.lines(bomb, 1000))
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        gz.unpack(bomb, 1000)


@pytest.mark.parametrize("spoil", [lambda d: d[:-3], lambda d: d + b"x", lambda d: b"x" + d])
def test_what_was_changed_is_refused(spoil: object) -> None:
    data = spoil(gz.pack(b"a line\nand another"))  # type: ignore[operator]
    with pytest.raises(ValueError):  # noqa: PT011  # several reasons
        gz.unpack(data, 100)
    with pytest.raises(ValueError):  # noqa: PT011
        list(gz.lines(data, 100))
