"""An agent that speaks for others: it uses its worker's own link, its wire name, and connections of its own."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

from hermesd.ipc.codec import Codec
from hermesd.ipc.messages import DOWN, UP, Accept, Ask, Delta, Finished, Hello, Message, Send
from hermesd.ipc.sockets import CurveClient, Dealer, new_keys
from hermesd.workers.link_thread import LinkThread
from hermesd.workers.spec import WorkerSpec

CODEC = Codec(*UP, *DOWN)

PATIENCE = 30.0
"""Seconds for a connection that is made to take a frame."""


class Evil:
    """One command a turn:

    as-own KIND TURN   say a message about another's turn through this worker's own link
    guess NAME         connect under NAME and guesses of the rest of it, and say what they might
    knock              connect over TCP with a key that nobody has listed, and with its own under another's name
    """

    def __init__(self, session: Any):
        self._link = next(one for one in gc.get_objects() if isinstance(one, LinkThread))
        self._spec = next(one for one in gc.get_objects() if isinstance(one, WorkerSpec))

    async def turn(self, turn: Any, out: Any) -> str:
        word, *rest = turn.text.split()
        match word:
            case "as-own":
                self._link.post(_claim(*rest))
                await asyncio.sleep(60)  # until this worker is ended for it
            case "guess":
                return await asyncio.to_thread(self._guess, rest[0])
            case "knock":
                return await asyncio.to_thread(_knock, self._spec)
            case "wait":
                await asyncio.sleep(float(rest[0]))
        return f"heard {turn.text}, turn {turn.id}"

    def _guess(self, name: str) -> str:
        sent = 0
        for identity in (name, f"{name}.{'0' * 32}", "w1"):
            dealer = Dealer(self._spec.endpoint, identity.encode())
            for frame in (
                CODEC.encode(Hello(name, "0" * 32, 1, 1, "")), CODEC.encode(Finished("t1", "done", "forged"), 1),
            ):  # fmt: skip
                until = time.monotonic() + PATIENCE
                while not dealer.send(frame) and time.monotonic() < until:
                    time.sleep(0.001)
                sent += 1
            dealer.poll(0.2)
            assert not dealer.recv_all()
            dealer.close()
        return f"sent {sent} frames and heard nothing"


def _claim(kind: str, turn: str) -> Message:
    made: dict[str, Message] = {
        "accept": Accept(turn), "delta": Delta(turn, "forged"), "finished": Finished(turn, "done", "forged"),
        "send": Send("forged", turn, "", "forged"), "ask": Ask("forged", turn, "forged?", ("yes",), 5.0),
    }  # fmt: skip
    return made[kind]


def _knock(spec: WorkerSpec) -> str:
    assert spec.curve is not None
    server = spec.curve.server.encode()
    own = CurveClient(spec.curve.public.encode(), spec.curve.secret.encode(), server)
    heard = 0
    for security, seconds in ((CurveClient(*new_keys(), server), 1.0), (own, PATIENCE)):
        dealer = Dealer(spec.endpoint, b"w1.stranger", security=security)
        until = time.monotonic() + seconds
        while not dealer.send(CODEC.encode(Finished("t1", "done", "forged"), 1)) and time.monotonic() < until:
            time.sleep(0.01)
        dealer.poll(0.2)
        heard += len(dealer.recv_all())
        dealer.close()
    return f"heard {heard} frames"


def make(session: Any) -> Evil:
    return Evil(session)
