"""``hermesctl mcp login``: a person authorises hermesd at a server that wants OAuth."""

from __future__ import annotations

import contextlib

import click

from ..daemon import Daemon, home_of
from ..exits import CommandError
from ..options import Options, hint, verb


@verb("login", short_help="Authorise hermesd at a server with auth: oauth.")
@click.argument("server")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def login(options: Options, server: str, no_browser: bool) -> None:
    """Authorise hermesd to use SERVER (``auth: oauth``): prints an address to open in a browser, anywhere, and keeps
    the tokens under mcp-tokens/ in the home. hermesd need not run, and need not be restarted.
    """
    from .. import authorizing

    file = authorizing.authorise(home_of(options), server, browser=not no_browser, say=hint)
    with contextlib.suppress(CommandError):  # without a hermesd that runs, none holds earlier failures against it
        Daemon(options).ask("mcp.reset", {"server": server})
    if options.json:
        options.print_json({"schema": 1, "server": server, "file": str(file)})
    else:
        click.echo(f"hermesd may use {server} now; the tokens are in {file}")
