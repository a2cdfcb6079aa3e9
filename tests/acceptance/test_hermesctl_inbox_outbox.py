"""``hermesctl inbox`` and ``outbox``, dead letters included, on a running hermesd: real rows, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness.census import kill
from harness.running import wait_until
from harness.scene import Scene

from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN

SET_ASIDE = "This message was set aside: 2 processes have died while they were answering it."


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Scene(ours={"workers": {"on_crash": "retry"}}) as made:
        yield made.start()


def rows(scene: Scene, box: str = "inbox", *args: str) -> list[dict[str, Any]]:
    document = scene.daemon.json(box, "ls", *args)
    assert document["schema"] == 1
    found: list[dict[str, Any]] = document["messages"]
    return found


def row_of(scene: Scene, chat: str, number: int = 0) -> dict[str, Any]:
    """The ``number``-th newest message of a chat."""
    # By its chat: in its first moment on disk it has no session yet.
    found = [row for row in scene.daemon.ask("inbox.list", limit=1000)["messages"] if row["chat"] == chat]
    row: dict[str, Any] = found[number]
    return row


def in_outbox(scene: Scene, state: str) -> list[dict[str, Any]]:
    """Without a process of its own: for a question that is put again and again."""
    found: list[dict[str, Any]] = scene.daemon.ask("outbox.list", state=state)["messages"]
    return found


def kill_worker(scene: Scene, chat: str, attempt: int) -> None:
    """kill -9 of the worker that is at this attempt of a chat's message."""
    wait_until(
        lambda: (row_of(scene, chat)["state"], row_of(scene, chat)["attempts"]) == ("accepted", attempt),
        what=f"attempt {attempt} in {chat} has begun",
    )
    kill(scene.worker(chat)["pid"])


def test_the_list_names_state_session_and_what_was_said(scene: Scene) -> None:
    scene.fake.talk("how are you?", chat="list")
    scene.fake.talk("!fail on purpose", chat="list")
    failed, answered = rows(scene, "inbox", "--session", scene.session("list"))
    assert (answered["state"], answered["text"], answered["error"]) == ("answered", "how are you?", "")
    assert (failed["state"], failed["attempts"], failed["killed"]) == ("failed", 1, 0)
    assert "on purpose" in failed["error"]
    assert (failed["platform"], failed["chat"], failed["user"]) == ("fake", "list", "user")
    text = scene.daemon.ctl("inbox", "ls", "--session", scene.session("list"))
    assert (text.returncode, text.stderr) == (0, "")
    head, first, second = text.stdout.splitlines()
    assert head.split() == ["ID", "STATE", "RECEIVED", "TRIES", "KILLED", "SESSION", "USER", "TEXT", "ERROR"]
    assert first.split()[:2] == [str(failed["id"]), "failed"]
    assert "how are you?" in second
    assert rows(scene, "inbox", "--session", scene.session("list"), "--state", "failed") == [failed]
    assert len(rows(scene, "inbox", "--limit", "1")) == 1


def test_one_message_is_shown_whole(scene: Scene) -> None:
    long = "\n".join(f"line {number}" for number in range(100))
    scene.fake.talk(long, chat="long")
    row = row_of(scene, "long")
    assert len(row["text"]) == 200
    whole = scene.daemon.json("inbox", "show", str(row["id"]))
    assert (whole["schema"], whole["message"]["text"]) == (1, long)
    text = scene.daemon.ctl("inbox", "show", str(row["id"])).stdout
    assert text.endswith(f"\n\n{long}\n")
    assert f"Session       {scene.session('long')}\n" in text
    # Its chat sees it a moment before that is on disk.
    key = scene.session("long")
    wait_until(lambda: [one for one in in_outbox(scene, "sent") if one["session"] == key], what="it is sent")
    sent = rows(scene, "outbox", "--session", key)[0]
    assert (sent["state"], sent["kind"], sent["reply_to"]) == ("sent", "answer", row["message_id"])
    assert long in scene.daemon.json("outbox", "show", str(sent["id"]))["message"]["text"]
    assert "line 99" in scene.daemon.ctl("outbox", "show", str(sent["id"])).stdout


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["inbox", "show", "999999"], 1, "there is no inbox message 999999"),
        (["outbox", "drop", "999999"], 1, "999999: there is no such message"),
        (["inbox", "ls", "--state", "lazy"], 2, "there is no state 'lazy'; there are: received, queued, "),
        (["outbox", "ls", "--limit", "0"], 2, "0 is not in the range"),
        (["inbox", "drop", "1", "2"], 2, "Nobody can be asked without a terminal; give --yes"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_status(
    scene: Scene, args: list[str], status: int, said: str
) -> None:
    done = scene.daemon.ctl(*args)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


def test_a_dead_letter_is_seen_told_once_tried_again_and_dropped(scene: Scene) -> None:
    dead_before = scene.daemon.json("status")["queues"]["dead"]
    message = scene.fake.say("!crash", chat="dead")
    assert scene.fake.final(message, chat="dead")["text"].startswith(SET_ASIDE)
    row = row_of(scene, "dead")
    assert row in rows(scene, "inbox", "--state", "dead")
    assert (row["state"], row["attempts"], row["killed"], row["error"]) == ("dead", 2, 2, "exit status 3")
    assert scene.daemon.json("status")["queues"]["dead"] == dead_before + 1
    assert f"dead letters {dead_before + 1}" in scene.daemon.ctl("status").stdout
    assert scene.fake.talk("and you?", chat="dead").startswith("You said: and you?"), "the chat goes on"
    assert len(scene.fake.shown(chat="dead", reply_to=message)) == 1

    done = scene.daemon.ctl("inbox", "retry", str(row["id"]))
    assert (done.returncode, done.stdout) == (0, f"{row['id']}: queued again for {scene.session('dead')}\n")
    wait_until(lambda: len(scene.fake.shown(chat="dead", reply_to=message)) == 2, what="it is set aside again")
    again = scene.daemon.json("inbox", "show", str(row["id"]))["message"]
    assert (again["state"], again["attempts"], again["killed"]) == ("dead", 2, 2)
    assert again["turn"] != row["turn"]

    dropped = scene.daemon.json("inbox", "drop", str(row["id"]))
    assert dropped["messages"] == [{"id": row["id"], "outcome": "done", "detail": "set aside; its chat is not told"}]
    assert scene.daemon.json("status")["queues"]["dead"] == dead_before
    assert scene.daemon.json("inbox", "show", str(row["id"]))["message"]["state"] == "dropped"
    scene.fake.talk("anything new?", chat="dead")  # a chat keeps its order: a word about the drop would come before
    assert len(scene.fake.shown(chat="dead", reply_to=message)) == 2
    assert len(scene.fake.shown(chat="dead")) == 4


def test_a_message_whose_workers_were_killed_from_outside_is_answered_when_it_is_tried_again(scene: Scene) -> None:
    def answers() -> list[str]:
        return [one["text"] for one in scene.fake.shown(chat="innocent", reply_to=message) if one["final"]]

    message = scene.fake.say("!ask go on?", chat="innocent")
    for attempt in (1, 2):
        kill_worker(scene, "innocent", attempt)
    assert scene.fake.final(message, chat="innocent")["text"].startswith(SET_ASIDE)
    row = row_of(scene, "innocent")
    assert row["state"] == "dead"
    assert scene.daemon.ctl("inbox", "retry", str(row["id"])).returncode == 0
    refused = scene.daemon.ctl("inbox", "retry", str(row["id"]))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "and will be answered by itself" in refused.stderr
    wait_until(lambda: "Answered" in scene.fake.talk("/approve", chat="innocent"), what="it is asked again")
    wait_until(lambda: len(answers()) == 2, what="it is answered")
    assert answers()[1] == "You chose approve."
    assert (row_of(scene, "innocent")["state"], row_of(scene, "innocent")["killed"]) == ("answered", 0)
    refused = scene.daemon.ctl("inbox", "retry", str(row["id"]))
    assert "not done: it was answered; /retry in its chat" in refused.stderr


def test_waiting_messages_are_dropped_a_running_one_is_not(scene: Scene) -> None:
    fake, daemon = scene.fake, scene.daemon
    running, first, second = (fake.say(text, chat="line") for text in ("!sleep 600", "one", "two"))
    wait_until(lambda: row_of(scene, "line", 2)["state"] == "accepted", what="the first one runs")
    _, one, busy = (row["id"] for row in rows(scene, "inbox", "--session", scene.session("line")))
    done = daemon.ctl("inbox", "drop", "--yes", str(busy), str(one))
    assert done.returncode == 8
    assert done.stdout == f"{one}: set aside; its chat is not told\n"
    assert f"it is being answered; stop that first: hermesctl stop {scene.session('line')}" in done.stderr
    assert [row["state"] for row in rows(scene, "inbox", "--session", scene.session("line"))] == [
        "queued",
        "dropped",
        "accepted",
    ]
    assert daemon.ctl("stop", scene.session("line")).returncode == 0
    assert fake.final(running, chat="line")["text"].endswith("(interrupted)")
    assert fake.final(second, chat="line")["text"].startswith("You said: two")
    assert fake.shown(chat="line", reply_to=first) == []
    assert daemon.ctl("inbox", "retry", str(one)).returncode == 0
    assert fake.final(first, chat="line")["text"].startswith("You said: one")


def test_what_a_platform_refused_is_sent_again_or_given_up(scene: Scene) -> None:
    fake, daemon = scene.fake, scene.daemon
    fake.ask("cut", count=2, error="rejected")
    messages = [fake.say(text, chat="out") for text in ("one", "two")]
    wait_until(lambda: len(in_outbox(scene, "failed")) == 2, what="both were refused")
    second, first = rows(scene, "outbox", "--state", "failed")
    assert (first["reply_to"], second["reply_to"]) == (messages[0], messages[1])
    assert "told to fail" in first["error"]
    done = daemon.ctl("outbox", "retry", str(first["id"]))
    assert (done.returncode, done.stdout) == (0, f"{first['id']}: on its way again\n")
    assert fake.final(messages[0], chat="out")["text"].startswith("You said: one")
    assert daemon.json("outbox", "drop", str(second["id"]))["messages"][0]["outcome"] == "done"
    assert daemon.json("outbox", "show", str(second["id"]))["message"]["state"] == "dropped"
    for verb, box_id, why in (
        ("retry", first["id"], "it was sent already"),
        ("drop", first["id"], "it was sent already"),
        ("retry", second["id"], "it was dropped already"),
    ):
        done = daemon.ctl("outbox", verb, str(box_id))
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{box_id}: not done: {why}\n")
    assert fake.shown(chat="out", reply_to=messages[1]) == []


def test_what_may_have_arrived_goes_again_with_a_mark(scene: Scene) -> None:
    fake, daemon = scene.fake, scene.daemon
    fake.ask("cut", error="retry", after=3600.0)
    message = fake.say("one", chat="late")
    wait_until(lambda: [row["attempts"] for row in in_outbox(scene, "pending")] == [1], what="it waits for a try")
    (row,) = rows(scene, "outbox", "--state", "pending")
    assert row["next_try_at"] is not None
    assert row["session"] == scene.session("late")
    refused = daemon.ctl("outbox", "retry", str(row["id"]))
    assert "it is pending and will be sent by itself" in refused.stderr
    behind = fake.say("two", chat="late")
    assert daemon.ctl("outbox", "drop", str(row["id"])).returncode == 0
    assert fake.final(behind, chat="late")["text"].startswith("You said: two")
    assert fake.shown(chat="late", reply_to=message) == []
    fake.ask("cut", error="uncertain", delivered=True)
    message = fake.say("three", chat="late")
    wait_until(lambda: len(fake.shown(chat="late", reply_to=message)) == 2, what="it came again")
    first, second = (shown["text"] for shown in fake.shown(chat="late", reply_to=message))
    assert second == f"{PERHAPS_AGAIN}\n\n{first}"


def test_without_a_running_hermesd_they_say_so_and_do_nothing(scene: Scene) -> None:
    with Scene() as stopped:
        for args in (["inbox", "ls"], ["outbox", "retry", "1"]):
            done = stopped.daemon.ctl(*args)
            assert (done.returncode, done.stdout) == (7, "")
            assert "hermesd is stopped" in done.stderr
