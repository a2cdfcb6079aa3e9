"""An agent of the tests that burns CPU in the ways that are hard to count.

Each burning program says itself, at its end, how much CPU it has used: that is the truth which hermesd's figures are
compared with. ``settings["truth"]`` is the file that they write it to, a number a line.
"""

import asyncio
import os
import subprocess
import sys
import time

BURN = """
import os, sys, time
while time.process_time() < float(sys.argv[1]): pass
file = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
os.write(file, b"%r\\n" % time.process_time())
"""

# The programs between the agent and the burners; each says what it has used itself.
SELF = """
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
os.write(file, b"%r\\n" % time.process_time())
"""

FIVE_GRANDCHILDREN = (
    """
import os, subprocess, sys, time
for _ in range(5):
    subprocess.run([sys.executable, "-S", "-c", sys.argv[2], "0.2", sys.argv[1]], check=True)
"""
    + SELF
)

WRAPPER_EXITS = (
    """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-S", "-c", sys.argv[2], "0.8", sys.argv[1]])
"""
    + SELF
)

IGNORES_ITS_CHILDREN = (
    """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(4):
    child = subprocess.Popen([sys.executable, "-S", "-c", sys.argv[2], "0.2", sys.argv[1]])
    while os.path.exists(f"/proc/{child.pid}"):
        time.sleep(0.01)
    child.returncode = 0
"""
    + SELF
)


def _python(*args):
    return [sys.executable, "-S", "-c", *args]


class Burning:
    def __init__(self, session):
        self._truth = session.settings["truth"]

    async def turn(self, turn, out):
        """``PROGRAM COUNT``: start it, and answer when ``COUNT`` processes have written down what they used. ``spin
        FILE``: until that is there.
        """
        if turn.text.startswith("spin "):
            while not os.path.exists(turn.text.removeprefix("spin ")):
                await asyncio.sleep(0)
            return "spun"
        if turn.text == "hello":
            return f"{time.process_time()}"
        program, count = turn.text.split()
        before = time.process_time()
        ours = {
            "child": _python(BURN, "0.4", self._truth),
            "grandchildren": _python(FIVE_GRANDCHILDREN, self._truth, BURN),
            "orphan": _python(WRAPPER_EXITS, self._truth, BURN),
            "ignored": _python(IGNORES_ITS_CHILDREN, self._truth, BURN),
        }[program]
        process = await asyncio.create_subprocess_exec(*ours, stdin=subprocess.DEVNULL)
        await process.wait()
        while self._written() < int(count):
            await asyncio.sleep(0.02)
        return f"{time.process_time() - before}"

    def _written(self):
        return len(open(self._truth).read().splitlines()) if os.path.exists(self._truth) else 0


def make(session):
    return Burning(session)
