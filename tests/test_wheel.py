"""The wheel holds the whole tree, and lives beside PyPI's Supervisor, whose import name is one of our folders'."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

pytestmark = pytest.mark.slow  # begun first, and its wheel is built but once or twice

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("adapters", "ipc", "supervisor", "workers")


def files_of_the_tree() -> set[str]:
    """What belongs into the wheel, as it is named there."""
    kinds = (".py", ".sql", ".typed")
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return {f"hermesd/{path.relative_to(ROOT).as_posix()}" for path in paths if path.suffix in kinds}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build in the checkout would pick up what an earlier one left there."""
    source = tmp_path_factory.mktemp("source")
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source, cwd=source)
    [built] = (source / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_what_the_tree_holds(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert sorted(files_of_the_tree() - names) == [], "missing in the wheel: list the package in setup.cfg"
    assert sorted(names - files_of_the_tree()) == [], "in the wheel, but not of the tree"


def test_each_package_of_the_tree_is_one_that_setup_cfg_names() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    there = {os.path.dirname(name).replace("/", ".") for name in files_of_the_tree() if name.endswith(".py")}
    assert listed == there


def test_it_runs_beside_the_other_supervisor(wheel: Path, tmp_path: Path, lacking: Callable[[str], NoReturn]) -> None:
    found = list((ROOT / "build" / "wheels").glob("supervisor-*.whl"))
    if not found:
        lacking("PyPI's supervisor is not in build/wheels: ./scripts/test downloads it")
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    install = ["install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", python, *install, wheel, found[0], cwd=tmp_path)
    # The libraries come from this environment, so that nothing has to be downloaded.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")

    version = wheel.name.split("-")[1]
    assert run(venv / "bin" / "hermesd", "--version", cwd=tmp_path) == f"hermesd {version}"
    assert run(venv / "bin" / "hermesctl", "--version", cwd=tmp_path) == f"hermesctl {version}"
    assert run(venv / "bin" / "supervisord", "--version", cwd=tmp_path) == found[0].name.split("-")[1]
    program = "import supervisor, hermesd.supervisor as ours; print(supervisor.__file__); print(ours.__file__)"
    theirs, ours = run(python, "-c", program, cwd=tmp_path).splitlines()
    assert Path(theirs) == site / "supervisor" / "__init__.py"
    assert Path(ours) == site / "hermesd" / "supervisor" / "__init__.py"
