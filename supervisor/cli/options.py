"""The options that every command of ``hermesctl`` takes, before the verb and after it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from . import render, words
from .exits import CommandError, Exit

Command = TypeVar("Command", bound=click.Command)

# A name that is followed by a verb or an option, or that is the program of systemd-run; else it is no command.
_OURS = re.compile(r"\bhermesctl(?= (?:status|ps|top|logs|chat|sessions|stop|restart|doctor|version)\b)"
                   r"|\bhermesd(?= --(?!home\b))|(?<=Delegate=yes )hermesd\b")  # fmt: skip


@dataclass(slots=True)
class Options:
    """What the command line said; commands get it as their first argument."""

    home: Path | None = None
    json: bool = False
    color: str = "auto"
    timeout: float | None = None  # seconds, None: the command's own

    @property
    def paint(self) -> render.Paint:
        return render.Paint(render.wants_color(self.color, sys.stdout))

    def suggest(self, text: str) -> str:
        """A text with commands of ours in it; they get the --home that this command was given."""
        if self.home is None:
            return text
        return _OURS.sub(lambda match: f"{match[0]} --home {shlex.quote(str(self.home))}", text)

    def print_json(self, document: object) -> None:
        """``--json``: one document; indented where a person looks at it."""
        render.json_line(document, indent=2 if sys.stdout.isatty() else None)


class Duration(click.ParamType[float]):
    """``30``, ``30s``, ``10m``, ``1h30m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return words.parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Both places write into one `Options`; the one after the verb wins."""
    options = ctx.ensure_object(Options)
    if value is not None and value is not False:
        setattr(options, str(param.name), value)


ONE_DOCUMENT = 'One JSON document with "schema": 1 on stdout.'


def _global_options(json_help: str) -> list[click.Option]:
    return [
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path, readable=False),
            help="The home of the hermesd that is meant (default: $HERMES_HOME or ~/.hermes).",
            expose_value=False,
            callback=_remember,
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            help=json_help,
            expose_value=False,
            callback=_remember,
        ),
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            help="By itself only on a terminal, and not if NO_COLOR is set.",
            expose_value=False,
            callback=_remember,
        ),
        click.Option(
            ["--timeout"],
            type=Duration(),
            help="How long to wait before giving up.",
            expose_value=False,
            callback=_remember,
        ),
    ]


def with_global_options(command: Command, json_help: str = ONE_DOCUMENT) -> Command:
    """Adds them to a command or group. ``json_help`` says what --json prints."""
    command.params.extend(_global_options(json_help))
    return command


Body = Callable[..., int | None]


def verb(name: str, *, json_help: str = ONE_DOCUMENT, **settings: Any) -> Callable[[Body], click.Command]:
    """A command whose function takes `Options` first and returns its exit status (None: 0)."""

    def decorate(body: Body) -> click.Command:
        @wraps(body)
        def run(*args: Any, **kwargs: Any) -> int | None:
            context = click.get_current_context()
            options = context.ensure_object(Options)
            context.color = options.paint.on  # else click takes colours away where stdout is no terminal
            try:
                return body(options, *args, **kwargs)
            except CommandError as error:
                error.fix = options.suggest(error.fix)
                raise

        make: Callable[[Body], click.Command] = click.command(name, **settings)
        return with_global_options(make(run), json_help)

    return decorate


def hint(text: str) -> None:
    """A line beside the data: progress, warnings, what to do next."""
    context = click.get_current_context(silent=True)
    options = None if context is None else context.find_object(Options)
    click.echo(text if options is None else options.suggest(text), err=True)


def usage(message: str) -> NoReturn:
    raise CommandError(Exit.USAGE, "usage", message)


def confirm(question: str, yes: bool) -> None:
    """Asks a person. Without a terminal nobody is asked: then --yes must be given."""
    if yes:
        return
    if not sys.stdin.isatty():
        usage(f"{question} Nobody can be asked without a terminal; give --yes")
    if not click.confirm(question, err=True):
        raise CommandError(Exit.FAILED, "declined", "nothing was done")
