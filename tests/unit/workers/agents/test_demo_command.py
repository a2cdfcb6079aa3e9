"""How the demo agent reads what people type."""

import pytest

from hermesd.workers.agents.demo import COMMANDS
from hermesd.workers.agents.demo_command import Command, Mistake, parse, parse_call, parse_count

USAGES = {name: entry.usage for name, entry in COMMANDS.items()}


@pytest.mark.parametrize("text", ["", "hello", "wow!", "!", "!!", "! help", "!1", "say !help"])
def test_other_text_is_no_command(text):
    assert parse(text, USAGES) is None


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("!help", Command("help")),
        ("  !HELP \n", Command("help")),
        ("!sleep 3", Command("sleep", "3")),
        ("!sleep", Command("sleep")),
        ("!ask  may I?  ", Command("ask", "may I?")),
        ('!call\na.b\n{"x":\n1}', Command("call", 'a.b\n{"x":\n1}')),
    ],
)
def test_commands_are_read_with_their_argument(text, command):
    assert parse(text, USAGES) == command


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("!halp", "There is no !halp; did you mean !help? See !help."),
        ("!xyzzy", "There is no !xyzzy. See !help."),
        ("!ask", "!ask needs more: !ask TEXT"),
        ("!call", "!call needs more: !call SERVER.TOOL {json}"),
        ("!tools all", "!tools takes nothing after it."),
    ],
)
def test_a_mistake_says_what_would_be_right(text, said):
    with pytest.raises(Mistake) as mistake:
        parse(text, USAGES)
    assert str(mistake.value) == said


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("time.now", ("time", "now", {})),
        ('time.now {"a": [1, null]}', ("time", "now", {"a": [1, None]})),
        ('my-server.some.tool\n{"b": "c d"}', ("my-server", "some.tool", {"b": "c d"})),
    ],
)
def test_a_call_names_server_tool_and_arguments(argument, call):
    assert parse_call(argument) == call


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("time", "'time' does not name a tool"),
        (".x", "does not name a tool"),
        ("x.", "does not name a tool"),
        ("a.b {bad", "not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2"),
        ("a.b [1]", "must be a JSON object"),
    ],
)
def test_a_call_that_cannot_be_read_says_why(argument, said):
    with pytest.raises(Mistake) as mistake:
        parse_call(argument)
    assert said in str(mistake.value)


def test_a_count_has_a_default_and_bounds():
    assert parse_count("", 5, 10) == 5
    assert parse_count("2.5", 5, 10) == 2.5
    for bad in ("-1", "11", "many", "nan", "inf"):
        with pytest.raises(Mistake, match="is not a number from 0 to 10"):
            parse_count(bad, 5, 10)
