"""Synapse on 127.0.0.1: SQLite, its data in a directory of the test's, gone when it is stopped.

Its limits for messages are those of a fresh Synapse (`rc_message`); `person` lifts them for everybody but whom a test
wants to see limited.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import subprocess
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from harness.lacking import lacking
from harness.ports import free_port

from .http import Http, Refused
from .person import Person

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / "build" / "synapse-venv" / "bin" / "python"
SERVER_NAME = "localhost"
START_SECONDS = 90.0
"""Of a machine whose cores do other things; one that has nothing to do needs five. Less than a test has in all, which
would end without stopping anything.
"""

STOP_SECONDS = 10.0
SECRET = "for registrations by the tests"
PASSWORD = "correct horse"


def python() -> Path:
    """The interpreter that has Synapse; without one the test is skipped, and fails where everything must run."""
    if not (PYTHON.parent / "synapse_homeserver").exists():
        lacking("there is no Synapse in build/synapse-venv: ./scripts/test makes it (110 s, once, from PyPI)")
    return PYTHON


class Synapse:
    """``with Synapse(directory) as server: server.person("anna")``."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: Person | None = None
        self._names = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """On the port that it had before, if it was stopped meanwhile."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "homeserver.yaml"
        # JSON is YAML too.
        config.write_text(json.dumps(_config(self.directory, self.port)), "utf-8")
        (self.directory / "log.yaml").write_text(json.dumps(_logging(self.directory)), "utf-8")
        command = [str(python()), "-m", "synapse.app.homeserver", "-c", str(config)]
        # It outlives the test that happens to start it, and must not carry that one's mark.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HERMESD_")}
        with (self.directory / "out.log").open("ab") as out:
            if not (self.directory / "signing.key").exists():
                subprocess.run([*command, "--generate-keys"], check=True, stdout=out, stderr=out, env=environment)
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.directory, env=environment
            )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()  # whoever could has not got it
            raise
        return self

    def _wait_ready(self) -> None:
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        until = time.monotonic() + START_SECONDS
        while True:
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"Synapse did not start: {self._tail('out.log')} {self._tail('synapse.log')}")
            listening = [one.laddr.port for one in process.net_connections("tcp4") if one.status == psutil.CONN_LISTEN]
            if listening:
                self.port = listening[0]
                with contextlib.suppress(Refused, OSError), closing(Http(self.url)) as http:
                    http.raw("GET", "/health")
                    return
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        path = self.directory / name
        return path.read_text("utf-8", "replace")[-2000:] if path.exists() else ""

    def stop(self) -> None:
        if self._admin is not None:
            self._admin.close()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def person(self, name: str = "p", *, limited: bool = False) -> Person:
        """Somebody new, logged in; ``limited``: to as many messages as a fresh Synapse allows."""
        self._names += 1
        registered = self._register(f"{name}{self._names}", admin=False)
        person = Person(self.url, registered["user_id"], registered["access_token"], registered["device_id"])
        person.password = PASSWORD
        if not limited:
            self.admin.call(
                "POST", f"/_synapse/admin/v1/users/{registered['user_id']}/override_ratelimit",
                {"messages_per_second": 0, "burst_count": 0},
            )  # fmt: skip
        return person

    @property
    def admin(self) -> Person:
        if self._admin is None:
            made = self._register("admin", admin=True)
            self._admin = Person(self.url, made["user_id"], made["access_token"], made["device_id"])
        return self._admin

    def _register(self, name: str, *, admin: bool) -> dict[str, Any]:
        # By the shared secret: docs/admin_api/register_api.md of Synapse.
        place = "/_synapse/admin/v1/register"
        with closing(Http(self.url)) as http:
            nonce = http.json("GET", place)["nonce"]
            parts = (nonce, name, PASSWORD, "admin" if admin else "notadmin")
            mac = hmac.new(SECRET.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
            asked = {"nonce": nonce, "username": name, "password": PASSWORD, "admin": admin, "mac": mac}
            return dict(http.json("POST", place, asked))


def _config(directory: Path, port: int) -> dict[str, Any]:
    plenty = {"per_second": 10_000, "burst_count": 10_000}
    return {
        "server_name": SERVER_NAME,
        "pid_file": str(directory / "homeserver.pid"),
        "listeners": [
            {
                "port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": False, "x_forwarded": False,
                "resources": [{"names": ["client"], "compress": False}],
            }
        ],
        "database": {"name": "sqlite3", "args": {"database": str(directory / "homeserver.db")}},
        "log_config": str(directory / "log.yaml"),
        "media_store_path": str(directory / "media"),
        "max_upload_size": "1M",
        "registration_shared_secret": SECRET,
        "macaroon_secret_key": "macaroon",
        "form_secret": "form",
        "signing_key_path": str(directory / "signing.key"),
        "report_stats": False,
        "trusted_key_servers": [],
        "federation_domain_whitelist": [],
        "enable_registration": False,
        "allow_guest_access": False,
        "url_preview_enabled": False,
        "presence": {"enabled": False},
        "filter_timeline_limit": 10_000,  # for people who look only at the end
        "bcrypt_rounds": 4,
        "rc_registration": plenty,
        "rc_joins": {"local": plenty, "remote": plenty},
        "rc_joins_per_room": plenty,
        "rc_invites": {"per_room": plenty, "per_user": plenty, "per_issuer": plenty},
        "rc_login": {"address": plenty, "account": plenty, "failed_attempts": plenty},
        "rc_room_creation": plenty,
        "rc_media_create": plenty,
    }  # fmt: skip


def _logging(directory: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": str(directory / "synapse.log"), "formatter": "plain"}
        },
        "root": {"level": "WARNING", "handlers": ["file"]},
        "disable_existing_loggers": False,
    }
