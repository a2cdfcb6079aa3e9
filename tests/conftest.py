"""What every test gets: a home of its own, an environment without anybody's settings, and a check that nothing is left.

No test sees the caller's HOME, tokens or hermesd settings. A test of real processes (``tests/contract``,
``tests/process``, ``tests/acceptance``) fails when a process, cgroup, socket or directory of its homes outlives it.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from harness.lacking import lacking
from harness.matrix.synapse import Synapse
from harness.parallel import pytest_collection_modifyitems as pytest_collection_modifyitems
from harness.parallel import pytest_runtest_protocol as pytest_runtest_protocol
from harness.parallel import pytest_xdist_auto_num_workers as pytest_xdist_auto_num_workers
from harness.parallel import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler
from hypothesis import settings

# A shell without job control starts background jobs with SIGINT ignored, and that is inherited: no program under test
# could be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One choice of everything that is drawn, the same in every run, so that what fails was broken by the change that is
# tested. HERMESD_SEED=N draws anew, for who looks for more.
# No deadline: a machine with other work to do is not a failure. No database: a run must not depend on the one before.
SEED = os.environ.setdefault("HERMESD_SEED", "1")
settings.register_profile("hermesd", deadline=None, database=None, derandomize=SEED == "1")
settings.load_profile("hermesd")

FOREIGN = re.compile(
    r".*_BOT_TOKEN|.*_ACCESS_TOKEN|API_SERVER_.*|GATEWAY_.*|HERMES_.*|HERMESD_(?!CI$).*|.*_ALLOWED_USERS|.*_ALLOW_ALL_USERS"
    r"|.*_HOME_CHANNEL|MATRIX_.*|OPENAI_.*|NOTIFY_SOCKET|WATCHDOG_.*|XDG_.*|COLUMNS|LINES"
)
REAL_PROCESSES = ("contract", "process", "acceptance")
MARK = "HERMESD_TEST_MARK"
PATIENCE = 20.0  # seconds that the kernel and the keeper have to finish after a test


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if FOREIGN.fullmatch(name):
                patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("user-home")))
        yield


def pytest_collection_finish() -> None:
    """All tests stay to the end: the garbage collector would go through them again and again, each time for a quarter
    of a second in which the test that runs answers nobody.
    """
    gc.collect()
    gc.freeze()


class Home(type(Path())):  # type: ignore[misc]
    """A temporary HERMES_HOME: a path with a way to write into it."""

    def write(self, config: str = "", *, env: str = "", gateway: str = "") -> Home:
        """Write ``config.yaml`` and, where given, ``.env`` and ``gateway.json``."""
        (self / "config.yaml").write_text(config, "utf-8")
        if env:
            (self / ".env").write_text(env, "utf-8")
        if gateway:
            (self / "gateway.json").write_text(gateway, "utf-8")
        return self

    @property
    def instance(self) -> str:
        return hashlib.sha256(os.fsencode(os.path.realpath(self))).hexdigest()[:12]


@pytest.fixture(scope="session", name="lacking")
def _lacking() -> Callable[[str], NoReturn]:
    """``lacking("no tmux here")``, as `harness.lacking` has it."""
    return lacking


@pytest.fixture(scope="session")
def synapse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    """A real Matrix server, started once; people are new in every test."""
    with Synapse(tmp_path_factory.mktemp("synapse")) as server:
        yield server


@pytest.fixture(autouse=True)
def _mark(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Every program that a test starts inherits a mark; whoever still carries it at the end was left behind.

    It finds what no tag of hermesd's and no parent leads to: the children of a test program that was killed.
    """
    if not _has_real_processes(request):
        yield
        return
    mark = secrets.token_hex(8)
    monkeypatch.setenv(MARK, mark)
    yield
    deadline = time.monotonic() + PATIENCE
    while left := [*_carrying([f"{MARK}={mark}".encode()])]:
        if time.monotonic() > deadline:
            pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
        time.sleep(0.02)


def _has_real_processes(request: pytest.FixtureRequest) -> bool:
    return any(f"{os.sep}tests{os.sep}{kind}{os.sep}" in str(request.path) for kind in REAL_PROCESSES)


@pytest.fixture
def make_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Home]]:
    """Makes further homes by name; all of them are checked for leaks when the test is over."""
    homes: list[Home] = []

    def make(name: str = "home") -> Home:
        home = Home(tmp_path / name)
        home.mkdir(mode=0o700)
        homes.append(home)
        return home

    checked = _has_real_processes(request)
    children = set(_children()) if checked else set()
    yield make
    if checked:
        assert_nothing_left([home.instance for home in homes], [str(home) for home in homes], children)


@pytest.fixture
def home(make_home: Callable[[str], Home], monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of the test's own, also in HERMES_HOME."""
    made = make_home("home")
    monkeypatch.setenv("HERMES_HOME", str(made))
    return made


def assert_nothing_left(instances: list[str], homes: list[str], children_before: set[psutil.Process]) -> None:
    """Fails with a list when anything of these homes is left after `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    while left := [
        *_carrying([f"HERMESD_TAG={instance}-".encode() for instance in instances]),
        *(f"child of the test: {_describe(child)}" for child in set(_children()) - children_before),
        *_cgroups(instances),
        *_sockets(instances, homes),
        *_directories(instances),
    ]:
        if time.monotonic() > deadline:
            pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
        time.sleep(0.02)


def _children() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [child for child in found if "multiprocessing.resource_tracker" not in _describe(child)]


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid}"


def _carrying(marks: list[bytes]) -> Iterator[str]:
    """Other processes with one of these in their environment."""
    for entry in Path("/proc").glob("[0-9]*/environ"):
        if entry.parent.name == str(os.getpid()):
            continue
        try:
            environ = entry.read_bytes()
            command = (entry.parent / "cmdline").read_bytes()
        except OSError:
            continue  # it has gone, or it is another user's
        if any(mark in environ for mark in marks):
            yield f"process {entry.parent.name}: {command.replace(bytes(1), b' ').decode(errors='replace').strip()}"


def _cgroups(instances: list[str]) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines() if Path("/proc/self/mountinfo").exists() else ():
        left, _, right = line.partition(" - ")
        kind, _, options = right.partition(" ")
        if kind != "cgroup2" and not (kind == "cgroup" and {"memory", "pids"} & set(options.split()[-1].split(","))):
            continue
        mount = left.split()[4]
        for top, directories, _ in os.walk(mount):
            for name in directories:
                if any(name == f"hermesd-{instance}" for instance in instances):
                    yield f"cgroup {top}/{name}"


def _sockets(instances: list[str], homes: list[str]) -> Iterator[str]:
    """Listening Unix sockets below the homes or in their runtime directories."""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:] if Path("/proc/net/unix").exists() else ():
        path = line.split(None, 7)[7] if line.count("/") or line.count("@") else ""
        if any(path.startswith(home + "/") for home in homes) or any(instance in path for instance in instances):
            yield f"socket {path}"


def _directories(instances: list[str]) -> Iterator[str]:
    for place in {"/tmp", os.environ.get("TMPDIR", "/tmp"), os.environ.get("XDG_RUNTIME_DIR", "/tmp")}:
        for instance in instances:
            yield from (f"directory {path}" for path in Path(place).glob(f"hermesd-*{instance}*"))
