"""The interactive console on a real terminal, with a receiver in place of the core."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from harness.running import wait_until
from harness.terminal import Terminal

CHILD = """
import asyncio, signal, sys
from hermesd.adapters import registry
from hermesd.adapters.contract import Outbound, Target

class Core:
    async def receive(self, inbound):
        self.tasks = [*getattr(self, "tasks", []), asyncio.create_task(self.answer(inbound))]
        return True
    def cancel(self, chat): ...
    def attended(self, chat): ...
    async def answer(self, inbound):
        target = Target("local", "", reply_to=inbound.message_id)
        if inbound.text == "!hang":
            self.hanging = target
            adapter.notice(target, "hanging")
            return
        if inbound.text == "/stop":
            await adapter.send(self.hanging, Outbound("s", "interrupted"))
        for part in ("you ", "said "):
            adapter.stream(target, part)
        await adapter.send(target, Outbound("k", f"you said {inbound.text!r}"))

async def main():
    global adapter
    adapter = registry.make("local", {})
    await adapter.start(Core())
    loop = asyncio.get_running_loop()
    talking = asyncio.create_task(adapter.converse())
    loop.add_signal_handler(signal.SIGINT, lambda: adapter.interrupt() or talking.cancel())
    try:
        status = await talking
    except asyncio.CancelledError:
        status = 130
    await adapter.stop()
    print(f"status {status}", flush=True)
asyncio.run(main())
"""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal([sys.executable, "-c", CHILD], os.environ) as made:
        made.expect("> ")
        yield made


def test_a_line_is_answered_as_it_streams_and_the_prompt_comes_back(terminal: Terminal) -> None:
    terminal.type("hello\r")
    terminal.expect(r"you said 'hello'\r\n> ")


def test_ctrl_d_ends_the_chat(terminal: Terminal) -> None:
    terminal.type("\x04")
    terminal.expect("status 0")


def test_ctrl_c_stops_the_turn_first_and_then_the_program(terminal: Terminal) -> None:
    terminal.type("!hang\r")
    terminal.expect(r"\[hanging\]\r\n> ")
    terminal.type("\x03")
    terminal.expect(r"interrupted\r\n> ")
    terminal.expect(r"you said '/stop'\r\n> ")
    terminal.type("\x03")
    terminal.expect("status 130")


def test_a_paste_of_many_lines_is_one_message(terminal: Terminal) -> None:
    terminal.type("\x1b[200~one\ntwo\x1b[201~\r")
    terminal.expect(r"you said 'one\\ntwo'")


def test_what_was_typed_stays_below_what_is_shown_meanwhile(terminal: Terminal) -> None:
    terminal.type("!hang\r")
    terminal.expect(r"\[hanging\]\r\n> ")
    # The prompt may come from the answer, before the next line is read; a Ctrl-C would take what is typed by then.
    wait_until(terminal.reads, what="the next line to be read")
    terminal.type("half a li")
    terminal.expect("half a li")
    terminal.type("\x03")
    terminal.expect(r"interrupted\r\n> half a li")
    terminal.expect(r"you said '/stop'\r\n> half a li")
    terminal.type("ne\r")
    terminal.expect("you said 'half a line'")
