"""Files of single sessions: bounded in size, in number and in how many are open."""

from __future__ import annotations

import os
from pathlib import Path

from hermesd.supervisor.instance.paths import session_log_name
from hermesd.supervisor.logs.sessions import IDLE_SECONDS, MAX_OPEN, SessionFiles


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def open_files(directory: Path) -> int:
    links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return sum(str(link.readlink()).startswith(str(directory)) for link in links if link.exists())


def made(directory: Path, count: int) -> SessionFiles:
    files = SessionFiles(directory, 1000, count)
    files.begin()
    return files


def test_each_session_gets_its_lines_within_its_cap(tmp_path: Path) -> None:
    files = made(tmp_path, 10)
    for number in range(100):
        files.write("agent:main:a:dm:1", b"%099d\n" % number, 0.0)
    files.write("agent:main:a:dm:2", b"quiet\n", 0.0)
    files.close()
    one, two = session_log_name("agent:main:a:dm:1"), session_log_name("agent:main:a:dm:2")
    assert names(tmp_path) == {one, f"{one}.1", two}
    assert (tmp_path / two).read_bytes() == b"quiet\n"
    assert sum((tmp_path / name).stat().st_size for name in (one, f"{one}.1")) <= 2000


def test_the_longest_silent_ones_make_room(tmp_path: Path) -> None:
    files = made(tmp_path, 3)
    for number in range(3):
        files.write(f"s{number}", b"x\n", 0.0)
        os.utime(tmp_path / session_log_name(f"s{number}"), (number, number))
    files.tend(IDLE_SECONDS)
    files.write("s0", b"y\n", IDLE_SECONDS)
    files.write("s3", b"x\n", IDLE_SECONDS)
    files.close()
    assert names(tmp_path) == {session_log_name(f"s{number}") for number in (0, 2, 3)}


def test_a_later_life_counts_what_is_there_and_may_want_none(tmp_path: Path) -> None:
    files = made(tmp_path, 3)
    for number in range(3):
        files.write(f"s{number}", b"x\n", 0.0)
    files.close()
    made(tmp_path, 2).close()
    assert len(names(tmp_path)) == 2
    none = made(tmp_path, 0)
    none.write("s9", b"x\n", 0.0)
    assert names(tmp_path) == set()


def test_few_are_open_at_once_and_idle_ones_are_closed(tmp_path: Path) -> None:
    files = made(tmp_path, 200)
    for number in range(MAX_OPEN + 20):
        files.write(f"s{number}", b"x\n", float(number))
    assert open_files(tmp_path) == MAX_OPEN
    assert len(names(tmp_path)) == MAX_OPEN + 20
    files.tend(MAX_OPEN + 19 + IDLE_SECONDS)
    assert open_files(tmp_path) == 0
    files.write("s1", b"again\n", 200.0)
    files.close()
    assert (tmp_path / session_log_name("s1")).read_bytes() == b"x\nagain\n"


def test_a_key_is_a_plain_file_name_whatever_it_holds() -> None:
    keys = ["agent:main:telegram:dm:42", "../../etc/passwd", "a/b", "a:b", ".hidden", "ä" * 500, "", "\udcff"]
    made_of = [session_log_name(key) for key in keys]
    assert len(set(made_of)) == len(keys)
    assert all("/" not in name and not name.startswith(".") and len(name) < 110 for name in made_of)
    assert made_of[0].startswith("agent_main_telegram_dm_42-")
