from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hermesd.supervisor.instance.errors import HomeUnusable
from hermesd.supervisor.instance.paths import LONGEST_SOCKET_NAME, LONGEST_SOCKET_PATH, paths_of, resolve_home


def test_the_home_is_the_option_then_the_variable_then_the_users_own() -> None:
    environ = {"HERMES_HOME": "/from/variable", "HOME": "/users/me"}
    assert resolve_home(Path("/from/option"), environ) == Path("/from/option")
    assert resolve_home(None, environ) == Path("/from/variable")
    assert resolve_home(None, {"HOME": "/users/me", "HERMES_HOME": ""}) == Path("/users/me/.hermes")


def test_a_relative_home_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_home(Path("x/../y"), {}) == tmp_path / "y"


def test_two_names_of_one_home_are_one_instance(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    assert paths_of(tmp_path / "link", {}) == paths_of(real, {})
    assert paths_of(real, {}).instance != paths_of(tmp_path, {}).instance


def test_everything_of_ours_is_below_hermesd_in_the_home() -> None:
    paths = paths_of(Path("/h"), {})
    assert len(paths.instance) == 12
    assert paths.lock == Path("/h/hermesd/run/hermesd.lock")
    assert paths.pid_file == Path("/h/hermesd/run/hermesd.pid")
    assert paths.journal == Path("/h/hermesd/state.db")
    assert paths.control_socket == Path("/h/hermesd/run/control.sock")
    assert {path.parent for path in (paths.logs, paths.media)} == {paths.ours}


def test_sockets_move_where_their_path_would_be_too_long() -> None:
    longest = LONGEST_SOCKET_PATH - LONGEST_SOCKET_NAME - 1 - len("/hermesd/run")
    fits, too_long = Path("/" + "x" * (longest - 1)), Path("/" + "x" * longest)
    assert paths_of(fits, {}).sockets == fits / "hermesd/run"
    moved = paths_of(too_long, {})
    assert moved.sockets == Path(f"/tmp/hermesd-{os.getuid()}-{moved.instance}")
    assert moved.lock.parent == too_long / "hermesd/run"
    longest_socket = moved.socket("x" * LONGEST_SOCKET_NAME)
    assert len(os.fsencode(longest_socket)) <= LONGEST_SOCKET_PATH


def test_the_runtime_directory_of_the_user_is_preferred_where_it_is_usable(tmp_path: Path) -> None:
    deep = Path("/" + "x" * 90)
    assert paths_of(deep, {"XDG_RUNTIME_DIR": "/tmp"}).sockets == Path(f"/tmp/hermesd-{paths_of(deep, {}).instance}")
    for useless in ("relative", "/no/such/place", "/tmp/" + "y" * 90):
        assert paths_of(deep, {"XDG_RUNTIME_DIR": useless}).sockets == paths_of(deep, {}).sockets


def test_a_socket_name_that_could_be_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be longer"):
        paths_of(Path("/h"), {}).socket("x" * (LONGEST_SOCKET_NAME + 1))


def test_prepare_makes_private_directories_and_can_be_repeated(tmp_path: Path) -> None:
    paths = paths_of(tmp_path / "a" / "home", {"XDG_RUNTIME_DIR": str(tmp_path)})
    for _ in range(2):
        paths.prepare()
        for directory in (paths.ours, paths.run, paths.logs, paths.media, paths.sockets):
            assert directory.stat().st_mode & 0o777 == 0o700
        paths.run.chmod(0o755)
    paths.clear_sockets(remove=True)


def test_a_home_that_is_a_file_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(HomeUnusable, match=rf"cannot use {tmp_path}/home as home: it is not a directory"):
        paths_of(tmp_path / "home", {}).prepare()


def test_a_link_in_the_place_of_our_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "hermesd").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HomeUnusable, match="not a directory"):
        paths_of(tmp_path, {}).prepare()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o500)
    with pytest.raises(HomeUnusable, match="may not write there"):
        paths_of(tmp_path / "home", {}).prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another user")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hermesd").mkdir()
    os.chown(tmp_path / "hermesd", 12345, 12345)
    with pytest.raises(HomeUnusable, match="belongs to uid 12345"):
        paths_of(tmp_path, {}).prepare()


def test_old_sockets_are_cleared_and_nothing_else(tmp_path: Path) -> None:
    paths = paths_of(Path("/" + "x" * 90), {"XDG_RUNTIME_DIR": "/tmp"})
    paths = type(paths)(tmp_path, paths.instance, tmp_path / "s")
    paths.sockets.mkdir()
    directory = os.open(paths.sockets, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/control.sock")  # the test's directory may be too deep for a socket
    os.close(directory)
    assert (paths.sockets / "control.sock").is_socket()
    (paths.sockets / "note").write_text("")
    paths.clear_sockets(remove=True)
    assert [path.name for path in paths.sockets.iterdir()] == ["note"]
    (paths.sockets / "note").unlink()
    paths.clear_sockets(remove=True)
    assert not paths.sockets.exists()
