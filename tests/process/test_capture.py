"""A worker's standard output as log records, in a process of its own: it takes descriptors 1 and 2 over."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, os, sys
from hermesd.workers.capture import BYTES_PER_SECOND, LINE, Capture
from hermesd.workers.logs import WireHandler
real = os.dup(1)
handler = WireHandler()
capture = Capture(handler)
clock = [100.0]
import hermesd.workers.capture as module
module.time.monotonic = lambda: clock[0]
os.write(1, b"one\\ntwo")
capture.read()
os.write(2, b" and a half\\n\\n\\xff\\n")
capture.read()
os.write(1, b"x" * (LINE + 1))
capture.read()
capture.read()  # nothing there: does not block
for _ in range(BYTES_PER_SECOND // 32768 + 2):
    os.write(1, b"y" * 32767 + b"\\n")
    capture.read()
clock[0] += 2.0
os.write(1, b"quiet again\\n")
capture.read()
batch = handler.take(0.0)
lines = [[entry.logger, entry.text if len(entry.text) < 200 else entry.text[0] * 3] for entry in batch.records]
os.write(real, json.dumps(lines).encode())
"""


def test_lines_are_kept_and_a_flood_is_counted() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=30, check=True)
    lines = json.loads(done.stdout)
    assert {logger for logger, _ in lines} == {"stdout"}
    texts = [text for _, text in lines]
    assert texts[:4] == ["one", "two and a half", "\ufffd", "xxx"]
    assert texts[4] == "yyy"
    (dropped,) = [text for text in texts if "bytes of output not kept" in text]
    assert int(dropped.split()[0]) % 32768 == 0
    assert texts[-1] == "quiet again"
