"""``hermesctl completion``: what a shell must know to complete the commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ..options import Options, verb

SHELLS = ("bash", "zsh", "fish")


@verb("completion", short_help="Completion for a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def command(options: Options, shell: str) -> None:
    """Print the script that completes hermesctl's commands and options in a shell.

    bash: eval "$(hermesctl completion bash)" in ~/.bashrc; zsh the same in ~/.zshrc; fish: hermesctl completion fish >
    ~/.config/fish/completions/hermesctl.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows all of SHELLS
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "hermesctl", "_HERMESCTL_COMPLETE").source())
