"""Reads a YAML file into plain values and remembers where each was written.

It composes the file with ruamel.yaml and builds the values from the nodes, for these know the place of every key and
the source text of every number. Strings that YAML 1.1 took for booleans (``yes``, ``on``) stay strings here; the
settings' types understand them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from .errors import ConfigError, Origin, Problem

MAX_BYTES = 4 << 20
"""A configuration is pages, not megabytes: what is larger was named by mistake."""

MAX_VALUES = 100_000

KeyPath = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"


class SourceInt(int):
    """A whole number that remembers how it was written (``0x1F``)."""

    source: str


class SourceFloat(float):
    """A number that remembers how it was written (``1.10``)."""

    source: str


@dataclass(slots=True)
class Document:
    """A mapping of plain values with the origin of each: ``origins[("hermesd", "workers", "max")]``."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    keys: dict[KeyPath, Origin] = field(default_factory=dict)  # where the key itself stands


def read_text(path: Path, what: str) -> str:
    """The file's text, without a byte order mark. Raises ConfigError for what cannot be read, FileNotFoundError."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        fix = f"make it a file that this user can read: chmod u+r {path}"
        problem = Problem("", f"cannot read {what}: {error.strerror}", fix, Origin(str(path)))
        raise ConfigError([problem]) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError([Problem("", f"{what} is larger than {MAX_BYTES >> 20} MiB", "", Origin(str(path)))])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"{what} is not UTF-8: byte 0x{raw[error.start]:02x}"
        problem = Problem("", message, "save it with the encoding UTF-8", Origin(str(path), line, column))
        raise ConfigError([problem]) from error


def parse(text: str, file: str) -> Document:
    """Parse YAML. Raises ConfigError for broken YAML, duplicate keys and a file that is no mapping."""
    try:
        root = YAML().compose(text)
        return _Builder(file).build(root)
    except MarkedYAMLError as error:
        raise ConfigError([_broken(error, file)]) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"broken YAML: character 0x{error.character:02x} is not allowed"
        raise ConfigError([Problem("", message, "remove it", Origin(file, line))]) from error
    except YAMLError as error:
        raise ConfigError([Problem("", f"broken YAML: {error}", "", Origin(file))]) from error
    except RecursionError as error:
        raise ConfigError([Problem("", "broken YAML: nested too deeply", "", Origin(file))]) from error


def _broken(error: MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    origin = Origin(file, mark.line + 1, mark.column + 1) if mark else Origin(file)
    reason = error.problem or "not understood"
    if "'\\t'" in reason:
        return Problem("", "broken YAML: a tab character", "indent with spaces; YAML allows no tabs there", origin)
    if "another document" in reason:
        return Problem("", "broken YAML: a second document", "keep one document in the file, without ---", origin)
    fix = (
        "put the value in quotes if it holds a colon" if "mapping values" in reason else "check quotes and indentation"
    )
    context = f" {error.context}" if error.context else ""
    return Problem("", f"broken YAML: {reason}{context}", fix, origin)


class _Builder:
    """Turns nodes into values; one use per file."""

    def __init__(self, file: str):
        self._file = file
        self._problems: list[Problem] = []
        self._document = Document()
        self._open: list[Node] = []

    def build(self, root: Node | None) -> Document:
        if root is None or (isinstance(root, ScalarNode) and root.tag == _TAG + "null"):
            return self._document
        if not isinstance(root, MappingNode):
            fix = "start with a section such as 'hermesd:'"
            raise ConfigError([Problem("", "the file is not a mapping of keys to values", fix, self._origin(root))])
        self._document.values = self._value(root, ())
        if self._problems:
            raise ConfigError(self._problems)
        return self._document

    def _origin(self, node: Node) -> Origin:
        return Origin(self._file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _value(self, node: Node, path: KeyPath) -> Any:
        self._document.origins[path] = self._origin(node)
        if len(self._document.origins) > MAX_VALUES:
            # Aliases of aliases: a few lines can stand for billions of values.
            raise ConfigError([Problem("", f"more than {MAX_VALUES} values", "", self._origin(node))])
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if any(node is ancestor for ancestor in self._open):
            self._complain(path, "is an alias of a section that it lies in", node, at=self._document.keys.get(path))
            return None
        self._open.append(node)
        try:
            if isinstance(node, SequenceNode):
                return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.pop()

    def _mapping(self, node: Node, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        # What is merged in comes first, so that the keys of the mapping itself win.
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                self._merge(value_node, path, values)
        first: dict[str, Origin] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                continue
            if not isinstance(key_node, ScalarNode):
                self._complain(path, "a key must be a word, not a list or mapping", key_node)
                continue
            key = key_node.value
            where = (*path, key)
            if key in first:
                message = f"appears twice, first in line {first[key].line}"
                self._complain(where, message, key_node, "keep one of them")
                continue
            first[key] = self._document.keys[where] = self._origin(key_node)
            values[key] = self._value(value_node, where)
            if values[key] is None:
                # Nothing after the colon: the parser places it where the next thing starts.
                self._document.origins[where] = first[key]
        return values

    def _merge(self, source: Node, path: KeyPath, values: dict[str, Any]) -> None:
        # Of several merged mappings the first one wins.
        for part in reversed(source.value) if isinstance(source, SequenceNode) else [source]:
            if isinstance(part, MappingNode):
                values.update(self._mapping(part, path))
            else:
                self._complain(path, "<< needs a mapping", part)

    def _complain(self, path: KeyPath, message: str, node: Node, fix: str = "", at: Origin | None = None) -> None:
        self._problems.append(Problem(".".join(map(str, path)), message, fix, at or self._origin(node)))


def _scalar(node: ScalarNode) -> Any:
    text: str = node.value
    kind = node.tag.removeprefix(_TAG) if node.tag else "str"
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    try:
        if kind == "int":
            digits = text.replace("_", "")
            base = 0 if digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10
            number = SourceInt(int(digits, base))
            number.source = text
            return number
        if kind == "float":
            real = SourceFloat(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
            real.source = text
            return real
    except ValueError:
        return text
    return text
