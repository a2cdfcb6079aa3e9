"""The supervisor's end of one worker's wire, played by a test over a real socket."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hermesd.ipc.codec import Codec, pack_value
from hermesd.ipc.link import Confirmed, Delivered, Link, Received
from hermesd.ipc.messages import (
    DOWN,
    UP,
    Assign,
    Hello,
    LogRecord,
    Logs,
    Message,
    Ready,
    StartAnswer,
    StartRequest,
    StartTurn,
    Welcome,
)
from hermesd.ipc.sockets import Router
from hermesd.workers.containment.tag import make_tag
from hermesd.workers.spec import WorkerSpec

M = TypeVar("M", bound=Message)
PATIENCE = 60.0


def spec_of(path: Path, instance: str, **fields: Any) -> WorkerSpec:
    """A spec for a worker whose files lie below ``path``."""
    name = f"w1-{secrets.token_hex(2)}"
    plain = WorkerSpec(
        worker=name,
        instance=instance,
        tag=make_tag(instance),
        endpoint=f"ipc://{path}/workers.sock",
        token=secrets.token_hex(16),
        containment="subreaper",
        container="",
        agent="demo",
        wire_name=name,
        keeper=os.getpid(),
        environment={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
        log_dir=str(path),
        log_level="DEBUG",
        stacks=str(path / "stacks.txt"),
        heartbeat=0.05,
        stop_grace=0.5,
    )
    return replace(plain, **fields)


class Host:
    """One router, one link, and all that the worker said.

    ``takes_over``: the worker has had another host before this one, and is greeted in the next epoch.
    """

    def __init__(self, spec: WorkerSpec, *, takes_over: bool = False):
        self.spec = spec
        self.heard: list[Message] = []
        self.confirmed: list[Message] = []
        self.delivered: list[Message] = []
        self.unsettled: list[tuple[Message, int]] = []
        self.holds: tuple[type[Message], ...] = ()  # durable messages that are settled by hand
        self._news = asyncio.Event()
        self._link = Link(Codec(*DOWN, *UP))
        self._timer: asyncio.TimerHandle | None = None
        self._router = Router(spec.endpoint, self._on_frame)
        self._greeted = False
        self._takes_over = takes_over

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._router.close()

    def _on_frame(self, identity: bytes, frame: bytes) -> None:
        assert identity == self.spec.wire_name.encode()
        if not self._greeted:
            hello = Codec(*DOWN, *UP).decode(frame).message
            assert isinstance(hello, Hello)
            assert hello.token == self.spec.token
            if self._takes_over:
                self._link = Link(Codec(*DOWN, *UP), epoch=hello.epoch + 1)
            self._greeted = True
            self.heard.append(hello)
            self._link.send(Welcome())
        else:
            for event in self._link.receive(frame, time.monotonic()):
                match event:
                    case Received(message=message, seq=seq):
                        self.heard.append(message)
                        if message.DURABLE and isinstance(message, self.holds):
                            self.unsettled.append((message, seq))
                        elif message.DURABLE:
                            self._link.settle(seq)
                        elif isinstance(message, StartRequest):
                            self._link.send(StartAnswer(message.server, message.config, message.request, granted=True))
                    case Confirmed(message=message):
                        self.confirmed.append(message)
                    case Delivered(message=message):
                        self.delivered.append(message)
                    case _:
                        raise AssertionError(event)
        self._news.set()
        self._flush()

    def settle(self) -> None:
        """Say that what was held is on disk now."""
        for _, seq in self.unsettled:
            self._link.settle(seq)
        self.unsettled.clear()
        self._flush()

    def send(self, *messages: Message) -> None:
        for message in messages:
            self._link.send(message)
        self._flush()

    def _flush(self) -> None:
        now = time.monotonic()
        self._link.flush(now, lambda frame: self._router.send(self.spec.wire_name.encode(), frame))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._link.due()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._flush)

    async def until(self, reached: Callable[[], Any], what: str = "it") -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached():
            self._news.clear()
            left = deadline - time.monotonic()
            assert left > 0, f"waited for {what}; heard {self.heard[-20:]}"
            try:
                await asyncio.wait_for(self._news.wait(), min(left, 0.05))
            except TimeoutError:
                continue

    def all(self, kind: type[M]) -> list[M]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def hear(self, kind: type[M], count: int = 1) -> M:
        """The ``count``-th message of this kind."""
        await self.until(lambda: len(self.all(kind)) >= count, f"{count} {kind.KIND}")
        return self.all(kind)[count - 1]

    def log_records(self) -> list[LogRecord]:
        return [record for batch in self.all(Logs) for record in batch.records]

    async def log(self, text: str) -> LogRecord:
        await self.until(lambda: any(text in record.text for record in self.log_records()), f"the log line {text!r}")
        return next(record for record in self.log_records() if text in record.text)

    async def assign(self, workdir: Path, **fields: Any) -> Ready:
        self.send_assign(workdir, **fields)
        return await self.hear(Ready)

    def send_assign(self, workdir: Path, **fields: Any) -> None:
        given = {
            "session_key": "agent:main:fake:dm:c1",
            "session_id": "s1",
            "platform": "fake",
            "chat_id": "c1",
            "user_id": "u1",
            "user_name": "Ann",
            "workdir": str(workdir),
        }
        self.send(Assign(**(given | fields)))

    def turn(self, text: str, name: str = "t1", **fields: Any) -> None:
        self.send(StartTurn(name, text, "u1", **fields))


def start(spec: WorkerSpec, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """``python -m hermesd.workers FD``, as the keeper does it, with this process as its keeper."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "hermesd.workers", str(read)],
        pass_fds=(read,),
        env={**os.environ, **(environment or {}), "HERMESD_TAG": spec.tag},
        stdin=subprocess.DEVNULL,
    )
    os.close(read)
    with os.fdopen(write, "wb") as told:
        told.write(pack_value(spec))
    return process


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit status."""
    return await asyncio.wait_for(asyncio.to_thread(process.wait), PATIENCE)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()
