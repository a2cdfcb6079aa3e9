"""Somebody else's idea of the Bot API, PyPI's mockpost, takes what the adapter sends."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from harness.telegram.core import Core
from harness.telegram.emulator import PNG

from hermesd.adapters import registry
from hermesd.adapters.contract import AdapterSettings, Attachment, Outbound, Question, Target
from hermesd.adapters.telegram.adapter import TelegramAdapter

ROOT = Path(__file__).resolve().parents[3]
WANTED = Path(__file__).with_name("mockpost.txt")
PROGRAM = ROOT / "tests" / "harness" / "programs" / "mockpost_server.py"
TOKEN = "123456789:AAF-thirty_five_characters_of_token"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="session")
def python(lacking: Callable[[str], NoReturn]) -> Path:
    """The interpreter of an environment with mockpost; made once for each list of versions."""
    place = ROOT / "build" / f"mockpost-{hashlib.sha256(WANTED.read_bytes()).hexdigest()[:12]}"
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
        done = subprocess.run([*pip, "install", "--no-deps", "-r", str(WANTED)], capture_output=True, text=True)
        if done.returncode != 0:
            lacking(f"mockpost cannot be installed: {done.stderr[-300:]}")
        (place / "ready").touch()
    return python


@pytest.fixture
def mockpost(python: Path, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as listener, (tmp_path / "mockpost.log").open("wb") as log:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = subprocess.Popen(
            [str(python), str(PROGRAM), str(listener.fileno())],
            cwd=tmp_path, pass_fds=[listener.fileno()], stdout=log, stderr=log,
            env={**os.environ, "MOCKPOST_STRICT_AUTH": "1"},
        )  # fmt: skip
    try:
        # What is asked of it before it is up waits in the socket, which is now its alone.
        with urllib.request.urlopen(f"{address}/health", timeout=60) as response:
            assert response.status == 200
        yield address
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
async def adapter(mockpost: str) -> AsyncIterator[TelegramAdapter]:
    settings = AdapterSettings("telegram", token=TOKEN, extra={"base_url": f"{mockpost}/telegram"})
    adapter = registry.make("telegram", settings)
    assert isinstance(adapter, TelegramAdapter)
    await adapter.start(Core())
    yield adapter
    await adapter.stop()


def taken(mockpost: str) -> list[dict[str, Any]]:
    """What mockpost has captured, oldest first."""
    with urllib.request.urlopen(f"{mockpost}/api/messages?channel=telegram&limit=100") as response:
        messages: list[dict[str, Any]] = json.load(response)
    payloads = []
    for message in reversed(messages):
        payload = message.get("raw_payload")
        payloads.append(json.loads(payload) if isinstance(payload, str) else payload or {})
    return payloads


async def test_it_takes_what_the_adapter_sends(mockpost: str, adapter: TelegramAdapter, tmp_path: Path) -> None:
    target = Target("telegram", "7000000001", reply_to="12")
    sent = await adapter.send(target, Outbound("a", "**bold** 😀 text"))
    await adapter.edit(target, sent.message_id, Outbound("a", "other"))
    await adapter.send(target, Outbound("q", "Run it?", question=Question("ask-1", ("yes", "no"))))
    for name, kind in (("a.png", "image"), ("a.pdf", "document")):
        (tmp_path / name).write_bytes(PNG)
        await adapter.send(target, Outbound(name, "look", (Attachment(str(tmp_path / name), name, kind=kind),)))
    await adapter.typing(target)
    await adapter.delete(target, sent.message_id)
    text, edited, asked, photo, document = taken(mockpost)
    assert text["chat_id"] == "7000000001"
    assert text["text"] == "bold 😀 text"
    assert json.loads(text["entities"]) == [{"type": "bold", "offset": 0, "length": 4}]
    assert json.loads(text["reply_parameters"]) == {"message_id": 12, "allow_sending_without_reply": True}
    assert json.loads(text["link_preview_options"]) == {"is_disabled": True}
    assert (edited["text"], edited["message_id"]) == ("other", sent.message_id)
    keyboard = asked["reply_markup"]["inline_keyboard"]
    assert [[button["text"] for button in row] for row in keyboard] == [["yes", "no"]]
    assert (photo["photo"], photo["caption"]) == ("a.png", "look")
    assert (document["document"], document["caption"]) == ("a.pdf", "look")
