"""What an agent reads of a message."""

from __future__ import annotations

from hermesd.adapters.contract import Attachment, Inbound, Sticker
from hermesd.ipc.ids import SessionKey
from hermesd.ipc.messages import File, StickerFacts
from hermesd.supervisor.gateway import prompt

DM = SessionKey("agent:main:telegram:dm:c")
OWN = SessionKey("agent:main:telegram:group:c:u")
SHARED = SessionKey("agent:main:telegram:group:c:t")


def test_a_direct_message_is_its_text() -> None:
    assert prompt.text_of(Inbound("telegram", "c", "m", "u", "hi"), DM) == "hi"


def test_in_a_session_of_several_the_writer_is_named() -> None:
    said = Inbound("telegram", "c", "m", "u", "hi", user_name="Ann", chat_type="group")
    assert prompt.text_of(said, SHARED) == "[Ann] hi"
    assert prompt.text_of(said, OWN) == "hi"


def test_what_it_answers_comes_before_it_and_not_too_long() -> None:
    said = Inbound("telegram", "c", "m", "u", "yes", reply_to_text="shall\n\nI?")
    assert prompt.text_of(said, DM) == '[In reply to: "shall I?"]\nyes'
    said = Inbound("telegram", "c", "m", "u", "yes", reply_to_text="x" * 501)
    assert prompt.text_of(said, DM) == f'[In reply to: "{"x" * 500}…"]\nyes'


def test_files_that_could_not_be_fetched_are_not_files() -> None:
    sticker = Attachment(
        "/m/s", "s.webp", "image/webp", "sticker", sticker=Sticker("u1", "😀", "pack", description="a cat")
    )
    said = Inbound("telegram", "c", "m", "u", "", attachments=(sticker, Attachment("", "gone.pdf", remote="x")))
    facts = StickerFacts("u1", "😀", "pack", False, "a cat")
    assert prompt.files_of(said) == (File("/m/s", "s.webp", "image/webp", "sticker", facts),)
