"""The journal's rows as values, and how they are read from the tables' columns."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from hermesd.adapters.contract import Attachment, Delivery, Inbound, Outbound, Question, Sticker, Target, Utterance
from hermesd.ipc.messages import Entry

from .states import InboxState, OutboxState, TurnState

UNCERTAIN = "an earlier try was cut: the platform may have it"
"""How the ``error`` of an outbox row begins that goes, or may go, again all the same: then it carries a mark."""

BEGUN = f"{UNCERTAIN}, or its beginning"
"""The same of one that was not tried itself: what may be there is a message that showed its answer being written."""


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A message of a user and how far it has come. ``inbound`` is what the adapter handed over, whole."""

    id: int
    inbound: Inbound
    received_at: float
    state: InboxState
    changed_at: float  # when it came into this state
    session_key: str = ""
    turn: str = ""
    worker: str = ""
    attempt: int = 0  # how often it was promised to a worker
    killed: int = 0  # how many workers died of it
    error: str = ""

    @property
    def target(self) -> Target:
        """Where its answer goes."""
        if self.inbound.delivery is not None:
            return self.inbound.delivery.target
        return Target(self.inbound.platform, self.inbound.chat_id, self.inbound.thread_id, self.inbound.message_id)


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message to a chat and how far it has come. ``message.key`` is unique in the outbox."""

    id: int
    target: Target
    message: Outbound
    turn: str  # "" for one that belongs to no turn
    created_at: float
    state: OutboxState
    changed_at: float
    attempts: int
    next_try_at: float
    platform_message_id: str = ""  # of one that is not sent yet: the message that it will replace by an edit
    error: str = ""
    part_of: int = 0  # the row of the first part; 0: not cut into parts yet

    @property
    def uncertain(self) -> bool:
        """An earlier try may have reached the platform."""
        return self.error.startswith(UNCERTAIN)

    @property
    def begun(self) -> bool:
        """What may be there is no try of this row, but the beginning of its answer."""
        return self.error.startswith(BEGUN)

    @property
    def doubt(self) -> str:
        """What its ``error`` begins with from now on, if the platform may have something of it."""
        return BEGUN if self.begun else UNCERTAIN


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """A message at a platform that shows a stretch of a running answer, which begins at character ``begins``."""

    turn: str
    number: int  # from 0, in the order in which they were sent
    target: Target
    message_id: str
    segment: int = 0  # how many boundaries were before it
    begins: int = 0
    text: str = ""  # all of it, once no more text goes into it


@dataclass(frozen=True, slots=True)
class Origin:
    """Who talks in a session, and where."""

    platform: str
    chat_id: str
    chat_type: str = "dm"
    chat_name: str = ""
    thread_id: str = ""
    user_id: str = ""
    user_name: str = ""

    @classmethod
    def of(cls, inbound: Inbound) -> Origin:
        """The origin of a session that this message begins."""
        return cls(
            platform=inbound.platform,
            chat_id=inbound.chat_id,
            chat_type=inbound.chat_type,
            chat_name=inbound.chat_name,
            thread_id=inbound.thread_id,
            user_id=inbound.user_id,
            user_name=inbound.user_name,
        )


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One life of a session, between two resets."""

    session_id: str
    key: str
    origin: Origin
    created_at: float
    updated_at: float  # the last ended turn, or the creation
    ephemeral: bool = False  # ends with its reply; pruned with everything in it
    ended_at: float | None = None  # None: the current one of its key
    end_reason: str = ""
    prompt_tokens: int = 0  # of all its turns, where the agent counts them
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SessionHistory:
    """Everything that ``hermesctl sessions show`` says of one key."""

    current: SessionRow | None
    earlier: tuple[SessionRow, ...]  # newest first
    entries: int  # in the current one's transcript


@dataclass(frozen=True, slots=True)
class TranscriptRow:
    """One entry of a conversation."""

    session_id: str
    seq: int
    entry: Entry
    turn: str = ""


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One run of an agent. ``inbox_id`` None: hermesd itself asked for it."""

    turn: str
    session_key: str
    session_id: str
    inbox_id: int | None
    worker: str
    state: TurnState
    started_at: float  # when it was promised to its worker
    accepted_at: float | None = None
    ended_at: float | None = None
    error: str = ""
    cpu_seconds: float = 0.0
    text: str = ""  # of its message, where it was asked for


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker process that holds a session, as a later hermesd needs it to take it over."""

    worker: str
    session_key: str
    session_id: str
    wire_name: str
    tag: str
    containment: str  # name of the strategy that its keeper used
    place: str  # the directory of its container, "" where the strategy has none
    proof: str  # SHA-256 of its token, in hex: the token itself is the worker's alone
    stacks: str  # the file that it writes its stacks to
    keeper: int  # pid of the keeper that holds it
    started_at: float
    pid: int = 0  # 0: it was asked for, and nobody has said yet that it is there
    start_ticks: int = 0
    ephemeral: bool = False


def inbox_row(row: sqlite3.Row) -> InboxRow:
    """From all columns of ``inbox``."""
    return InboxRow(
        id=row["id"],
        inbound=Inbound(
            platform=row["platform"],
            chat_id=row["chat_id"],
            message_id=row["message_id"],
            user_id=row["user_id"],
            text=row["text"],
            user_name=row["user_name"],
            user_id_alt=row["user_id_alt"],
            chat_type=row["chat_type"],
            chat_name=row["chat_name"],
            thread_id=row["thread_id"],
            attachments=load_attachments(row["attachments_json"]),
            trusted=bool(row["trusted"]),
            history=load_history(row["history_json"]),
            sent_at=row["sent_at"],
            reply_to_id=row["reply_to_id"],
            reply_to_text=row["reply_to_text"],
            album=row["album"],
            delivery=load_delivery(row["delivery_json"]),
        ),
        received_at=row["received_at"],
        state=InboxState(row["state"]),
        changed_at=row["changed_at"],
        session_key=row["session_key"],
        turn=row["turn"],
        worker=row["worker"],
        attempt=row["attempt"],
        killed=row["killed"],
        error=row["error"],
    )


def outbox_row(row: sqlite3.Row) -> OutboxRow:
    """From all columns of ``outbox``."""
    return OutboxRow(
        id=row["id"],
        target=Target(row["platform"], row["chat_id"], row["thread_id"], row["reply_to"]),
        message=Outbound(
            key=row["key"],
            text=row["text"],
            files=load_attachments(row["files_json"]),
            kind=row["kind"],
            final=bool(row["final"]),
            usage=json.loads(row["usage_json"]),
            question=load_question(row["question_json"]),
            quotes=bool(row["quotes"]),
            album=row["album"],
        ),
        turn=row["turn"],
        created_at=row["created_at"],
        state=OutboxState(row["state"]),
        changed_at=row["changed_at"],
        attempts=row["attempts"],
        next_try_at=row["next_try_at"],
        platform_message_id=row["platform_message_id"],
        error=row["error"],
        part_of=row["part_of"],
    )


def progress_row(row: sqlite3.Row) -> ProgressRow:
    """From all columns of ``progress``."""
    return ProgressRow(
        turn=row["turn"],
        number=row["number"],
        target=Target(row["platform"], row["chat_id"], row["thread_id"]),
        message_id=row["message_id"],
        segment=row["segment"],
        begins=row["begins"],
        text=row["text"],
    )


def session_row(row: sqlite3.Row) -> SessionRow:
    """From all columns of ``sessions``."""
    return SessionRow(
        session_id=row["session_id"],
        key=row["key"],
        origin=Origin(
            platform=row["platform"],
            chat_id=row["chat_id"],
            chat_type=row["chat_type"],
            chat_name=row["chat_name"],
            thread_id=row["thread_id"],
            user_id=row["user_id"],
            user_name=row["user_name"],
        ),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        ephemeral=bool(row["ephemeral"]),
        ended_at=row["ended_at"],
        end_reason=row["end_reason"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
    )


def transcript_row(row: sqlite3.Row) -> TranscriptRow:
    """From all columns of ``transcripts``."""
    return TranscriptRow(row["session_id"], row["seq"], Entry(row["role"], row["text"], row["at"]), row["turn"])


def turn_row(row: sqlite3.Row) -> TurnRow:
    """From all columns of ``turns``."""
    return TurnRow(
        turn=row["turn"],
        session_key=row["session_key"],
        session_id=row["session_id"],
        inbox_id=row["inbox_id"],
        worker=row["worker"],
        state=TurnState(row["state"]),
        started_at=row["started_at"],
        accepted_at=row["accepted_at"],
        ended_at=row["ended_at"],
        error=row["error"],
        cpu_seconds=row["cpu_seconds"],
    )


def worker_row(row: sqlite3.Row) -> WorkerRow:
    """From all columns of ``workers``."""
    return WorkerRow(
        worker=row["worker"],
        session_key=row["session_key"],
        session_id=row["session_id"],
        wire_name=row["wire_name"],
        tag=row["tag"],
        containment=row["containment"],
        place=row["place"],
        proof=row["proof"],
        stacks=row["stacks"],
        keeper=row["keeper"],
        started_at=row["started_at"],
        pid=row["pid"],
        start_ticks=row["start_ticks"],
        ephemeral=bool(row["ephemeral"]),
    )


def dump(value: Any) -> str:
    """JSON as the columns hold it: compact, and readable in a ``sqlite3`` shell."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def dump_attachments(attachments: Iterable[Attachment]) -> str:
    """For ``attachments_json`` and ``files_json``."""
    return dump([_fields(file) for file in attachments])


def _fields(file: Attachment) -> dict[str, Any]:
    """Its path, name and MIME type, and of the rest what is not the default."""
    fields: dict[str, Any] = {"path": file.path, "name": file.name, "mime": file.mime}
    if file.kind != "document":
        fields["kind"] = file.kind
    if file.remote:
        fields["remote"] = file.remote
    if file.size:
        fields["size"] = file.size
    if file.sticker is not None:
        fields["sticker"] = asdict(file.sticker)
    return fields


def load_attachments(text: str) -> tuple[Attachment, ...]:
    """The reverse of `dump_attachments`."""
    if text == "[]":
        return ()
    files = []
    for fields in json.loads(text):
        sticker = fields.pop("sticker", None)
        files.append(Attachment(**fields, sticker=Sticker(**sticker) if sticker is not None else None))
    return tuple(files)


def dump_question(question: Question | None) -> str:
    """For ``question_json``: "" where nothing is asked."""
    return "" if question is None else dump({"ask": question.ask, "choices": list(question.choices)})


def load_question(text: str) -> Question | None:
    """The reverse of `dump_question`."""
    if not text:
        return None
    fields = json.loads(text)
    return Question(fields["ask"], tuple(fields["choices"]))


def dump_delivery(delivery: Delivery | None) -> str:
    """For ``delivery_json``: "" where the answer goes to who wrote."""
    if delivery is None:
        return ""
    target = delivery.target
    fields = {"platform": target.platform, "chat": target.chat_id, "thread": target.thread_id}
    return dump({**fields, "verbatim": delivery.verbatim})


def load_delivery(text: str) -> Delivery | None:
    """The reverse of `dump_delivery`."""
    if not text:
        return None
    fields = json.loads(text)
    return Delivery(Target(fields["platform"], fields["chat"], fields["thread"]), fields["verbatim"])


def dump_history(history: tuple[Utterance, ...] | None) -> str | None:
    """For ``history_json``: NULL where none was given, which is not the same as an empty one."""
    return None if history is None else dump([{"role": said.role, "text": said.text} for said in history])


def load_history(text: str | None) -> tuple[Utterance, ...] | None:
    """The reverse of `dump_history`."""
    return None if text is None else tuple(Utterance(**fields) for fields in json.loads(text))
