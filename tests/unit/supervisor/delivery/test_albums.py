"""Files that a platform shows together: one call, a row for each, and no more and no less than what the agent said."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hermesd.adapters.contract import Albums, Attachment, Capabilities, Outbound, Question, Sent, Target
from hermesd.adapters.errors import Gone, Rejected, Retry, Unauthorized, Uncertain
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN, Deliverer
from hermesd.supervisor.delivery.parts import parts_of
from hermesd.supervisor.journal import Journal, outbox
from hermesd.supervisor.journal.rows import OutboxRow
from hermesd.supervisor.journal.states import OutboxState
from hermesd.supervisor.tasks import Tasks

ANN = Target("fake", "ann")
ALBUMS = Albums(lambda file: "" if file.kind in ("voice", "sticker") else file.kind, most=3, most_bytes=10_000)
FACTS = Capabilities(max_caption=1000, max_file_bytes=20_000, albums=ALBUMS, bare=frozenset({"sticker"}))

Call = tuple[str, list[str]]


class Platform:
    """Takes each file as a message of its own; ``answers`` is what the next calls come to, None: they are taken."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.kinds: list[str] = []
        self.answers: list[Exception | None] = []
        self.facts = FACTS
        self.one_message = False
        self.count = 0

    def capabilities(self, target: Target) -> Capabilities:
        return self.facts

    async def send(self, target: Target, message: Outbound) -> Sent:
        self.calls.append((message.text, [file.name for file in message.files]))
        if self.answers and (answer := self.answers.pop(0)) is not None:
            raise answer
        self.kinds += [file.kind for file in message.files]
        ids = [f"p{self.count + number}" for number in range(1, max(1, len(message.files)) + 1)]
        self.count += len(ids)
        return Sent(ids[0], () if self.one_message else tuple(ids[1:]))


class Scene:
    def __init__(self, place: Path):
        self.place = place
        self.platform = Platform()
        self.begin()

    def begin(self) -> None:
        self.tasks = Tasks(lambda name, error: None)
        self.journal = Journal(self.place / "state.db")
        self.deliverer = Deliverer(self.journal, {"fake": self.platform}, self.tasks)  # type: ignore[dict-item]

    async def end(self) -> None:
        await self.tasks.close()
        await self.journal.close()

    async def again(self) -> None:
        """hermesd dies, and another one begins."""
        await self.end()
        self.begin()
        await self.journal.open()
        await self.deliverer.recover()
        await self.deliverer.take_up()
        await self.idle()

    def file(self, name: str, data: bytes = b"content") -> str:
        path = self.place / name
        path.write_bytes(data)
        return str(path)

    async def say(self, text: str, *names: str, key: str = "k") -> None:
        directives = [f"MEDIA:{self.file(name)}" for name in names]
        await self.deliverer.say(ANN, Outbound(key, "\n".join([text, *directives])))

    async def idle(self) -> None:
        assert await self.deliverer.wait_idle(30.0)

    async def waits(self, count: int) -> list[OutboxRow]:
        """Once one call has been made, and so many rows wait."""
        async with asyncio.timeout(30.0):
            while True:
                waiting = await self.journal.read(outbox.by_state, OutboxState.PENDING, -1)
                if self.platform.calls and len(waiting) == count:
                    return waiting

    async def denied(self) -> None:
        """Once what waits has been told to wait until the platform is up again."""
        async with asyncio.timeout(30.0):
            while not any(lane.denied for lane in self.deliverer._lanes.values()):
                await asyncio.sleep(0)

    async def rows(self) -> list[tuple[Any, ...]]:
        query = "SELECT state, platform_message_id, album FROM outbox ORDER BY id"
        return await self.journal.read(lambda connection: [tuple(row) for row in connection.execute(query)])


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    await made.journal.open()
    yield made
    await made.end()


def albums(*files: tuple[str, str, int], question: Question | None = None) -> list[str]:
    attachments = tuple(Attachment(f"/{name}", name, kind=kind, size=size) for name, kind, size in files)
    parts = parts_of(Outbound("k", "", attachments, question=question), FACTS).parts
    return [part.message.album for part in parts]


def test_neighbours_of_one_sort_are_an_album_as_far_as_it_may_go() -> None:
    text = [(name, "document", 1) for name in "abcdefg"]
    assert albums(*text[:1]) == [""]
    assert albums(*text[:2]) == ["k", "k"]
    assert albums(*text) == ["k"] * 3 + ["k:4"] * 3 + [""]
    assert albums(text[0], ("s", "sticker", 1), text[1], text[2]) == ["", "", "k:3", "k:3"]
    assert albums(("a", "voice", 1), ("b", "voice", 1)) == ["", ""]
    assert albums(("a", "image", 1), ("b", "image", 1), *text[:2]) == ["k", "k", "k:3", "k:3"]
    assert albums(("a", "image", 6000), ("b", "image", 6000), ("c", "image", 4000)) == ["", "k:2", "k:2"]
    assert albums(*text[:3], question=Question("a1", ("yes",))) == ["", "k:2", "k:2"]


async def test_an_album_is_one_call_and_each_file_has_its_receipt(scene: Scene) -> None:
    await scene.say("Here.", "a.txt", "b.txt", "c.txt", "d.txt")
    await scene.say("", "e.txt", key="k2")
    await scene.idle()
    assert scene.platform.calls == [("Here.", ["a.txt", "b.txt", "c.txt"]), ("", ["d.txt"]), ("", ["e.txt"])]
    assert await scene.rows() == [
        ("sent", "p1", "k"), ("sent", "p5", ""), ("sent", "p2", "k"), ("sent", "p3", "k"), ("sent", "p4", ""),
    ]  # fmt: skip


async def test_where_an_album_is_one_message_each_file_has_its_id(scene: Scene) -> None:
    scene.platform.one_message = True
    await scene.say("", "a.txt", "b.txt")
    await scene.idle()
    assert [row[:2] for row in await scene.rows()] == [("sent", "p1")] * 2


async def test_an_album_that_has_to_wait_keeps_its_place_and_its_files(scene: Scene) -> None:
    scene.platform.answers = [Retry("flood", after=0.01), Retry("flood", after=0.01)]
    await scene.say("Here.", "a.txt", "b.txt")
    await scene.say("behind it", key="k2")
    await scene.idle()
    assert scene.platform.calls == [("Here.", ["a.txt", "b.txt"])] * 3 + [("behind it", [])]


async def test_an_album_that_was_cut_goes_again_whole_and_with_a_mark(scene: Scene) -> None:
    scene.platform.answers = [Uncertain("cut", after=0.01)]
    await scene.say("", "a.txt", "b.txt")
    await scene.idle()
    assert scene.platform.calls == [("", ["a.txt", "b.txt"]), (PERHAPS_AGAIN, ["a.txt", "b.txt"])]
    assert [row[0] for row in await scene.rows()] == ["sent", "sent"]


async def test_one_that_was_being_sent_when_hermesd_died_goes_again_whole_and_with_a_mark(scene: Scene) -> None:
    files = [Attachment(scene.file(name), name) for name in ("a.txt", "b.txt")]
    row = await scene.journal.write(outbox.add, ANN, Outbound("k", "", tuple(files)), 1.0)
    parts = [(part.message, "") for part in parts_of(row.message, FACTS).parts]
    rows = await scene.journal.write(outbox.cut, row.id, parts, 1.0)
    assert await scene.journal.write(outbox.sending_together, [one.id for one in rows], 1.0) == [one.id for one in rows]
    await scene.again()
    assert scene.platform.calls == [(PERHAPS_AGAIN, ["a.txt", "b.txt"])]
    assert [row[0] for row in await scene.rows()] == ["sent", "sent"]


async def test_a_refused_album_goes_file_by_file_and_only_the_bad_one_is_missing(scene: Scene) -> None:
    scene.platform.answers = [Rejected("#2 is no picture"), None, Rejected("no picture")]
    await scene.say("Here.", "a.txt", "b.txt", "c.txt")
    await scene.say("behind it", key="k2")
    await scene.idle()
    assert scene.platform.calls == [
        ("Here.", ["a.txt", "b.txt", "c.txt"]),
        ("Here.", ["a.txt"]), ("", ["b.txt"]), ("", ["c.txt"]), ("behind it", []),
    ]  # fmt: skip
    states = await scene.rows()
    assert [(state, album) for state, _, album in states] == [("sent", ""), ("sent", ""), ("failed", ""), ("sent", "")]


async def test_a_cut_album_that_is_then_refused_keeps_its_mark_on_every_file(scene: Scene) -> None:
    scene.platform.answers = [Uncertain("cut", after=0.01), Rejected("no")]
    await scene.say("", "a.txt", "b.txt")
    await scene.idle()
    assert scene.platform.calls[2:] == [(PERHAPS_AGAIN, ["a.txt"]), (PERHAPS_AGAIN, ["b.txt"])]


@pytest.mark.parametrize(("answer", "state"), [(Gone("no chat"), "failed"), (ValueError("oops"), "ambiguous")])
async def test_what_ends_the_call_ends_all_of_the_album(scene: Scene, answer: Exception, state: str) -> None:
    scene.platform.answers = [answer]
    await scene.say("", "a.txt", "b.txt")
    await scene.say("behind it", key="k2")
    await scene.idle()
    assert [text for text, _ in scene.platform.calls] == ["", "behind it"]
    assert sorted(row[0] for row in await scene.rows()) == sorted([state, state, "sent"])


@pytest.mark.parametrize("dropped", [[0], [1], [0, 1]])
async def test_what_was_given_up_is_left_out(scene: Scene, dropped: list[int]) -> None:
    scene.platform.answers = [Unauthorized("revoked")]  # it waits until the platform is up again
    await scene.say("", "a.txt", "b.txt")
    await scene.say("behind it", key="k2")
    album = [row for row in await scene.waits(3) if row.message.files]
    for number in dropped:
        await scene.deliverer.drop(album[number].id, "no longer wanted")
    await scene.denied()
    await scene.deliverer.platform_up("fake")
    await scene.idle()
    left = [name for number, name in enumerate(("a.txt", "b.txt")) if number not in dropped]
    assert scene.platform.calls[1:] == [*([("", left)] if left else []), ("behind it", [])]


async def test_a_platform_that_takes_no_albums_any_more_gets_them_file_by_file(scene: Scene) -> None:
    scene.platform.answers = [Unauthorized("revoked")]  # it waits until the platform is up again
    await scene.say("", "a.txt", "b.txt")
    await scene.waits(2)
    scene.platform.facts = Capabilities(max_caption=1000, max_file_bytes=20_000)
    await scene.denied()
    await scene.deliverer.platform_up("fake")
    await scene.idle()
    assert scene.platform.calls[1:] == [("", ["a.txt"]), ("", ["b.txt"])]


WEBP = b"RIFF\x00\x01\x00\x00WEBPVP8 \x00\x01\x00\x00\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 512, 512)
LARGE = WEBP[:-4] + struct.pack("<HH", 513, 512)


class TestStickers:
    async def test_a_picture_is_one_when_its_agent_says_so_and_a_tgs_always(self, scene: Scene) -> None:
        small, large = scene.file("s.webp", WEBP), scene.file("l.webp", LARGE)
        wave, page = scene.file("w.tgs", b"\x1f\x8b\x08..."), scene.file("p.tgs", b"<html>")
        await scene.deliverer.say(ANN, Outbound("k1", f"[[as_sticker]]\nMEDIA:{small}\nMEDIA:{large}"))
        await scene.deliverer.say(ANN, Outbound("k2", f"MEDIA:{small}\nMEDIA:{wave}\nMEDIA:{page}"))
        await scene.idle()
        assert scene.platform.kinds == ["sticker", "image", "image", "sticker", "document"]

    async def test_what_an_agent_sends_by_name_is_meant_by_its_text_too(self, scene: Scene) -> None:
        files = (Attachment(scene.file("s.webp", WEBP), "s.webp"), Attachment(scene.file("a.mp3"), "a.mp3"))
        for key, text in (("k1", "[[as_sticker]]"), ("k2", "[[audio_as_voice]]")):
            await scene.deliverer.say(ANN, Outbound(key, text, files, kind="extra"))
        await scene.idle()
        assert scene.platform.kinds == ["sticker", "audio", "image", "voice"]
        assert {text for text, _ in scene.platform.calls} == {""}

    async def test_its_text_is_a_message_of_its_own(self, scene: Scene) -> None:
        path = scene.file("s.webp", WEBP)
        await scene.deliverer.say(ANN, Outbound("k", f"Hello. [[as_sticker]]\nMEDIA:{path}"))
        await scene.idle()
        assert scene.platform.calls == [("Hello.", []), ("", ["s.webp"])]
