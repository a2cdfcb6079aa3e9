"""``python -m hermesd.workers.agents NAME [DIRECTORY...]``: can this agent be loaded? For ``hermesd --check``.

Importing an agent runs anybody's code, so it happens in a process of its own that ends at once, with all that the
import has started in its process group. The answer stands on stdout: `LOADED`, or why not; what the import itself
prints goes nowhere.
"""

from __future__ import annotations

import os
import signal
import sys

from hermesd.workers.agents.factory import NoAgent, load

LOADED = "+"


def main(name: str, *agent_path: str) -> None:
    answer = os.dup(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        load(name, agent_path)
        said = LOADED
    except NoAgent as error:
        said = str(error)
    except BaseException as error:  # noqa: BLE001 - SystemExit at import is a reason like any other
        said = f"cannot load agent {name!r}: importing it ended with {error!r}"
    os.write(answer, said.encode("utf-8", "replace")[:4096])


if __name__ == "__main__":
    main(*sys.argv[1:])
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    # Not sys.exit: what the import started may keep the interpreter from ending.
    os._exit(0)
