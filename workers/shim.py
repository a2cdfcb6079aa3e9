"""Becomes a foreign program inside a container. Run as a script of its own: ``python -I -S shim.py SPEC_FD REPORT_FD``.

The other side is `hermesd.workers.spawn`. Between fork and exec a process may only do what is safe with threads around;
here it is an ordinary program that can take its time. It imports nothing of ours and as little as it can: it runs
before every MCP server, and ``json`` alone would cost a third of its 10 ms, so the spec is marshalled and the report is
text. ``_signal`` and not ``signal`` for the same reason.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import marshal
import os
import sys

TYPE_CHECKING = False  # mypy knows the name; importing typing would cost 4 ms
if TYPE_CHECKING:
    from typing import Any

    Spec = dict[str, Any]

# Field names of the spec, which is a dict of plain values.
ARGV, ENVIRONMENT, DIRECTORY, PARENT = "argv", "environment", "directory", "parent"
CGROUP, NEW_SESSION, SUBREAPER, DEATH_SIGNAL, RLIMITS = "cgroup", "new_session", "subreaper", "death_signal", "rlimits"

# The report: READY alone and then the end of the pipe means that the program runs; the end without READY means that
# this process was killed. A failure is stage, errno and text, separated by NUL.
READY = b"+"
NOT_FOUND = 127
NOT_STARTED = 126

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class ParentDied(OSError):
    """The parent ended before its death could be noticed by a signal."""


def main(spec_fd: int, report_fd: int) -> int:
    os.set_inheritable(report_fd, False)
    with open(spec_fd, "rb") as file:
        spec = marshal.loads(file.read())
    stage = ""
    try:
        for name, step in STEPS:
            stage = name
            step(spec)
        stage = "exec"
        os.write(report_fd, READY)
        # With exactly this environment: os.environ has LC_CTYPE since the interpreter may set it for itself (PEP 538).
        os.execvpe(spec[ARGV][0], spec[ARGV], spec[ENVIRONMENT])
    except (OSError, ValueError) as problem:
        number = getattr(problem, "errno", None) or errno.EINVAL
        text = getattr(problem, "strerror", None) or str(problem)
        report = f"{stage}\0{number}\0{text}"
        os.write(report_fd, report.encode("utf-8", "backslashreplace")[:4096])
        return NOT_FOUND if stage == "exec" and number == errno.ENOENT else NOT_STARTED
    raise AssertionError("exec returned")


def join_cgroup(spec: Spec) -> None:
    if spec[CGROUP]:
        # Without O_CREAT: after the container's end its directory is gone, and that must be an error.
        procs = os.open(spec[CGROUP] + "/cgroup.procs", os.O_WRONLY)
        os.write(procs, b"0")
        os.close(procs)


def lead_session(spec: Spec) -> None:
    if spec[NEW_SESSION]:
        os.setsid()


def set_process_attributes(spec: Spec) -> None:
    if spec[SUBREAPER]:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if spec[DEATH_SIGNAL]:
        _prctl(_PR_SET_PDEATHSIG, spec[DEATH_SIGNAL])
        if os.getppid() != spec[PARENT]:
            raise ParentDied(errno.ESRCH, "the parent ended first")


def _prctl(option: int, value: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(number) for number in (value, 0, 0, 0)]
    if libc.prctl(option, *arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def set_limits(spec: Spec) -> None:
    if spec[RLIMITS]:
        import resource

        for name, limits in spec[RLIMITS].items():
            which = getattr(resource, "RLIMIT_" + name.upper())
            ceiling = resource.getrlimit(which)[1]
            if ceiling != resource.RLIM_INFINITY:  # more than the present hard limit is not to be had
                limits = [ceiling if limit == resource.RLIM_INFINITY else min(limit, ceiling) for limit in limits]
            resource.setrlimit(which, tuple(limits))


def restore_signals(spec: Spec) -> None:
    # Python ignores SIGPIPE and SIGXFSZ for itself, and what is ignored or blocked stays so over exec.
    for number in _signal.valid_signals():
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except OSError as problem:
                if problem.errno != errno.EINVAL:  # one that libc keeps for itself
                    raise
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def enter_directory(spec: Spec) -> None:
    if spec[DIRECTORY]:
        os.chdir(spec[DIRECTORY])


STEPS = (
    ("cgroup", join_cgroup),
    ("session", lead_session),
    ("prctl", set_process_attributes),
    ("rlimits", set_limits),
    ("signals", restore_signals),
    ("chdir", enter_directory),
)

if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), int(sys.argv[2])))
