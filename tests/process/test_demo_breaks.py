"""The demo agent's ways to break are real: a process ends as it says, and a regular expression holds the GIL."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent("""
    import asyncio, faulthandler, resource, sys, threading, time
    from hermesd.workers.agents.contract import Turn
    from hermesd.workers.agents.demo import make

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ticks = []

    def tick():
        while True:
            ticks.append((time.monotonic(), time.process_time()))
            time.sleep(0.01)

    threading.Thread(target=tick, daemon=True).start()
    print(asyncio.run(make(None).turn(Turn("t", sys.argv[1], "u"), None)))
    for times in zip(*ticks):
        print(max(after - before for before, after in zip(times, times[1:])))
""")


def run(command):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, command], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("command", "status"),
    [("!crash", 3), ("!crash exit", 3), ("!crash segv", -11), ("!crash abort", -6), ("!crash kill", -9)],
)
def test_a_crash_ends_the_process_as_it_says(command, status):
    done = run(command)
    assert (done.returncode, done.stdout) == (status, "")


def test_a_regular_expression_silences_every_thread():
    done = run("!regex 24")
    said, longest, _ = done.stdout.splitlines()
    seconds = float(said.split(" for ")[1].split()[0])
    assert seconds >= 0.2
    assert float(longest) > seconds * 0.5


@pytest.mark.alone("the longest wait of a thread is measured")
def test_spinning_in_python_leaves_the_other_threads_their_turn():
    # In seconds of the process, which spins all the time: those in which the machine did something else are not its.
    longest = float(run("!spin 0.5").stdout.splitlines()[2])
    assert longest < 0.2
