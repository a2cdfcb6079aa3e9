"""The rows of the command table and their handlers."""

from __future__ import annotations

import time

from hermesd.supervisor.journal import inbox, sessions, transcripts
from hermesd.supervisor.journal.errors import UnknownRow
from hermesd.supervisor.journal.states import InboxState

from ..approvals import APPROVE, DENY
from .registry import Call, Command, help_text


async def new(call: Call) -> str:
    try:
        session_id = await call.lanes.orders.reset_session(call.key, "session_reset")
    except UnknownRow:
        return "This is a new conversation already."
    return f"A new conversation has begun ({session_id})."


async def stop(call: Call) -> str:
    ended = await call.lanes.orders.interrupt(call.key, "stopped by its user", clear_queue=True)
    if not ended:
        return "Nothing is running."
    if ended == 1:
        return "Stopped."
    dropped = "1 waiting message was" if ended == 2 else f"{ended - 1} waiting messages were"
    return f"Stopped; {dropped} dropped."


async def status(call: Call) -> str:
    lane = call.lanes.lane_of(call.key)
    session = await call.journal.write(sessions.current, call.key)
    lines = [f"session: {call.key}"]
    if session is None:
        lines.append("no conversation yet")
    else:
        entries = await call.journal.write(transcripts.load, session.session_id)
        lines.append(f"id: {session.session_id}, {len(entries)} entries")
        lines.append(f"begun {_ago(session.created_at)}, last answer {_ago(session.updated_at)}")
    lines.append(f"agent: {lane.life.value if lane is not None else 'hibernated'}")
    if lane is not None and lane.current is not None:
        seconds = time.monotonic() - (lane.current.started_at or lane.current.queued_at)
        lines.append(f"running: {lane.current.state.value} for {seconds:.0f} s")
    if call.lanes.drain_order.covers(call.key):
        lines.append("draining: new messages wait until hermesctl undrain")
    if lane is not None and lane.queue:
        lines.append(f"waiting messages: {len(lane.queue)}")
    if (past := call.lanes.past_of(call.key)).restarts:
        lines.append(f"crashes: {past.restarts}, the last one: {past.last_end}")
    return "\n".join(lines)


async def retry(call: Call) -> str | None:
    lane = call.lanes.lane_of(call.key)
    if lane is not None and lane.queue:
        return "The last message still waits for its turn; /stop drops it."
    last = await call.journal.write(inbox.latest_turn, call.key)
    if last is None:
        return "There is no message to repeat in this conversation."
    if last.state in (InboxState.QUEUED, InboxState.DISPATCHED, InboxState.ACCEPTED):
        return "The last message is still being answered; /stop ends that."
    if last.state is InboxState.ANSWERED:
        await call.lanes.orders.rewind(call.key, last.turn)
    # The command's own row becomes the message, so that a restart, or the next /retry, finds what was meant by it.
    call.lanes.submit(await call.journal.write(inbox.repeat, call.row.id, last.id), call.key)
    return None


async def approve(call: Call) -> str:
    return await _answer(call, call.argument or APPROVE)


async def deny(call: Call) -> str:
    return await _answer(call, DENY)


async def _answer(call: Call, choice: str) -> str:
    try:
        taken = await call.lanes.orders.answer(call.key, choice, call.row.inbound.user_id)
    except ValueError as error:
        return f"{error}. Write /approve followed by one of them."
    return f"Answered: {choice}." if taken else "Nothing waits for an answer."


async def show_help(call: Call) -> str:
    return help_text(TABLE)


def _ago(at: float) -> str:
    seconds = max(0.0, time.time() - at)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


TABLE: tuple[Command, ...] = (
    Command("new", "begin a new conversation", new, aliases=("reset",)),
    Command("stop", "end the running answer and drop what waits", stop),
    Command("status", "this conversation and its agent", status),
    Command("retry", "run the last message again", retry),
    Command("approve", "answer the agent's question, with yes or with a choice", approve, argument="[CHOICE]"),
    Command("deny", "decline the agent's question", deny),
    Command("help", "this list", show_help),
)
