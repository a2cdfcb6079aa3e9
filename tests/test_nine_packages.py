"""The nine packages that this project is to be built with, and where each earns its place.

Read from the source, so that a package whose work went somewhere else is noticed; a role is a file that imports the
package when it runs, and something of the package that it uses there.
"""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("adapters", "ipc", "supervisor", "workers")


@dataclass(frozen=True)
class Role:
    """What a distribution does for us, in which file, by which of its names."""

    distribution: str
    module: str
    file: str
    uses: str
    what: str


ROLES = (
    Role("pyzmq", "zmq", "ipc/sockets.py", "ROUTER", "hermesd's end of the wire to its workers"),
    Role("pyzmq", "zmq", "ipc/sockets.py", "DEALER", "a worker's end of it"),
    Role("msgpack", "msgpack", "ipc/codec.py", "packb", "the envelopes on that wire"),
    Role("msgpack", "msgpack", "supervisor/control/protocol.py", "packb", "the frames of the control socket"),
    Role("psutil", "psutil", "supervisor/host.py", "virtual_memory", "memory of the machine, in top and doctor"),
    Role("psutil", "psutil", "supervisor/host.py", "disk_usage", "the disk of the home, in top and doctor"),
    Role("psutil", "psutil", "supervisor/host.py", "cpu_times", "how busy the machine is, in top"),
    Role("psutil", "psutil", "supervisor/pool/processes_by_psutil.py", "process_iter", "census without /proc"),
    Role("psutil", "psutil", "supervisor/instance/process.py", "Process", "identity without /proc"),
    Role("psutil", "psutil", "tests/conftest.py", "Process", "a second count of what a test has left"),
    Role(
        "multiprocessing-logging", "multiprocessing_logging", "workers/child_logs.py", "MultiProcessingHandler",
        "what an agent's own forked children log",
    ),
    Role("mautrix", "mautrix", "adapters/matrix/syncing.py", "Client", "a Matrix account's client, and its sync"),
    Role("mautrix", "mautrix", "adapters/matrix/calls.py", "errors", "what Matrix' errors mean"),
    Role("click", "click", "supervisor/cli/hermesctl.py", "Group", "the commands of hermesctl"),
    Role("click", "click", "supervisor/cli/hermesd.py", "command", "the command line of hermesd"),
    Role("python-telegram-bot", "telegram", "adapters/telegram/polling.py", "Bot", "the long poll of a Telegram bot"),
    Role(
        "python-telegram-bot", "telegram", "adapters/telegram/buttons.py", "InlineKeyboardMarkup",
        "buttons under a question",
    ),
    Role("discord.py", "discord", "adapters/discord/client.py", "Client", "the connection to Discord"),
    Role("discord.py", "discord", "adapters/discord/buttons.py", "ui", "buttons under a question"),
    Role("pytest", "pytest", "tests/conftest.py", "fixture", "the tests"),
)  # fmt: skip

EXTRAS = ("telegram", "discord", "matrix")


def imported(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    """(module, name in it or "", name here) of every import that happens when the program runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", alias.asname or alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name, alias.asname or alias.name) for alias in node.names)
        else:
            yield from imported(node)


def uses(source: str, module: str, name: str) -> bool:
    """Whether a program imports the module when it runs, and says ``module.name``, or ``name`` if it imported that."""
    tree = ast.parse(source)
    for found, part, here in imported(tree):
        if found.partition(".")[0] != module:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == name and ast.unparse(node.value) == here and not part:
                return True
            if isinstance(node, ast.Name) and node.id == here and part == name:
                return True
    return False


def declared() -> dict[str, str]:
    """Every distribution in setup.cfg, with the place of its first line: "install_requires" or the name of an extra."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    places = {"install_requires": config["options"]["install_requires"], **config["options.extras_require"]}
    return {
        re.split(r"[\s\[<>=]", line, maxsplit=1)[0]: place
        for place, lines in reversed(places.items())
        for line in lines.split("\n")
        if line and not line.startswith("hermesd[")
    }


def test_there_are_nine() -> None:
    with_role = {role.distribution for role in ROLES}
    assert len(with_role) == 9


@pytest.mark.parametrize("role", ROLES, ids=lambda role: f"{role.distribution} {role.uses} in {role.file}")
def test_each_has_its_role(role: Role) -> None:
    source = (ROOT / role.file).read_text("utf-8")
    assert uses(source, role.module, role.uses), f"{role.file} no longer uses {role.module}.{role.uses}: {role.what}"


def test_each_is_declared_where_it_is_needed() -> None:
    places = declared()
    for role in ROLES:
        wanted = "install_requires" if role.file.startswith(FOLDERS) else None
        if (platform := role.file.split("/")[1]) in EXTRAS and role.file.startswith("adapters/"):
            wanted = platform  # who does not use a platform does not install its library
        assert role.distribution in places, f"setup.cfg does not name {role.distribution}"
        assert wanted in (None, places[role.distribution]), f"{role.file} needs {role.distribution} at every user's"


class TestTheCheckCatches:
    """Small examples, so that the tests above are known to be able to fail."""

    def test_an_import_that_is_left_without_its_use(self) -> None:
        assert uses("import psutil\npsutil.disk_usage('/')", "psutil", "disk_usage")
        assert not uses("import psutil\npsutil.cpu_times()", "psutil", "disk_usage")

    def test_an_import_for_type_checkers_alone(self) -> None:
        source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from psutil import Process\nx: Process"
        assert not uses(source, "psutil", "Process")

    def test_a_word_in_a_comment_or_another_modules_name(self) -> None:
        assert not uses("import msgpack\n# zmq.ROUTER\nmsgpack.ROUTER", "zmq", "ROUTER")

    def test_a_late_import_by_name_is_a_use_like_any_other(self) -> None:
        assert uses("def f():\n    from psutil import Process\n    return Process()", "psutil", "Process")
