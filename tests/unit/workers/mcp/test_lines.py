"""Lines come out whole however the pipe cut them, and a line without an end takes no memory."""

from hypothesis import given
from hypothesis import strategies as st

from hermesd.workers.mcp.lines import Lines


def test_lines_are_put_together_over_chunks():
    lines = Lines(100)
    assert lines.feed(b"a") == []
    assert lines.feed(b"b\nc\nd") == [b"ab", b"c"]
    assert lines.feed(b"\n\n") == [b"d", b""]


def test_a_line_that_is_too_long_is_dropped_and_the_next_one_is_not():
    lines = Lines(4)
    assert lines.feed(b"12345") == []
    assert lines.feed(b"6789" * 100) == []
    assert lines.feed(b"0\nok\n1234\n") == [b"ok", b"1234"]
    assert lines.dropped == 1


@given(st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")), max_size=10), st.data())
def test_any_cut_gives_the_same_lines(wanted, data):
    stream = b"".join(line + b"\n" for line in wanted)
    lines, got = Lines(1000), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += lines.feed(stream[:size])
        stream = stream[size:]
    assert got == wanted
