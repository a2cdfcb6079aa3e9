"""The ways in: made by the registry, each with a connection of its own, one failing without the others.

Connections outlive workers: nothing that happens to a worker reaches an adapter.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from hermesd.adapters.contract import Adapter, AdapterSettings, Identity, Receiver, State
from hermesd.adapters.errors import AdapterError, StartLater
from hermesd.supervisor.tasks import Tasks

from . import connection_life as life
from .connection import Connection
from .connection_life import Event
from .token_lock import TokenLock


class UnknownPlatform(LookupError):
    """No platform of this name is configured. The text says which are."""


class Platforms:
    """``live`` holds what can be called now; `connections` knows all that is configured.

    ``on_up`` is called with the name of a platform whenever it can be sent to again, ``on_gone`` when it will not be by
    itself. ``environ`` and ``home`` are for the locks of tokens.
    """

    def __init__(
        self,
        tasks: Tasks,
        *,
        environ: Mapping[str, str],
        home: Path,
        on_up: Callable[[str], None] = lambda name: None,
        on_gone: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.live: dict[str, Adapter] = {}
        self.connections: dict[str, Connection] = {}
        self._tasks = tasks
        self._environ = environ
        self._home = home
        self._on_up = on_up
        self._on_gone = on_gone

    def make(self, wanted: Mapping[str, AdapterSettings]) -> None:
        """Build every enabled platform's adapter, importing its client library. Blocks for as long as that takes."""
        for settings in wanted.values():
            connection = Connection(
                settings, self._tasks, make_lock=self._lock, on_change=self._changed, on_up=self._is_up
            )
            self.connections[settings.name] = connection
            connection.make()

    async def start(self, receiver: Receiver, paused: frozenset[str] = frozenset()) -> None:
        """Connect them all at once. Returns when those of this machine are up or have failed: hermesd does not wait for
        other people's services.
        """
        for connection in self.connections.values():
            connection.use(receiver)
            if connection.name in paused:
                connection.happen(Event.PAUSE)
            elif connection.state is life.State.STOPPED:
                connection.happen(Event.WANTED)
        local = [connection for connection in self.connections.values() if not connection.is_remote]
        await asyncio.gather(*(connection.settled() for connection in local))

    async def stop(self) -> None:
        """Disconnect them all at once; nothing is live afterwards."""
        for connection in self.connections.values():
            connection.happen(Event.STOP)
        await asyncio.gather(*(connection.settled() for connection in self.connections.values()))

    def lost(self, name: str, error: AdapterError) -> None:
        """Called by `Reception` for an adapter whose connection has ended."""
        if (connection := self.connections.get(name)) is not None:
            connection.lost(error)

    def denied(self, name: str, error: AdapterError) -> None:
        """Called by the deliverer: a platform has refused a message because of who we are. It is connected anew, which
        gets what has a way to get it a new token, and else tells in its state what is wrong.
        """
        connection = self.connections.get(name)
        if connection is not None and connection.is_remote and connection.state is life.State.ONLINE:
            connection.lost(StartLater(str(error), fix=error.fix))

    def hurry(self, name: str) -> None:
        """Called by the deliverer: messages wait for this platform."""
        if (connection := self.connections.get(name)) is not None:
            connection.hurry()

    def may_return(self, name: str) -> bool:
        """Whether what waits for it may wait: it is up, or is tried for."""
        connection = self.connections.get(name)
        return connection is not None and connection.state in life.RETURNING

    async def order(self, name: str, event: Event) -> Connection:
        """A person pauses, resumes or reconnects one. Returns when the first try is over. Raises `UnknownPlatform`."""
        connection = self.connections.get(name)
        if connection is None:
            near = difflib.get_close_matches(name, self.connections, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(self.connections))}"
            raise UnknownPlatform(f"no platform {name!r} is configured; {hint}")
        connection.happen(event)
        await connection.settled()
        return connection

    def states(self) -> dict[str, State]:
        return {name: connection.shown() for name, connection in self.connections.items()}

    def _lock(self, identity: Identity) -> TokenLock:
        return TokenLock(identity, self._environ, self._home)

    def _changed(self, connection: Connection) -> None:
        # Live before it is started: an answer may be faster than the end of start.
        if connection.state in life.UP and connection.adapter is not None:
            self.live[connection.name] = connection.adapter
        else:
            self.live.pop(connection.name, None)
        if connection.state not in life.RETURNING and connection.state is not life.State.STOPPED:
            # One that is stopped is so because hermesd stops: what waits goes on in its next life.
            self._on_gone(connection.name)

    def _is_up(self, connection: Connection) -> None:
        self._on_up(connection.name)
