"""From the name of an agent in the configuration to its factory, and how its methods are called."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from hermesd.workers.agents.calls import has, optional, run_turn
from hermesd.workers.agents.contract import Factory
from hermesd.workers.errors import NoAgent

__all__ = ["BUILT_IN", "GROUP", "NoAgent", "has", "load", "optional", "run_turn"]

GROUP = "hermesd.agents"  # the entry-point group in which other distributions offer agents by a short name

BUILT_IN = {
    "demo": "hermesd.workers.agents.demo:make",
    "hermes": "hermesd.workers.agents.hermes.agent:make",
    "llm": "hermesd.workers.agents.llm.agent:make",
}


def load(name: str, agent_path: Iterable[str] = ()) -> Factory:
    """The factory that ``hermesd.agent`` names: a built-in, an entry point, or ``package.module:factory``.

    ``agent_path``, absolute directories, is put before ``sys.path`` of this process, in its order. Imports anybody's
    code. Raises `NoAgent`.
    """
    directories = list(agent_path)
    for directory in reversed(directories):
        if directory in sys.path:
            sys.path.remove(directory)
        sys.path.insert(0, directory)
    if ":" in name:
        return _from_module(name, name, directories)
    if name in BUILT_IN:
        return _from_module(name, BUILT_IN[name], directories)
    importlib.invalidate_caches()
    offered = {point.name: point.value for point in importlib.metadata.entry_points(group=GROUP)}
    if name in offered:
        return _from_module(name, offered[name].split("[")[0].strip(), directories)
    known = ", ".join(sorted({*BUILT_IN, *offered}))
    raise NoAgent(
        f"cannot load agent {name!r}: it is neither one of {known} nor of the form package.module:factory"
        f" (as in {name}:make)"
    )


def _from_module(name: str, path: str, directories: list[str]) -> Factory:
    module_name, _, attribute = path.partition(":")
    if (
        not module_name
        or not attribute
        or not all(part.isidentifier() for part in f"{module_name}.{attribute}".split("."))
    ):
        raise NoAgent(f"cannot load agent {name!r}: {path!r} is not of the form package.module:factory")
    module = _import(name, module_name, directories)
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            callables = ", ".join(_callables(module)) or "none"
            raise NoAgent(
                f"cannot load agent {name!r}: {module_name} ({_file(module)}) has no {attribute!r};"
                f" callables that it defines: {callables}"
            ) from error
    if not callable(found):
        raise NoAgent(
            f"cannot load agent {name!r}: {attribute} in {_file(module)} is a {type(found).__name__},"
            " not a function or class that takes a session"
        )
    factory: Callable[..., Any] = found
    return factory


def _import(name: str, module_name: str, directories: list[str]) -> ModuleType:
    if module_name not in sys.modules:
        # What was written after the keeper had looked at its directory is to be found, too. Not for what it has
        # imported: this writes into every finder, which costs a worker 0.2 MiB of its own.
        importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            places = ", ".join(directories) or "no agent_path is set"
            raise NoAgent(
                f"cannot load agent {name!r}: there is no module {missing!r}, neither in agent_path ({places})"
                f" nor among the packages of {sys.prefix}"
            ) from error
        raise NoAgent(
            f"cannot load agent {name!r}: {module_name} was found, but it imports {missing!r}, which is not"
            f" installed in {sys.prefix} (at {_place(error)})"
        ) from error
    except Exception as error:  # importing runs anybody's code
        raise NoAgent(
            f"cannot load agent {name!r}: importing {module_name} failed: {type(error).__name__}: {error}"
            f" (at {_place(error)})"
        ) from error


def _place(error: BaseException) -> str:
    """File and line where the agent's code failed: the deepest frame that is not the import machinery."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    return f"{frames[-1].filename}:{frames[-1].lineno}"


def _callables(module: ModuleType) -> list[str]:
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == module.__name__
    )


def _file(module: ModuleType) -> str:
    return module.__file__ or "a namespace package without a file"
