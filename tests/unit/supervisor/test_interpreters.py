from __future__ import annotations

import sys
from pathlib import Path

from hermesd.supervisor.interpreters import why_unfit

BARE = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
"""The interpreter that the environment was made of: without what is installed in the environment."""


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_interpreter_of_hermesd_can_run_its_own_workers() -> None:
    assert why_unfit(sys.executable, "demo") is None
    assert why_unfit(sys.executable, "llm") is None


def test_what_is_missing_comes_with_the_line_that_installs_it(tmp_path: Path) -> None:
    bare = script(tmp_path / "python", f'exec {BARE} -S "$@"')
    assert why_unfit(bare, "hermes") == (
        f'"{bare}" lacks pyzmq>=26, msgpack>=1.0.8, multiprocessing-logging>=0.3.4, mcp>=1.26, hermes-agent>=0.13',
        f"{bare} -m pip install 'pyzmq>=26' 'msgpack>=1.0.8' 'multiprocessing-logging>=0.3.4' 'mcp>=1.26'"
        " hermes-agent==0.19.0",
    )


def test_without_an_interpreter_of_its_own_hermes_agent_is_looked_for_beside_hermesd() -> None:
    found = why_unfit("", "hermes")
    assert found is not None
    what, fix = found
    assert what == "hermes needs hermes-agent>=0.13, which hermesd's own Python lacks"
    assert "hermes-agent==0.19.0 pyzmq msgpack multiprocessing-logging 'mcp>=1.26'" in fix
    assert "hermesd.python: DIR/bin/python" in fix


def test_a_path_that_is_no_python_says_what_it_is(tmp_path: Path) -> None:
    gone = str(tmp_path / "venv" / "bin" / "python")
    what, fix = why_unfit(gone, "demo") or ("", "")
    assert what == f'there is no file "{gone}"'
    assert f"python3 -m venv {tmp_path}/venv" in fix
    (tmp_path / "text").write_text("")
    assert "cannot be run" in (why_unfit(str(tmp_path / "text"), "demo") or ("",))[0]
    mute = script(tmp_path / "mute", "echo no such thing >&2; exit 3")
    assert (why_unfit(mute, "demo") or ("",))[0] == f'"{mute}" is no Python that answers: no such thing'
    wordy = script(tmp_path / "wordy", "echo hello")
    assert "is no Python that answers" in (why_unfit(wordy, "demo") or ("",))[0]


def test_an_old_python_is_told_by_its_version(tmp_path: Path) -> None:
    old = script(tmp_path / "python", """echo '{"version": "3.8.10", "old": true, "lacking": []}'""")
    assert why_unfit(old, "demo") == (f'"{old}" is Python 3.8.10', "use Python 3.11 or newer")
