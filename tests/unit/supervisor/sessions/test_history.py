from hermesd.ipc.codec import Codec
from hermesd.ipc.messages import Assign, Entry
from hermesd.supervisor.sessions.history import MAX_BYTES, newest


def test_a_short_conversation_is_given_whole() -> None:
    entries = [Entry("user", "one", 1.0), Entry("assistant", "two", 2.0)]
    assert newest(entries) == tuple(entries)
    assert newest([]) == ()


def test_of_a_long_one_the_newest_entries_that_fit() -> None:
    entries = [Entry("user", f"{number:04}", float(number)) for number in range(100)]
    assert newest(entries, 40) == tuple(entries[-10:])


def test_bytes_are_counted_not_characters() -> None:
    assert newest([Entry("user", "ü" * 10), Entry("assistant", "ü" * 10)], 30) == (Entry("assistant", "ü" * 10),)


def test_one_that_is_too_long_by_itself_keeps_its_end() -> None:
    (only,) = newest([Entry("user", "a" * 100 + "end")], 40)
    assert only.text.endswith("end")
    assert len(only.text) == 10


def test_what_is_left_always_fits_into_a_frame() -> None:
    history = newest([Entry("user", "😀" * 100_000, 1.0) for _ in range(100)])
    assert 0 < sum(len(entry.text.encode()) for entry in history) <= MAX_BYTES
    Codec(Assign).encode(Assign("k", "i", "p", "c", "u", "n", history))
