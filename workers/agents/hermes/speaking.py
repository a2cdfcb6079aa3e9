"""hermes-agent's callbacks as what an agent of ours says: called in its threads, told on the loop, in their order.

Nothing here raises in a thread of hermes-agent's, and none of them waits: what it says goes through a queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hermesd.workers.agents.contract import Out

log = logging.getLogger("hermesd.hermes")


class Speaking:
    """Of one turn. ``called`` names a tool as people know it; ``ask`` runs a coroutine from a thread and waits.

    ``said`` is all text so far, ``last`` what came of it since the last tool.
    """

    def __init__(self, out: Out, called: Callable[[str], str], ask: Callable[[Any], Any], patience: float) -> None:
        self.said = ""
        self.last = ""
        self._out = out
        self._called = called
        self._ask = ask
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Callable[[], Awaitable[None]] | None] = asyncio.Queue()
        self._over = False
        self._after: list[str] = []

    def callbacks(self) -> dict[str, Callable[..., Any]]:
        """By the attribute that hermes-agent looks them up by, for every turn anew."""
        return {
            "stream_delta_callback": self._delta,
            "interim_assistant_callback": self._interim,
            "tool_progress_callback": self._tool,
            "step_callback": self._step,
            "status_callback": self._status,
            "notice_callback": self._notice,
            "background_review_callback": self._review,
            "clarify_callback": self._clarify,
        }

    async def run(self) -> None:
        """Say what comes, until `finish`. Cancelled with its turn."""
        while (say := await self._queue.get()) is not None:
            try:
                await say()
            except Exception:  # one word less; the run, which is in another thread, goes on
                log.exception("cannot say something of hermes-agent's")

    def go_on(self, answer: str) -> None:
        """A run has ended with this answer, and another one follows in the same turn."""
        self._queue.put_nowait(lambda: self._complete(answer))

    def finish(self) -> None:
        """Nothing more comes of this run; what came is said first."""
        self._queue.put_nowait(None)

    def over(self) -> None:
        """The turn has ended: what its background threads still say becomes a message of its own."""
        self._over = True

    def _put(self, say: Callable[[], Awaitable[None]]) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, say)

    # ---- in hermes-agent's threads -----------------------------------------------------------------------------------

    def _delta(self, text: Any = None, *_: Any, **__: Any) -> None:
        if text is None:
            self._put(self._boundary)
        elif isinstance(text, str) and text:
            self._put(lambda: self._say(text))

    def _interim(self, text: Any = None, *_: Any, already_streamed: bool = False, **__: Any) -> None:
        if isinstance(text, str) and text.strip() and not already_streamed:
            self._put(lambda: self._say(text))
        self._put(self._boundary)

    def _tool(self, event: Any = None, name: Any = None, preview: Any = None, args: Any = None, **more: Any) -> None:
        state = {"tool.started": "started", "tool.completed": "done"}.get(str(event))
        if state is None or not isinstance(name, str):
            return  # what it thinks is not for the chat
        if state == "done" and more.get("is_error"):
            state = "failed"
        shown = args if isinstance(args, dict) else str(preview or "")
        self._put(lambda: self._tell_tool(self._called(name), shown, state))

    def _step(self, number: Any = None, *_: Any, **__: Any) -> None:
        if isinstance(number, int) and number > 1:
            self._put(lambda: self._out.status(f"step {number}"))

    def _status(self, kind: Any = None, message: Any = None, *_: Any, **__: Any) -> None:
        text = str(message if message is not None else kind or "").strip()
        if text:
            self._put(lambda: self._out.status(text))

    def _notice(self, notice: Any = None, *_: Any, **__: Any) -> None:
        self._status("notice", getattr(notice, "text", None) or getattr(notice, "message", None) or notice)

    def _review(self, message: Any = None, *_: Any, **__: Any) -> None:
        text = str(message or "").strip()
        if not text:
            return
        if not self._over:
            self._put(lambda: self._out.status(text))
            return
        asyncio.run_coroutine_threadsafe(self._out.send("", text), self._loop)

    def _clarify(self, question: Any = None, choices: Any = None, *_: Any, **__: Any) -> str:
        """Waits: the tool's result is the user's answer."""
        offered: Sequence[str] = [str(one) for one in choices] if isinstance(choices, list | tuple) else ()
        answer = self._ask(self._out.ask(str(question or "?"), offered, self._patience))
        return answer or "[the user did not answer]"

    # ---- on the loop -------------------------------------------------------------------------------------------------

    async def _say(self, text: str) -> None:
        if not self.last:
            # Some versions begin what follows a tool with the empty line themselves.
            text = text.lstrip("\n")
            if text and self.said and not self.said.endswith("\n"):
                text = f"\n\n{text}"
        self.said += text
        self.last += text.lstrip("\n") if not self.last else text
        await self._out.delta(text)

    async def _complete(self, answer: str) -> None:
        if not self.last.strip():
            await self._say(answer)
        await self._boundary()

    async def _boundary(self) -> None:
        self.last = ""

    async def _tell_tool(self, name: str, args: str | dict[str, Any], state: str) -> None:
        if state == "started":
            self.last = ""
        await self._out.tool(name, args, state)
