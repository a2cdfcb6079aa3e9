"""Readers and writers made from a dataclass's annotations, once per class.

A reader turns what MessagePack gave (maps, lists, scalars) into the dataclass; a writer does the reverse. Both check
the whole value and apply the same limits, so that what one process may write the other can read: a frame that passed
the writer and were refused by the reader would be resent for ever.

Annotations that the wire carries: ``str``, ``int``, ``float``, ``bool``, ``bytes``, ``Any``, ``X | None``,
``tuple[X, ...]``, ``dict[str, X]`` and other dataclasses.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from math import isfinite
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from .errors import LocalError

MAX_ITEMS: Final = 65536
"""Entries of one list or map. The unpacker allocates a list by the length that its header claims."""

MAX_DEPTH: Final = 32
"""Lists and maps inside each other, in a field annotated ``Any``."""

_SCALARS: Final = frozenset({str, int, float, bool, bytes, type(None)})


class Misfit(Exception):
    """A value does not fit its annotation. The codec turns it into the error of whoever is at fault."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{path} {reason}".lstrip().encode("ascii", "backslashreplace").decode())
        self.reason = reason
        self.path = path

    def inside(self, name: str) -> Misfit:
        """The same, seen from one level further out: ``text is ...`` becomes ``history.3.text is ...``."""
        return Misfit(self.reason, f"{name}.{self.path}".rstrip("."))


Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Schema:
    """How one dataclass is read and written. ``read`` takes the map apart: hand it one that nobody else holds."""

    names: tuple[str, ...]
    read: Convert
    write: Convert


_SCHEMAS: Final[dict[type, Schema]] = {}


def schema_of(cls: type) -> Schema:
    """The schema of a dataclass. Raises `LocalError` for an annotation that the wire cannot carry."""
    schema = _SCHEMAS.get(cls)
    if schema is None:
        schema = _SCHEMAS[cls] = _compile(cls, ())
    return schema


def _compile(cls: type, inside: tuple[type, ...]) -> Schema:
    if not is_dataclass(cls):
        raise LocalError(f"cannot make a schema of {cls.__name__}: it is no dataclass")
    if cls in inside:
        raise LocalError(f"cannot make a schema of {cls.__name__}: it contains itself")
    hints = get_type_hints(cls)
    readers: list[tuple[str, Convert, Callable[[], Any] | None]] = []
    writers: list[tuple[str, Convert]] = []
    for entry in fields(cls):
        if not entry.init or entry.kw_only:
            raise LocalError(f"cannot make a schema of {cls.__name__}: {entry.name} is no positional argument of it")
        read, write = _converters(hints[entry.name], f"{cls.__name__}.{entry.name}", (*inside, cls))
        readers.append((entry.name, read, _default(entry)))
        writers.append((entry.name, write))
    names = tuple(name for name, _ in writers)
    return Schema(names, _dataclass_reader(cls, tuple(readers)), _dataclass_writer(cls, tuple(writers)))


def _default(entry: Field[Any]) -> Callable[[], Any] | None:
    """What makes the default of a field; None if it has none."""
    if entry.default_factory is not MISSING:
        return entry.default_factory
    if entry.default is not MISSING:
        value = entry.default
        return lambda: value
    return None


def _dataclass_reader(cls: type, readers: tuple[tuple[str, Convert, Callable[[], Any] | None], ...]) -> Convert:
    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise Misfit(f"is {_kind(value)}, not a map")
        arguments = []
        take = value.pop
        name = ""
        try:
            for name, read_field, default in readers:
                item = take(name, MISSING)
                if item is not MISSING:
                    arguments.append(read_field(item))
                elif default is not None:
                    arguments.append(default())
                else:
                    raise Misfit("is missing")
        except Misfit as misfit:
            raise misfit.inside(name) from None
        if value:
            raise Misfit(f"has an unknown field {next(iter(value))!a:.60}")
        try:
            return cls(*arguments)
        except (TypeError, ValueError) as error:  # a __post_init__ that checks more than types
            raise Misfit(f"is no {cls.__name__}: {error}") from error

    return read


def _dataclass_writer(cls: type, writers: tuple[tuple[str, Convert], ...]) -> Convert:
    def write(value: Any) -> Any:
        if type(value) is not cls:
            raise Misfit(f"is {_kind(value)}, not a {cls.__name__}")
        name = ""
        plain = {}
        try:
            for name, write_field in writers:
                plain[name] = write_field(getattr(value, name))
        except Misfit as misfit:
            raise misfit.inside(name) from None
        return plain

    return write


def _converters(hint: Any, where: str, inside: tuple[type, ...]) -> tuple[Convert, Convert]:
    """Reader and writer of one annotation."""
    if hint in _SCALAR_CONVERTERS:
        convert = _SCALAR_CONVERTERS[hint]
        return convert, convert
    if hint is Any:
        return _free, _free
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
        (other,) = (argument for argument in arguments if argument is not type(None))
        read, write = _converters(other, where, inside)
        return _optional(read), _optional(write)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        read, write = _converters(arguments[0], where, inside)
        return _array(read, tuple), _array(write, list)
    if origin is dict and arguments[0] is str:
        if arguments[1] is Any:
            return _free_map, _free_map
        read, write = _converters(arguments[1], where, inside)
        return _map(read), _map(write)
    if isinstance(hint, type) and is_dataclass(hint):
        schema = _compile(hint, inside)
        return schema.read, schema.write
    raise LocalError(f"cannot make a schema: {where} is annotated {hint!r}, which the wire cannot carry")


# ---- one converter per annotation; each is a reader and a writer where nothing else is said ------------------------


def _text(value: Any) -> Any:
    if type(value) is str or isinstance(value, str):
        return value
    raise Misfit(f"is {_kind(value)}, not a text")


def _integer(value: Any) -> Any:
    if type(value) is int or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise Misfit(f"is {_kind(value)}, not an integer")


def _number(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise Misfit("is too large a number") from None
        if isfinite(number):
            return number
        raise Misfit("is not a finite number")
    raise Misfit(f"is {_kind(value)}, not a number")


def _boolean(value: Any) -> Any:
    if value is True or value is False:
        return value
    raise Misfit(f"is {_kind(value)}, not true or false")


def _octets(value: Any) -> Any:
    if isinstance(value, bytes):
        return value
    raise Misfit(f"is {_kind(value)}, not bytes")


_SCALAR_CONVERTERS: Final[dict[Any, Convert]] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _boolean,
    bytes: _octets,
}


def _optional(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _array(convert: Convert, made: type) -> Convert:
    def convert_all(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Misfit(f"is {_kind(value)}, not a list")
        if len(value) > MAX_ITEMS:
            raise Misfit(f"has {len(value)} entries, {MAX_ITEMS} at most")
        done: list[Any] = []
        try:
            for item in value:
                done.append(convert(item))
        except Misfit as misfit:
            raise misfit.inside(str(len(done))) from None
        return made(done)

    return convert_all


def _map(convert: Convert) -> Convert:
    def convert_all(value: Any) -> Any:
        _check_map(value)
        done: dict[str, Any] = {}
        key = ""
        try:
            for key, item in value.items():
                done[key] = convert(item)
        except Misfit as misfit:
            raise misfit.inside(f"{key:.60}") from None
        return done

    return convert_all


def _check_map(value: Any) -> None:
    if not isinstance(value, dict):
        raise Misfit(f"is {_kind(value)}, not a map")
    if len(value) > MAX_ITEMS:
        raise Misfit(f"has {len(value)} entries, {MAX_ITEMS} at most")
    for key in value:
        if not isinstance(key, str):
            raise Misfit(f"has a key that is {_kind(key)}, not a text")


def _free_map(value: Any) -> Any:
    _check_map(value)
    for item in value.values():
        _check_free(item, MAX_DEPTH - 1)
    return value


def _free(value: Any) -> Any:
    _check_free(value, MAX_DEPTH)
    return value


def _check_free(value: Any, depth: int) -> None:
    """Plain data all the way down: no extension type of MessagePack, no object of ours, no cycle."""
    if type(value) in _SCALARS or isinstance(value, (str, int, float, bytes)):
        return
    if depth == 0:
        raise Misfit(f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        _check_map(value)
        for item in value.values():
            _check_free(item, depth - 1)
    elif isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        if len(value) > MAX_ITEMS:
            raise Misfit(f"has {len(value)} entries, {MAX_ITEMS} at most")
        for item in value:
            _check_free(item, depth - 1)
    else:
        raise Misfit(f"holds {_kind(value)}, which the wire cannot carry")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"of type {type(value).__name__}"
