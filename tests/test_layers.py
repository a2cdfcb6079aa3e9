"""Who may import whom. The table is the documentation; the test reads every import of the tree, also inside functions.

A module is named as it is imported, without the leading ``hermesd.``: ``adapters.telegram.send``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP = ("adapters", "ipc", "supervisor", "workers")


@dataclass(frozen=True)
class Rule:
    """``who`` may import, of this project, only ``ours``; and of other libraries in ``guarded`` only ``theirs``.

    The longest matching ``who`` decides. A name covers everything below it.
    """

    who: str
    ours: tuple[str, ...]
    why: str
    theirs: tuple[str, ...] | None = None  # None: any


# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("ipc", ("ipc",), "ipc is a leaf that every process can afford", theirs=("msgpack",)),
    Rule("ipc.sockets", ("ipc",), "ipc is a leaf that every process can afford", theirs=("msgpack", "zmq")),
    Rule("workers.containment", ("workers.containment",), "containment is a leaf of the standard library", theirs=()),
    Rule("workers", ("ipc", "workers"), "a worker knows the wire and itself"),
    Rule("adapters", ("adapters",), "adapters know platforms only"),
    Rule("supervisor", (
        "ipc", "supervisor", "adapters.contract", "adapters.errors", "adapters.registry", "adapters.text",
        "adapters.media", "workers.elsewhere", "workers.spec",
    ), "it sees platforms through contract and registry, workers through the wire, containers through the pool"),
    Rule("supervisor.app", (
        "ipc", "supervisor", "adapters.contract", "adapters.errors", "adapters.media", "adapters.registry",
        "workers.spec", "workers.containment",
    ), "concrete adapters are named by the registry alone"),
    Rule("supervisor.pool", (
        "ipc", "supervisor", "workers.elsewhere", "workers.spec", "workers.containment",
    ), "the pool knows workers, not platforms"),
    Rule("supervisor.cli.hermesd", (
        "ipc", "supervisor", "workers.containment.prctl",
    ), "the command line builds the app and runs it"),
    Rule("supervisor.cli.hermesctl", (
        "ipc", "supervisor.cli", "supervisor.control.client", "supervisor.control.errors", "supervisor.instance",
    ), "hermesctl is a thin client of the control socket"),
    Rule("supervisor.cli.commands", (
        "ipc", "supervisor.cli", "supervisor.control", "supervisor.findings", "supervisor.instance",
    ), "hermesctl is a thin client of the control socket"),
    Rule("supervisor.cli.checkup", (
        "ipc", "supervisor.cli", "supervisor.config", "supervisor.control", "supervisor.findings", "supervisor.host",
        "supervisor.instance", "workers.containment",
    ), "doctor looks for itself, also where no hermesd runs: which containment a start would get, how the machine is"),
    Rule("supervisor.cli.mending", (
        "ipc", "supervisor.cli", "supervisor.control", "supervisor.findings", "supervisor.instance",
        "supervisor.pool.census", "supervisor.pool.leftovers",
    ), "doctor --fix mends by itself only where no hermesd runs"),
    Rule("supervisor.cli.configfile", (
        "supervisor.config", "supervisor.surroundings",
    ), "a configuration is checked as hermesd would, also where none runs"),
    Rule("supervisor.cli.authorizing", (
        "supervisor.cli", "supervisor.config", "supervisor.oauth",
    ), "a login needs a person and the MCP SDK, and no hermesd that runs"),
    Rule("supervisor.config", ("supervisor.config",), "the configuration is read before anything else exists"),
    Rule("supervisor.instance", (
        "ipc.version", "supervisor.instance",
    ), "the lock is taken before anything else exists"),
    Rule("supervisor.journal", (
        "ipc", "supervisor.journal", "supervisor.tasks", "adapters.contract",
    ), "the journal keeps what it is given"),
)

# Decides, never acts: no clock, no thread, no socket.
PURE: tuple[str, ...] = (
    "adapters.matrix.addressing", "adapters.matrix.buttons", "adapters.matrix.inbound", "adapters.matrix.outage",
    "adapters.matrix.outbound", "adapters.matrix.render", "adapters.matrix.threads",
    "ipc.link", "supervisor.access.policy", "supervisor.config.budget", "supervisor.delivery.albums",
    "supervisor.gateway.busy",
    "supervisor.gateway.reconcile", "supervisor.gateway.router", "supervisor.gateway.turn_life",
    "supervisor.journal.states", "supervisor.mcp.budget", "supervisor.mcp.plan",
    "supervisor.platforms.connection_life", "supervisor.pool.backoff",
    "supervisor.pool.worker_life", "supervisor.config.models", "supervisor.gateway.time_limits", "supervisor.in_effect",
    "supervisor.sessions.history", "supervisor.sessions.key", "workers.agents.hermes.results",
    "workers.agents.llm.conversation",
    "workers.agents.llm.failures", "workers.agents.llm.stream", "workers.agents.llm.summary",
    "workers.agents.llm.tools", "workers.agents.llm.window", "workers.bond", "workers.keeper.guard_life",
    "workers.keeper.ward_life", "workers.mcp.escalation", "workers.mcp.rest", "workers.mcp.slot", "workers.patience",
)
ACTING = ("asyncio", "multiprocessing", "random", "socket", "subprocess", "threading", "time", "zmq")

# First output within 150 ms: what these modules import, directly or by way of others, holds none of HEAVY.
LIGHT: tuple[str, ...] = ("supervisor.cli.hermesctl",)
HEAVY = ("zmq", "pydantic", "aiohttp", "mcp", "telegram", "discord", "mautrix", "openai")
# fmt: on

STDLIB = frozenset(__import__("sys").stdlib_module_names)


@dataclass(frozen=True)
class Import:
    """One import: ``importer`` and ``imported`` are dotted names; ``late`` if it stands inside a function."""

    path: str
    line: int
    importer: str
    imported: str
    late: bool = False
    typing_only: bool = False


def module_name(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imports_of(source: str, path: str, importer: str, is_package: bool) -> Iterator[Import]:
    """Every import statement, with relative ones made absolute; ``from a import b`` yields ``a.b``."""

    def names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        base = node.module or ""
        if node.level:
            parts = f"hermesd.{importer}".split(".")
            cut = len(parts) - node.level + (1 if is_package else 0)
            base = ".".join(parts[:cut] + ([base] if base else []))
        yield from (f"{base}.{alias.name}" for alias in node.names)

    def walk(node: ast.AST, late: bool, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                for name in names(child):
                    yield Import(path, child.lineno, importer, name, late, typing_only)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                yield from walk(child, late or inside, typing_only or guard)

    yield from walk(ast.parse(source, path), False, False)


def read_tree(root: Path) -> list[Import]:
    found: list[Import] = []
    for top in TOP:
        for path in sorted((root / top).rglob("*.py")):
            name = module_name(path, root)
            relative = path.relative_to(root).as_posix()
            found += imports_of(path.read_text("utf-8"), relative, name, path.name == "__init__.py")
    return found


def covers(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def rule_for(importer: str, rules: tuple[Rule, ...]) -> Rule | None:
    matching = [rule for rule in rules if covers(rule.who, importer)]
    return max(matching, key=lambda rule: len(rule.who), default=None)


def adapter_package(name: str) -> str | None:
    """``adapters.telegram`` for anything in it; None for the helpers that all adapters share."""
    parts = name.split(".")
    if len(parts) < 3 or parts[0] != "adapters" or parts[1] == "media":
        return None
    return ".".join(parts[:2])


def complaint(item: Import, rules: tuple[Rule, ...], folders: frozenset[str]) -> str | None:
    """The sentence about this import, None if it is fine. ``folders``: dotted names of the tree's packages."""
    where = f"{item.path}:{item.line}"
    top = item.imported.split(".")[0]
    if top in TOP:
        return f"{where} must not import {item.imported}: always import hermesd.{item.imported}, never the bare folder"
    rule = rule_for(item.importer, rules)
    if top != "hermesd":
        if rule is None or rule.theirs is None or top in STDLIB or top in rule.theirs:
            return None
        return f"{where} must not import {item.imported}: {rule.why}"
    ours = item.imported.removeprefix("hermesd").removeprefix(".")
    if ours.split(".")[0] not in TOP:
        return f"{where} must not import {item.imported}: hermesd is a namespace without modules of its own"
    if rule is not None and not any(covers(allowed, ours) for allowed in rule.ours):
        return f"{where} must not import hermesd.{ours}: {rule.why}"
    mine, theirs = adapter_package(item.importer), adapter_package(ours)
    if theirs in folders and mine in folders and mine != theirs:
        return f"{where} must not import hermesd.{ours}: an adapter knows its own platform only"
    return None


def complaints(items: list[Import], rules: tuple[Rule, ...], folders: frozenset[str]) -> list[str]:
    return [text for item in items if (text := complaint(item, rules, folders))]


def reached(start: str, items: list[Import], modules: frozenset[str]) -> dict[str, str]:
    """What importing ``start`` imports at once, each with the module that does it; late imports do not count."""
    by_importer: dict[str, list[Import]] = {}
    for item in items:
        if not item.late and not item.typing_only:
            by_importer.setdefault(item.importer, []).append(item)
    seen: dict[str, str] = {}
    waiting = [start]
    while waiting:
        importer = waiting.pop()
        for item in by_importer.get(importer, ()):
            name = item.imported.removeprefix("hermesd.")
            parts = name.split(".")
            # "from a import b" may mean module a.b or a name in module a, and runs every package on the way.
            for length in range(1, len(parts) + 1):
                part = ".".join(parts[:length])
                if part in seen or (item.imported.startswith("hermesd.") and part not in modules):
                    continue
                seen[part] = importer
                if part in modules:
                    waiting.append(part)
    return seen


@pytest.fixture(scope="module")
def tree() -> list[Import]:
    return read_tree(ROOT)


def folders_of(root: Path) -> frozenset[str]:
    return frozenset(module_name(path, root) for top in TOP for path in (root / top).rglob("__init__.py"))


def modules_of(root: Path) -> frozenset[str]:
    return frozenset(module_name(path, root) for top in TOP for path in (root / top).rglob("*.py"))


def test_every_import_keeps_to_the_layers(tree: list[Import]) -> None:
    found = complaints(tree, RULES, folders_of(ROOT))
    assert not found, "\n" + "\n".join(found)


def test_what_decides_has_no_means_to_act(tree: list[Import]) -> None:
    found = [
        f"{item.path}:{item.line} must not import {item.imported}: it decides; time and results are passed in"
        for item in tree
        if item.importer in PURE and item.imported.split(".")[0] in ACTING
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("light", LIGHT)
def test_the_control_client_starts_light(light: str, tree: list[Import]) -> None:
    modules = modules_of(ROOT)
    assert light in modules
    all_reached = reached(light, tree, modules)
    found = [f"importing {light} imports {name} by way of {all_reached[name]}" for name in HEAVY if name in all_reached]
    assert not found, "\n" + "\n".join(found)


def test_each_rule_names_something_that_exists() -> None:
    modules = modules_of(ROOT)
    unknown = [rule.who for rule in RULES if rule.who not in modules]
    assert len({rule.who for rule in RULES}) == len(RULES), "one rule for each"
    unknown += [name for name in PURE if name not in modules]
    assert not unknown


class TestTheRulesCatch:
    """Small examples, so that the test above is known to be able to fail."""

    FOLDERS = frozenset({"adapters", "adapters.telegram", "adapters.matrix"})

    def check(self, importer: str, source: str, is_package: bool = False) -> list[str]:
        path = importer.replace(".", "/") + ("/__init__.py" if is_package else ".py")
        return complaints(list(imports_of(source, path, importer, is_package)), RULES, self.FOLDERS)

    def test_an_adapter_that_reaches_into_the_supervisor(self) -> None:
        assert self.check("adapters.telegram.send", "from hermesd.supervisor import sessions") == [
            "adapters/telegram/send.py:1 must not import hermesd.supervisor.sessions: adapters know platforms only"
        ]

    def test_an_import_inside_a_function(self) -> None:
        [sentence] = self.check("workers.main", "def f():\n    import hermesd.supervisor.app\n")
        assert "workers/main.py:2 must not import hermesd.supervisor.app" in sentence

    def test_a_bare_folder(self) -> None:
        [sentence] = self.check("supervisor.app", "from ipc import messages")
        assert "always import hermesd.ipc.messages, never the bare folder" in sentence

    def test_a_relative_import_that_leaves_its_package(self) -> None:
        [sentence] = self.check("workers.containment.cgroup", "from ..spec import WorkerSpec")
        assert "must not import hermesd.workers.spec" in sentence
        [sentence] = self.check("workers.containment", "from ..spec import WorkerSpec", is_package=True)
        assert "must not import hermesd.workers.spec" in sentence

    def test_one_adapter_that_imports_another(self) -> None:
        [sentence] = self.check("adapters.telegram.adapter", "from hermesd.adapters.matrix.crypto import key")
        assert sentence.endswith("an adapter knows its own platform only")

    def test_a_concrete_adapter_in_the_supervisor(self) -> None:
        [sentence] = self.check("supervisor.app", "from hermesd.adapters.telegram.adapter import make")
        assert sentence.endswith("concrete adapters are named by the registry alone")

    def test_zmq_outside_the_socket_module(self) -> None:
        assert self.check("ipc.codec", "import zmq")
        assert not self.check("ipc.sockets", "import zmq")

    def test_a_library_in_the_containment(self) -> None:
        assert self.check("workers.containment.subreaper", "import psutil")
        assert not self.check("workers.containment.subreaper", "import ctypes, os")

    def test_nothing_in_what_is_allowed(self) -> None:
        assert not self.check("adapters.telegram.adapter", "from .inbound import parse\nfrom ..contract import Inbound")
        assert not self.check("supervisor.pool.pool", "from hermesd.workers.spec import WorkerSpec")

    def test_a_heavy_library_by_way_of_another_module(self) -> None:
        items = [
            Import("a", 1, "supervisor.cli.hermesctl", "hermesd.supervisor.config.load"),
            Import("b", 1, "supervisor.config.load", "pydantic"),
            Import("b", 2, "supervisor.config.load", "zmq", late=True),
        ]
        modules = frozenset({"supervisor", "supervisor.cli.hermesctl", "supervisor.config", "supervisor.config.load"})
        found = reached("supervisor.cli.hermesctl", items, modules)
        assert found["pydantic"] == "supervisor.config.load"
        assert "zmq" not in found
