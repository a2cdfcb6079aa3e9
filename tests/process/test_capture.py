"""A worker's standard output as log records, in a process of its own: it takes descriptors 1 and 2 over."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

BEGIN = """
import json, os
import hermesd.workers.capture as module
from hermesd.workers.capture import BYTES_PER_SECOND, LINE, Capture
from hermesd.workers.logs import WireHandler
real = os.dup(1)
handler = WireHandler()
capture = Capture(handler)
clock = [100.0]
module.time.monotonic = lambda: clock[0]

def flood():
    for _ in range(BYTES_PER_SECOND // 32768 + 2):
        os.write(1, b"y" * 32767 + b"\\n")
        capture.read()

def told():
    batch = handler.take(0.0)
    records = batch.records if batch is not None else ()
    return [[entry.logger, entry.text if len(entry.text) < 200 else entry.text[0] * 3] for entry in records]
"""

KEPT = """
os.write(1, b"one\\ntwo")
capture.read()
os.write(2, b" and a half\\n\\n\\xff\\n")
capture.read()
os.write(1, b"x" * (LINE + 1))
capture.read()
capture.read()  # nothing there: does not block
flood()
clock[0] += 2.0
os.write(1, b"quiet again\\n")
capture.read()
os.write(real, json.dumps(told()).encode())
"""

COUNTED = """
flood()
told()
clock[0] += 0.5
capture.tick(clock[0])
early = told()
clock[0] += 0.5
capture.tick(clock[0])
in_time = told()
capture.tick(clock[0])
os.write(real, json.dumps([early, in_time, told()]).encode())
"""

GAP = """
os.write(1, b"z" * 32767 + b"\\n")
capture.read()
os.write(1, b"the beginning of a line")
capture.read()
flood()
clock[0] += 1.0
os.write(1, b"another line\\n")
capture.read()
os.write(real, json.dumps([text for _, text in told()]).encode())
"""

END = """
flood()
told()
clock[0] += 1.0
os.write(1, b"first\\nwithout an end")
capture.flush()
first = told()
flood()
told()
capture.flush()
os.write(real, json.dumps([first, told()]).encode())
"""


def run(program: str) -> Any:
    done = subprocess.run([sys.executable, "-c", BEGIN + program], capture_output=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_lines_are_kept_and_a_flood_is_counted() -> None:
    lines = run(KEPT)
    assert {logger for logger, _ in lines} == {"stdout"}
    texts = [text for _, text in lines]
    assert texts[:4] == ["one", "two and a half", "\ufffd", "xxx"]
    assert texts[4] == "yyy"
    (dropped,) = [text for text in texts if "bytes of output not kept" in text]
    assert int(dropped.split()[0]) % 32768 == 0
    assert texts[-1] == "quiet again"


def test_what_was_dropped_is_told_when_its_second_is_over_and_once() -> None:
    early, in_time, again = run(COUNTED)
    assert early == []
    ((_, text),) = in_time
    assert "bytes of output not kept" in text
    assert again == []


def test_what_stands_before_a_gap_is_not_joined_to_what_follows() -> None:
    first, before, count, after = run(GAP)
    assert (first, before, after) == ("zzz", "the beginning of a line", "another line")
    assert "bytes of output not kept" in count


def test_the_end_brings_the_unfinished_line_and_the_count() -> None:
    first, second = run(END)
    assert [text for _, text in first[1:]] == ["first", "without an end"]
    assert "bytes of output not kept" in first[0][1]
    ((_, text),) = second
    assert "bytes of output not kept" in text
