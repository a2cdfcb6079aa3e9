"""Modules of hermesd on an interpreter that has neither hermesd nor its libraries."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from hermesd.workers import elsewhere


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with an environment that nothing was installed into."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place, symlinks=True)
    return str(place / "bin" / "python")


def run(*command: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=directory, env={})


def test_a_module_of_ours_runs_there_and_sees_nothing_of_hermesds_own_libraries(bare: str, tmp_path: Path) -> None:
    # A folder of the same name is no package of ours, and the folder of the file itself hides no library.
    (tmp_path / "hermesd").mkdir()
    command = elsewhere.command("hermesd.workers.keeper.probe", bare)
    for ours in ("hermesd.workers.spec", "hermesd.workers.containment", "logging.handlers"):
        done = run(*command, ours, directory=tmp_path)
        assert done.stdout == "1\n", done.stderr
    for theirs in ("click", "errors", "spec"):
        assert "ModuleNotFoundError" in run(*command, theirs, directory=tmp_path).stderr


def test_what_it_starts_runs_the_same_way(bare: str, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(
        "from hermesd.workers import elsewhere\nimport sys\n"
        "sys.stdout.write(' '.join(elsewhere.command('hermesd.workers')))\n"
    )
    done = run(
        "/usr/bin/env", f"PYTHONPATH={tmp_path}", *elsewhere.command("hermesd.workers.keeper.probe", bare), "child"
    )
    assert done.stdout.startswith(f"{bare} -P {elsewhere.HERE} hermesd.workers"), done.stderr


def test_where_hermesd_is_installed_a_module_is_run_by_its_name() -> None:
    assert elsewhere.command("hermesd.workers") == [sys.executable, "-m", "hermesd.workers"]


def test_a_child_by_spawn_finds_what_its_parent_has(bare: str, tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(
        "import multiprocessing\nfrom hermesd.workers import fitness\n"
        "context = multiprocessing.get_context('spawn')\n"
        "child = context.Process(target=fitness.main, args=('demo',))\n"
        "child.start()\nchild.join()\nprint()\nprint(child.exitcode)\n"
    )
    done = run(
        "/usr/bin/env", f"PYTHONPATH={tmp_path}", *elsewhere.command("hermesd.workers.keeper.probe", bare), "parent"
    )
    assert done.stdout.splitlines()[-2:] == ["0", "1"], done.stderr
