"""``hermesctl config``: the configuration, without a running hermesd."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .. import words
from ..daemon import home_of
from ..exits import Exit
from ..options import Options, verb, with_global_options


@with_global_options
@click.group("config")
def command() -> None:
    """Check a configuration, or print what may stand in one. hermesd need not run."""


@verb("check", short_help="Whether hermesd could start with it.")
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
def check(options: Options, file: Path | None) -> int:
    """Whether hermesd could start with FILE (default: config.yaml of the home), .env and the environment of this shell,
    and whether what it names is there: commands of MCP servers, platforms, the agent, which is imported.

    Exit status: 0 it could, 6 it could not.
    """
    from .. import configfile

    home = home_of(options)
    found = configfile.check(home, file)
    if options.json:
        options.print_json(
            {
                "schema": 1,
                "valid": found.valid,
                "files": [str(path) for path in found.files],
                "problems": [configfile.as_json(severity, problem) for severity, problem in found.problems],
            }
        )
    else:
        for severity, problem in found.problems:
            click.echo(words.safe(problem.render(severity), newlines=True), err=True)
        if found.valid:
            click.echo(f"the configuration of {file or home} is fine")
    return Exit.DONE if found.valid else Exit.CONFIG


@verb("schema", short_help="The JSON Schema of config.yaml.")
def schema(options: Options) -> None:
    """The JSON Schema of config.yaml, for editors that complete and check it."""
    from .. import configfile

    click.echo(json.dumps(configfile.schema(), indent=None if options.json else 2))


for _subcommand in (check, schema):
    command.add_command(_subcommand)
