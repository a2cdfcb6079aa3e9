"""``python -c "$(cat workers/fitness.py)" AGENT``: what an interpreter lacks for running workers.

Run so by hermesd, for ``hermesd.python``, on the interpreter in question, which may know nothing of hermesd yet:
standard library only, in words that Python 3 of any age understands, so that it can say that it is too old. Prints one
JSON document. Nothing is imported of what is looked for: that takes seconds.
"""

import json
import re
import sys

NEEDED = (("pyzmq", "26"), ("msgpack", "1.0.8"), ("multiprocessing-logging", "0.3.4"), ("mcp", "1.26"))
"""Distribution and least version, as setup.cfg has them for hermesd itself."""

OF_AGENTS = {"hermes": (("hermes-agent", "0.13"),), "llm": (("openai", "1.60"),)}

OLDEST = (3, 11)


def numbers(version: str) -> "tuple[int, ...]":
    """The numbers that a version begins with."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def lacking(agent: str) -> "list[str]":
    """Requirements, as pip takes them, that are not met."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name, least in NEEDED + OF_AGENTS.get(agent, ()):
        try:
            met = numbers(version(name)) >= numbers(least)
        except PackageNotFoundError:
            met = False
        if not met:
            found.append(f"{name}>={least}")
    return found


def main(agent: str) -> None:
    old = sys.version_info[:2] < OLDEST
    report = {
        "version": ".".join(str(number) for number in sys.version_info[:3]),
        "old": old,
        "lacking": [] if old else lacking(agent),
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
