"""What runs in the child processes of the baselines, and the worker of the hop.

Imports stand inside the functions: how a child comes by its modules is what is measured.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

MODULES = (
    "asyncio",
    "zmq",
    "msgpack",
    "hermesd.workers.main",
    "hermesd.workers.mcp.server",
    "hermesd.workers.agents.demo",
)
"""What a keeper has imported before it forks workers of the demo agent that have MCP servers."""


def say_hello(endpoint: str, name: str) -> None:
    """Import what a worker needs, say hello, and stay until killed."""
    import sys

    imported = all(module in sys.modules for module in MODULES)
    for module in MODULES:
        import_module(module)
    import os

    from hermesd.ipc.codec import Codec
    from hermesd.ipc.messages import Hello
    from hermesd.ipc.sockets import Dealer

    dealer = Dealer(endpoint, name.encode())
    frame = Codec(Hello).encode(Hello(name, "preloaded" if imported else "imported", os.getpid(), 0, ""))
    while not dealer.send(frame):
        dealer.poll(0.001)
    while True:
        dealer.poll(None)
        dealer.recv_all()


def echo_over_link(endpoint: str, worker: str, token: str) -> None:
    """A worker without an agent: its event loop gives every `Steer` back, through the real link thread."""
    import asyncio
    import os
    import sys

    from hermesd.ipc.codec import Codec
    from hermesd.ipc.link import Link, Received
    from hermesd.ipc.messages import DOWN, UP, Hello, Steer, ToolUse
    from hermesd.ipc.version import VERSION
    from hermesd.workers.link_thread import LinkThread
    from hermesd.workers.watchdog import Watchdog

    class NoLogs:
        def notify(self, call: Any) -> None: ...

        def take(self, now: float, *, ending: bool = False) -> Any:
            return None

        def due(self, now: float) -> float | None:
            return None

    def answer(event: object) -> None:
        if isinstance(event, Received) and isinstance(event.message, Steer):
            link.post(ToolUse(event.message.turn, "", event.message.text, "done"))

    loop = asyncio.new_event_loop()
    link = LinkThread(
        endpoint=endpoint,
        identity=worker,
        link=Link(Codec(*DOWN, *UP, accepts=DOWN)),
        hello=Hello(worker, token, os.getpid(), 0, VERSION),
        heartbeat=1.0,
        idle_heartbeat=20.0,
        call_soon=loop.call_soon_threadsafe,
        on_event=answer,
        logs=NoLogs(),
        keeper_pidfd=-1,
        adopt_timeout=0.0,
        watchdog=Watchdog(sys.stderr.fileno()),
        on_abandoned=lambda: None,
        captures=[],
    )
    link.start()
    loop.run_forever()


def echo_raw(endpoint: str) -> None:
    """The least that a process with a ZeroMQ socket can do."""
    import zmq

    socket = zmq.Context().socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, b"peer")
    socket.connect(endpoint)
    socket.send(b"here")
    while True:
        socket.send(socket.recv())


def same(payload: bytes) -> bytes:
    return payload
