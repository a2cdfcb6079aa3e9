"""Reliable delivery between two processes, without a socket and without a clock.

ZeroMQ forgets what it had queued for a peer that went away, and does not say so. A `Link` is one end of a
conversation: it numbers messages, keeps them until the other end acknowledges them, sends them again after a time-out
(go-back-N), and delivers what arrives once and in order. Its owner moves bytes and passes the time in:

    for event in link.receive(frame, now): ...
    link.send(message)
    link.flush(now, socket.send)
    wait until min(link.due(), something arrives)

An acknowledgement is cumulative: "everything up to this number". A received DURABLE message counts only once its owner
has called `Link.settle`, so the other end's `Confirmed` means "committed to the journal".

An *epoch* is the numbering's life. A supervisor that takes over from a dead one opens the next epoch towards each
worker; the worker's link follows by itself, numbers from 1 again, sends its unacknowledged durable messages anew (their
receiver knows them by their ids) and drops the rest, which its owner replaces by a snapshot of the state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .backpressure import PLAIN, RULES, Rule
from .codec import Ack, Codec, Packed
from .errors import LocalError, PeerError
from .messages import Message

_AT_ONCE: Final = float("-inf")
_MIN_FRAME: Final = 65536  # merged deltas have to fit: 8192 characters of 4 bytes, and their envelope
_MAX_LOOSE: Final = 256  # unreliable messages that may wait; the oldest go first
_MAX_UNSETTLED: Final = 4096  # durable messages that the owner has not settled; more are not taken from the peer
_MAX_UNSETTLED_BYTES: Final = 32 * 1024 * 1024  # and their frames: the peer sets the window, this end pays the memory


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the peer. ``seq`` is what `Link.settle` wants; 0 for unreliable messages."""

    message: Message
    seq: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A durable message of ours is committed to the peer's journal."""

    message: Message


@dataclass(frozen=True, slots=True)
class Delivered:
    """A reliable message of ours, not durable, has reached the peer's link."""

    message: Message


@dataclass(frozen=True, slots=True)
class Refused:
    """A frame of the peer was dropped, and counted."""

    error: PeerError


@dataclass(frozen=True, slots=True)
class EpochOpened:
    """The peer opened a new epoch. ``dropped``: what of ours had not arrived and will not be sent again."""

    epoch: int
    dropped: tuple[Message, ...]


Event = Received | Confirmed | Delivered | Refused | EpochOpened


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a link, in seconds."""

    resend: float = 0.5  # without progress for this long, everything unacknowledged is sent again
    resend_max: float = 8.0  # it doubles up to this
    ack_delay: float = 0.02  # how long an acknowledgement waits for a message to ride on
    retry: float = 0.001  # after the socket did not take a frame
    retry_max: float = 0.25  # it doubles up to this


DEFAULT_TIMING: Final = Timing()


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counted over the link's life; the last two are of the moment."""

    sent: int = 0  # frames that the socket took, resent ones and acknowledgements included
    resent: int = 0
    refusals: int = 0  # frames that the socket did not take
    received: int = 0  # messages delivered to the owner
    duplicates: int = 0
    gaps: int = 0  # frames dropped because an earlier one, or the owner's settling, is outstanding
    stale: int = 0  # frames of an earlier epoch
    peer_errors: int = 0
    coalesced: int = 0  # messages that merged into another or were superseded
    dropped: int = 0  # unreliable messages that found no room
    unacknowledged: int = 0
    queued: int = 0


@dataclass(slots=True)
class _Item:
    message: Message
    packed: Packed | None  # None after a merge: packed again when it is its turn
    rule: Rule
    seq: int = 0


class Link:
    """One end. Not thread-safe: one thread or event loop owns it.

    ``window``: how many messages may be unacknowledged. ``leads``: only this end opens epochs; a peer that speaks of a
    later one is not believed. ``heartbeat``: makes the message that is sent every
    ``heartbeat_every`` seconds (may be changed at any time); None = none is sent.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        window: int = 32,
        epoch: int = 0,
        leads: bool = False,
        timing: Timing = DEFAULT_TIMING,
        heartbeat: Callable[[], Message] | None = None,
        heartbeat_every: float = 1.0,
    ) -> None:
        if window < 1 or codec.max_frame < _MIN_FRAME:
            raise LocalError(f"cannot make a link: it needs a window of 1 and frames of {_MIN_FRAME} bytes at least")
        self.epoch = epoch
        self.heartbeat_every = heartbeat_every
        self.last_heard: float | None = None  # time of the last valid frame of the peer
        self._codec = codec
        self._leads = leads
        self._window = window
        self._timing = timing
        self._heartbeat = heartbeat
        self._ack_every = max(1, window // 4)
        self._ack_packed = codec.pack(Ack())
        # sending
        self._queue: deque[_Item] = deque()  # never sent
        self._passing = 0  # how many of the queue pass the window
        self._unacknowledged: deque[_Item] = deque()  # sent, by number
        self._resent = 0  # how many of those are sent as far as this round of resending knows
        self._loose: deque[Packed] = deque()
        self._last_seq = 0
        self._resend_at: float | None = None
        self._resend_after = timing.resend
        self._blocked_until = _AT_ONCE
        self._retry_after = timing.retry
        self._last_heartbeat = _AT_ONCE
        # receiving
        self._expected = 1
        self._receipts = 0  # what `Received.seq` is ahead of the number on the wire: numbers of earlier epochs
        self._unsettled: dict[int, int] = {}  # bytes of the frame by number, in order
        self._unsettled_bytes = 0
        self._ack_at: float | None = None
        self._since_ack = 0
        self._count: dict[str, int] = dict.fromkeys(Statistics.__slots__, 0)

    # ---- sending ------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue a message. Raises `LocalError` for what the wire cannot carry; nothing is queued then."""
        packed = self._codec.pack(message)
        if not message.RELIABLE:
            if len(self._loose) >= _MAX_LOOSE:
                self._loose.popleft()
                self._count["dropped"] += 1
            self._loose.append(packed)
            return
        rule = RULES.get(type(message), PLAIN)
        if self._queue:
            if rule.supersedes:
                self._drop_superseded(message, rule)
            elif rule.merge is not None and self._merge(message, rule):
                return
        self._queue.append(_Item(message, packed, rule))
        self._passing += rule.passes_window

    def flush(self, now: float, send: Callable[[bytes], bool]) -> bool:
        """Hand every frame that may go now to ``send``. False: it returned False, the socket takes nothing now.

        The refused frame is the first one of a later call; `due` says when to try again.
        """
        if now < self._blocked_until:
            return False
        self._start_timers(now)
        if (
            self._flush_resends(send)
            and self._flush_queue(now, send)
            and self._flush_loose(send)
            and self._flush_heartbeat(now, send)
            and self._flush_ack(now, send)
        ):
            return True
        self._count["refusals"] += 1
        self._blocked_until = now + self._retry_after
        self._retry_after = min(self._retry_after * 2, self._timing.retry_max)
        return False

    def frames(self, now: float) -> list[bytes]:
        """Every frame that may go now, for an owner whose wire takes them all."""
        frames: list[bytes] = []

        def take(frame: bytes) -> bool:
            frames.append(frame)
            return True

        self.flush(now, take)
        return frames

    def seal(self, message: Message) -> bytes:
        """A frame of an unnumbered message, for an owner that sends it past everything that waits."""
        return self._codec.seal(self._codec.pack(message), 0, self._acknowledged(), self.epoch)

    def due(self) -> float | None:
        """When `flush` has something to do, in the clock of ``now``: ``-inf`` = at once, None = after nothing yet."""
        times = [time for time in (self._resend_at, self._ack_at) if time is not None]
        if self._heartbeat is not None:
            times.append(self._last_heartbeat + self.heartbeat_every)
        if self._loose or self._may_send() or self._resent < len(self._unacknowledged):
            times.append(_AT_ONCE)
        return max(min(times), self._blocked_until) if times else None

    def reconnected(self, now: float) -> None:
        """The way to the peer was cut and is back: send everything unacknowledged again, now."""
        self._resent = 0
        self._resend_after = self._timing.resend
        self._blocked_until = _AT_ONCE
        self._retry_after = self._timing.retry
        if self._unacknowledged:
            self._resend_at = now + self._resend_after
        if self._expected > 1:
            self._ack_at = _AT_ONCE  # the last acknowledgement may have been lost with the connection

    def new_epoch(self, epoch: int | None = None) -> tuple[Message, ...]:
        """Number from 1 again, as the peer will. Returns what was dropped: all that is not durable and had not arrived.

        A supervisor that takes over passes ``epoch=`` (one above the hello's) to a new link instead; the worker's link
        comes here by itself when it hears of it.
        """
        self.epoch = self.epoch + 1 if epoch is None else epoch
        self._receipts += self._expected - 1
        self._expected = 1
        self._unsettled.clear()
        self._unsettled_bytes = 0
        self._ack_at = _AT_ONCE  # whatever is sent next tells the peer of the epoch
        self._since_ack = 0
        waiting = [*self._unacknowledged, *self._queue]
        self._queue = deque(item for item in waiting if item.message.DURABLE)
        self._passing = sum(item.rule.passes_window for item in self._queue)
        self._unacknowledged.clear()
        self._resent = self._last_seq = 0
        self._resend_at = None
        self._resend_after = self._timing.resend
        self._blocked_until = _AT_ONCE
        return tuple(item.message for item in waiting if not item.message.DURABLE)

    @property
    def queued(self) -> int:
        """Messages that were never sent."""
        return len(self._queue)

    @property
    def is_at_rest(self) -> bool:
        """Whether everything that was sent is acknowledged, and nothing waits."""
        return not (self._queue or self._unacknowledged)

    def statistics(self) -> Statistics:
        """A copy of the figures."""
        return Statistics(
            **{**self._count, "unacknowledged": len(self._unacknowledged), "queued": len(self._queue)},
        )

    def _drop_superseded(self, message: Message, rule: Rule) -> None:
        kept = deque(
            item
            for item in self._queue
            if not (isinstance(item.message, rule.supersedes) and rule.covers(item.message, message))
        )
        self._count["coalesced"] += len(self._queue) - len(kept)
        self._queue = kept

    def _merge(self, message: Message, rule: Rule) -> bool:
        last = self._queue[-1]
        if rule.merge is None or type(last.message) is not type(message) or not rule.covers(last.message, message):
            return False
        merged = rule.merge(last.message, message)
        if merged is None:
            return False
        last.message, last.packed = merged, None
        self._count["coalesced"] += 1
        return True

    def _may_send(self) -> bool:
        return bool(self._queue) and (self._passing > 0 or len(self._unacknowledged) < self._window)

    def _start_timers(self, now: float) -> None:
        if self._resend_at is not None and now >= self._resend_at and self._unacknowledged:
            self._resent = 0
            self._resend_after = min(self._resend_after * 2, self._timing.resend_max)
            self._resend_at = now + self._resend_after

    def _flush_resends(self, send: Callable[[bytes], bool]) -> bool:
        while self._resent < len(self._unacknowledged):
            item = self._unacknowledged[self._resent]
            if not self._put(item.packed, item.seq, send):
                return False
            self._resent += 1
            self._count["resent"] += 1
        return True

    def _flush_queue(self, now: float, send: Callable[[bytes], bool]) -> bool:
        while self._may_send():
            item = self._queue[0]
            if item.packed is None:
                item.packed = self._codec.pack(item.message)
            if not self._put(item.packed, self._last_seq + 1, send):
                return False
            self._queue.popleft()
            self._passing -= item.rule.passes_window
            self._last_seq = item.seq = self._last_seq + 1
            self._unacknowledged.append(item)
            self._resent += 1
            if self._resend_at is None:
                self._resend_at = now + self._resend_after
        return True

    def _flush_loose(self, send: Callable[[bytes], bool]) -> bool:
        while self._loose:
            if not self._put(self._loose[0], 0, send):
                return False
            self._loose.popleft()
        return True

    def _flush_heartbeat(self, now: float, send: Callable[[bytes], bool]) -> bool:
        if self._heartbeat is None or now < self._last_heartbeat + self.heartbeat_every:
            return True
        if not self._put(self._codec.pack(self._heartbeat()), 0, send):
            return False
        self._last_heartbeat = now
        return True

    def _flush_ack(self, now: float, send: Callable[[bytes], bool]) -> bool:
        return self._ack_at is None or now < self._ack_at or self._put(self._ack_packed, 0, send)

    def _put(self, packed: Packed | None, seq: int, send: Callable[[bytes], bool]) -> bool:
        assert packed is not None  # an item is packed before it is sent the first time
        if not send(self._codec.seal(packed, seq, self._acknowledged(), self.epoch)):
            return False
        self._count["sent"] += 1
        self._ack_at = None
        self._since_ack = 0
        self._retry_after = self._timing.retry
        return True

    # ---- receiving ----------------------------------------------------------------------------------------------

    def receive(self, frame: bytes, now: float) -> list[Event]:
        """What a frame of the peer means. Never raises for what is in it: `Refused` says what was wrong."""
        try:
            message, seq, ack, epoch = self._codec.decode(frame)
        except PeerError as error:
            return [self._refuse(error)]
        events: list[Event] = []
        if epoch > self.epoch and self._leads:
            return [self._refuse(PeerError(f"cannot believe {message.KIND}: it is of epoch {epoch}, not {self.epoch}"))]
        if epoch > self.epoch:
            events.append(EpochOpened(epoch, self.new_epoch(epoch)))
        if epoch == self.epoch:
            if ack > self._last_seq:
                reason = f"it acknowledges {ack}, {self._last_seq} were sent"
                return [*events, self._refuse(PeerError(f"cannot believe {message.KIND}: {reason}"))]
            if bool(seq) is not message.RELIABLE:
                reason = f"number {seq} is not for a message with RELIABLE={message.RELIABLE}"
                return [*events, self._refuse(PeerError(f"cannot read {message.KIND}: {reason}"))]
            self._on_acknowledged(ack, now, events)
        elif seq:
            self._count["stale"] += 1
            self._ack_at = _AT_ONCE  # whatever is sent next tells the peer of the epoch
            return events
        self.last_heard = now
        if type(message) is Ack:
            return events
        if not seq:
            if message.ANSWERED:
                self._ack_at = _AT_ONCE
            self._count["received"] += 1
            events.append(Received(message, 0))
        elif self._take(message, seq, len(frame), now):
            self._count["received"] += 1
            events.append(Received(message, seq + self._receipts))
        return events

    def settle(self, seq: int) -> None:
        """A durable message that was received is committed; ``seq`` is its `Received.seq`, in any order."""
        before = self._acknowledged()
        # One of an earlier epoch is not there, and need not be.
        self._unsettled_bytes -= self._unsettled.pop(seq - self._receipts, 0)
        if self._acknowledged() != before:
            self._ack_at = _AT_ONCE  # the peer waits for it: a worker starts its agent on this confirmation

    def _refuse(self, error: PeerError) -> Refused:
        self._count["peer_errors"] += 1
        return Refused(error)

    def _on_acknowledged(self, ack: int, now: float, events: list[Event]) -> None:
        waiting = self._unacknowledged
        if not waiting or waiting[0].seq > ack:
            return
        while waiting and waiting[0].seq <= ack:
            message = waiting.popleft().message
            self._resent = max(0, self._resent - 1)
            events.append(Confirmed(message) if message.DURABLE else Delivered(message))
        self._resend_after = self._timing.resend
        self._resend_at = now + self._resend_after if waiting else None

    def _take(self, message: Message, seq: int, size: int, now: float) -> bool:
        """Whether this is the next message; everything else is dropped and counted."""
        if seq < self._expected:
            self._count["duplicates"] += 1
            self._ack_at = _AT_ONCE  # the acknowledgement did not arrive, it seems
            return False
        full = len(self._unsettled) >= _MAX_UNSETTLED or self._unsettled_bytes >= _MAX_UNSETTLED_BYTES
        if seq > self._expected or full:
            self._count["gaps"] += 1
            return False
        self._expected += 1
        if message.DURABLE:
            self._unsettled[seq] = size
            self._unsettled_bytes += size
        elif not self._unsettled:
            self._since_ack += 1
            if self._since_ack >= self._ack_every:
                self._ack_at = _AT_ONCE
            elif self._ack_at is None:
                self._ack_at = now + self._timing.ack_delay
        return True

    def _acknowledged(self) -> int:
        """The highest number below the first unsettled one."""
        return next(iter(self._unsettled), self._expected) - 1
