"""An HTTP server of ours on one address, and the reason why it cannot have that."""

from __future__ import annotations

import asyncio
import errno
import os

from aiohttp import web

from hermesd.adapters.errors import AdapterError, StartLater
from hermesd.adapters.hosts import authority
from hermesd.adapters.ports import holder_of

_MAY_PASS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
"""Another program has the port, or the interface is not up yet."""


async def serve(app: web.Application, host: str, port: int, *, what: str, fix: str, stop: float) -> web.AppRunner:
    """Begin to serve; the caller ends it with the runner's ``cleanup``, which waits ``stop`` seconds for handlers.

    A client that hangs up cancels its handler. Raises `StartLater` for what may pass by itself, and `AdapterError`.
    ``what`` goes after "cannot".
    """
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=stop, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        kind = StartLater if error.errno in _MAY_PASS else AdapterError
        raise kind(f"cannot {what} on {authority(host, port)}: {await _why_not(error, port)}", fix=fix) from error
    return runner


def port_of(runner: web.AppRunner) -> int:
    """The port that it really has, where 0 was asked for."""
    return int(runner.addresses[0][1])


async def _why_not(error: OSError, port: int) -> str:
    if error.errno != errno.EADDRINUSE:
        # asyncio puts a sentence of its own around the system's.
        return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)
    holder = await asyncio.to_thread(holder_of, port)
    return f"the port is in use by {holder}" if holder else "the port is in use"
