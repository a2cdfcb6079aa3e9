"""What people of a chat platform see of an installed hermesd: answers as they grow, parts, files, questions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness.running import wait_until
from harness.scene import Scene

CURSOR = "\u2589"

AGENT = '''
import asyncio
import pathlib

class Slow:
    """Writes word by word, and looks things up in between."""

    def __init__(self, session):
        self.session = session

    async def turn(self, turn, out):
        text, home = "", pathlib.Path(self.session.settings["home"])
        if turn.text == "file":
            path = self.session.workdir / "plot.png"
            path.write_bytes(b"\\x89PNG\\r\\n\\x1a\\n1234")
            return f"Here it is.\\nMEDIA:{path}\\nMEDIA:{home / 'config.yaml'}\\nMEDIA:{home / '.env'}"
        if turn.text == "ask":
            return "You said " + await out.ask("Shall I?", ["approve", "deny"], 60.0)
        if turn.text == "look":
            await out.delta("<think>The user wants to know.</think>Let me look it up for you.")
            await out.tool("search", {"q": "x"}, "started")
        for number in range(int(self.session.settings["words"])):
            word = f"word{number} "
            text += word
            await out.delta(word)
            await asyncio.sleep(0.02)
            while turn.text == "grow" and number in (19, 39) and not (home / f"seen{number}").exists():
                await asyncio.sleep(0.02)
        if turn.text == "long":
            return text * 20
        return text

def make(session):
    return Slow(session)
'''


@pytest.fixture
def scene() -> Iterator[Scene]:
    fake = {"can": ["edit", "delete", "buttons"], "max_length": 1000, "max_file_bytes": 1000}
    with Scene(ours={"containment": "subreaper", "adopt_timeout": "20s"}, fake=fake) as made:
        agents = made.place / "agents"
        agents.mkdir()
        (agents / "slow.py").write_text(AGENT, "utf-8")
        made.configure_ours(
            agent="slow:make", agent_path=[str(agents)], agent_settings={"home": str(made.daemon.home), "words": 60}
        )
        streaming(made, edit_interval=0.1)
        yield made
        made.fake.close()
        made.daemon.__exit__()
        made.daemon.wait_nothing_left(2.0)
        assert not made.daemon.sockets()


def streaming(scene: Scene, **settings: Any) -> None:
    path = scene.daemon.home / "config.yaml"
    config = json.loads(path.read_text("utf-8"))
    config["streaming"] = settings
    path.write_text(json.dumps(config), "utf-8")


def calls(scene: Scene, chat: str) -> list[dict[str, Any]]:
    return [call for call in scene.fake.ask("calls")["calls"] if call["chat"] == chat]


def texts(scene: Scene, chat: str) -> list[str]:
    return [message["text"] for message in scene.fake.shown(chat=chat)]


def whole(words: int = 60) -> str:
    return " ".join(f"word{number}" for number in range(words))


def wait_begun(scene: Scene) -> None:
    """Until an answer is being shown, and hermesd has written down in which message: a death is told by that."""

    def written() -> int:
        path = scene.daemon.home / "hermesd" / "state.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
            return int(journal.execute("SELECT count(*) FROM progress WHERE message_id LIKE 'out-%'").fetchone()[0])

    wait_until(lambda: any("word9 " in text for text in texts(scene, "a")), 60.0)
    wait_until(written, 60.0)


def test_an_answer_grows_in_one_message(scene: Scene) -> None:
    scene.start()
    message = scene.fake.say("grow", chat="a")
    for number in (19, 39):
        wait_until(lambda number=number: texts(scene, "a") == [f"{whole(number + 1)} {CURSOR}"], 60.0)
        (scene.daemon.home / f"seen{number}").touch()
    shown = scene.fake.final(message, chat="a")
    assert shown["text"] == whole()
    assert len(scene.fake.shown(chat="a")) == 1
    made = calls(scene, "a")
    assert [call["word"] for call in made] == ["send", *["edit"] * (len(made) - 1)]
    assert all(whole().startswith(call["text"].removesuffix(CURSOR).rstrip()) for call in made)

    def rows() -> list[tuple[str, str]]:
        rows = scene.daemon.json("outbox", "ls", "--session", scene.session("a"))["messages"]
        return [(row["state"], row["platform_message_id"]) for row in rows]

    # It is shown before hermesd has heard of it and has written it down.
    wait_until(lambda: rows() == [("sent", shown["message_id"])], 60.0)


def test_what_comes_after_a_tool_stands_below_it(scene: Scene) -> None:
    scene.start()
    message = scene.fake.say("look", chat="a")
    scene.fake.final(message, chat="a")
    assert texts(scene, "a") == ["Let me look it up for you.", whole()]


def test_a_long_answer_ends_in_numbered_parts(scene: Scene) -> None:
    scene.start()
    message = scene.fake.say("long", chat="a")
    scene.fake.final(message, chat="a")
    shown = texts(scene, "a")
    assert [text.split("(")[-1] for text in shown] == [f"{n}/{len(shown)})" for n in range(1, len(shown) + 1)]
    assert all(len(text) <= 1000 for text in shown)
    assert " ".join(text.rsplit(" (", 1)[0] for text in shown).split() == (whole() + " ").split() * 20


def test_a_hermesd_that_is_killed_goes_on_in_the_same_message(scene: Scene) -> None:
    scene.configure_ours(agent_settings={"home": str(scene.daemon.home), "words": 300})
    scene.start()
    message = scene.fake.say("hello", chat="a")
    wait_begun(scene)
    scene.fake.close()
    scene.daemon.kill()
    scene.start()
    shown = scene.fake.final(message, chat="a")
    assert "word299" in shown["text"]
    ids = [one["message_id"] for one in scene.fake.shown(chat="a")]
    assert ids == [f"out-{number}" for number in range(1, len(ids) + 1)], "no message was sent anew"
    assert not any(CURSOR in text for text in texts(scene, "a"))


def test_one_whose_workers_die_with_it_ends_the_message(scene: Scene) -> None:
    scene.configure_ours(agent_settings={"home": str(scene.daemon.home), "words": 3000}, adopt_timeout="1s")
    scene.start()
    message = scene.fake.say("hello", chat="a")
    wait_begun(scene)
    scene.fake.close()
    scene.daemon.kill()
    scene.daemon.wait_nothing_left(20.0)
    scene.start()
    shown = scene.fake.final(message, chat="a")
    assert "hermesd was restarted while this was being answered" in shown["text"]
    assert [one["message_id"] for one in scene.fake.shown(chat="a")] == [shown["message_id"]] == ["out-1"]


def test_streaming_is_switched_off_and_on_without_a_restart(scene: Scene) -> None:
    streaming(scene, enabled=False)
    scene.start()
    scene.fake.final(scene.fake.say("hello", chat="a"), chat="a")
    assert [call["word"] for call in calls(scene, "a")] == ["send"]
    streaming(scene, enabled=True, edit_interval=0.1)
    reloaded = scene.daemon.ctl("reload")
    assert "streaming.enabled" in reloaded.stdout, reloaded
    scene.fake.final(scene.fake.say("hello", chat="b"), chat="b")
    assert "edit" in [call["word"] for call in calls(scene, "b")]


def test_files_go_out_and_secrets_do_not(scene: Scene) -> None:
    (scene.daemon.home / ".env").write_text("TOKEN=1", "utf-8")
    scene.start()
    scene.fake.final(scene.fake.say("file", chat="a"), chat="a")
    text, file = scene.fake.shown(chat="a")
    assert text["text"] == (
        "Here it is.\n[file config.yaml: not sent, it belongs to hermesd itself]\n"
        "[file env: not sent, it may hold secrets]"
    )
    assert [Path(path).name for path in file["files"]] == ["plot.png"]


def test_a_question_has_buttons_until_it_is_answered(scene: Scene) -> None:
    scene.start()
    message = scene.fake.say("ask", chat="a")
    wait_until(lambda: scene.fake.shown(chat="a"), 60.0)
    (question,) = scene.fake.shown(chat="a")
    assert (question["text"], question["choices"]) == ("Shall I?", ["approve", "deny"])
    pressed = scene.fake.ask("press", chat="a", message_id=question["message_id"], choice="approve", user="stranger")
    assert not pressed["taken"]
    assert scene.fake.shown(chat="a")[0]["choices"]
    scene.fake.say("/approve", chat="a")
    assert scene.fake.final(message, chat="a")["text"] == "You said approve"
    wait_until(lambda: scene.fake.shown(chat="a")[0]["choices"] is None)
    assert scene.fake.shown(chat="a")[0]["text"].startswith("Shall I?\n\napprove")


def test_what_an_operator_sends_is_cut_too(scene: Scene) -> None:
    scene.start()
    scene.fake.final(scene.fake.say("hello", chat="a"), chat="a")
    sent = scene.daemon.json("send", "--platform", "fake", "--chat", "a", "--wait", "word " * 500)
    assert sent["state"] == "sent"
    assert [text[-5:] for text in texts(scene, "a")[-3:]] == ["(1/3)", "(2/3)", "(3/3)"]
