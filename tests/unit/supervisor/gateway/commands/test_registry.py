from __future__ import annotations

import pytest

from hermesd.supervisor.gateway.commands.registry import NAME, help_text, parse
from hermesd.supervisor.gateway.commands.table import TABLE


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/stop", ("stop", "")),
        ("  /Stop  ", ("stop", "")),
        ("/approve red wine", ("approve", "red wine")),
        ("/approve\nred", ("approve", "red")),
        ("/new@my_bot", ("new", "")),
        ("/new@my_bot now", ("new", "now")),
        ("/some_thing", ("some-thing", "")),
        ("/etc/passwd", None),
        ("/", None),
        ("/1", None),
        ("//stop", None),
        ("say /stop", None),
        ("", None),
        ("/" + "a" * 33, None),
        ("/stop!", None),
    ],
)
def test_what_is_a_command(text: str, found: tuple[str, str] | None) -> None:
    assert parse(text) == found


def test_every_name_of_the_table_can_be_written_and_is_there_once() -> None:
    names = [name for command in TABLE for name in (command.name, *command.aliases)]
    assert len(names) == len(set(names))
    for name in names:
        assert NAME.fullmatch(f"/{name}")
        assert parse(f"/{name}") == (name, "")


def test_help_has_a_line_for_each_command() -> None:
    lines = help_text(TABLE).splitlines()
    assert len(lines) == len(TABLE)
    assert lines[0] == "/new, /reset - begin a new conversation"
    assert "/approve [CHOICE] - answer the agent's question, with yes or with a choice" in lines
