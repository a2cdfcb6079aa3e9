"""``hermesctl mcp login``: reads the configuration as hermesd does, and keeps what the login brings where it looks."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from hermesd.supervisor.config.errors import ConfigError, nearest
from hermesd.supervisor.config.loader import load
from hermesd.supervisor.config.settings import McpServer
from hermesd.supervisor.oauth.errors import OAuthError
from hermesd.supervisor.oauth.store import Store

from .exits import CommandError, Exit


def authorise(home: Path, name: str, *, browser: bool, say: Callable[[str], None]) -> Path:
    """Returns the file with the tokens. Raises `CommandError`."""
    server = _configured(home, name)
    store = Store(home)
    from hermesd.supervisor.oauth.login import login  # the SDK takes a second to import

    def show(address: str) -> None:
        say(f"Open this address in a browser, and allow hermesd to use {name}:\n\n{address}\n")
        say("If that browser is on another machine, it ends at a page that it cannot load:\npaste the address here.")
        if browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin"):
            webbrowser.open(address)

    try:
        asyncio.run(login(name, server, store, show=show, pasted=_pasted))
    except OAuthError as error:
        raise CommandError(Exit.FAILED, "login", str(error), fix=f"hermesctl mcp login {name} tries again") from error
    except OSError as error:
        raise CommandError(Exit.FAILED, "login", f"cannot write the tokens to {store.directory}: {error}") from error
    return store.file_of(name)


def _configured(home: Path, name: str) -> McpServer:
    try:
        servers = load(home, None, os.environ).settings.mcp_servers
    except ConfigError as error:
        raise CommandError(Exit.CONFIG, "config", str(error)) from error
    server = servers.get(name)
    if server is None:
        near = nearest(name, servers)
        fix = f"did you mean {near}?" if near else f"configured: {', '.join(sorted(servers)) or 'none'}"
        raise CommandError(Exit.FAILED, "no_such_server", f"there is no MCP server {name!r}", fix=fix)
    if server.auth != "oauth" or not server.url:
        fix = f"mcp_servers.{name} needs url: and auth: oauth"
        raise CommandError(Exit.FAILED, "no_oauth", f"the MCP server {name!r} is not configured for OAuth", fix=fix)
    return server


async def _pasted() -> str:
    """The next line with a code in it; for ever where nothing is to be read."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def arrived(text: str) -> None:
        if not line.done():
            line.set_result(text)

    def read() -> None:
        for text in sys.stdin:
            if "code=" in text or "error=" in text:
                loop.call_soon_threadsafe(arrived, text)
                return

    threading.Thread(target=read, name="pasted address", daemon=True).start()
    return await line
