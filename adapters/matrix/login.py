"""Who we are at the homeserver: by the token that was given, or by a password and a token of our own that is kept.

A login makes a device unless it names one: the name is chosen, and on disk, before the first login, so that no death
and no restart leaves a second device in people's lists.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

from mautrix.client import ClientAPI
from mautrix.errors import MatrixInvalidToken, MForbidden
from mautrix.types import DeviceID, UserID

from hermesd.adapters.errors import AdapterError, Unauthorized

from .calls import calling
from .options import Options

log = logging.getLogger("hermesd.matrix")

DEVICE_NAME = "hermesd"


@dataclass(frozen=True, slots=True)
class Account:
    user_id: str
    device_id: str
    token: str = field(repr=False)


async def log_in(client: ClientAPI, options: Options) -> Account:
    """Give ``client`` its identity. Raises `Unauthorized`, `Retry` for what may pass, `AdapterError`."""
    if options.token:
        account = await _by_token(client, options.token)
        if options.user_id and account.user_id != options.user_id:
            raise AdapterError(
                f"cannot use the Matrix access token: it is of {account.user_id}, not of {options.user_id}",
                fix="correct MATRIX_USER_ID or MATRIX_ACCESS_TOKEN",
            )
        if options.device_id and account.device_id != options.device_id:
            log.warning("the access token is of device %s, not of %s", account.device_id, options.device_id)
        return account
    return await _by_password(client, options)


async def _by_token(client: ClientAPI, token: str) -> Account:
    client.api.token = token
    with calling("log in to Matrix"):
        who = await client.whoami()
    client.mxid = who.user_id
    client.device_id = who.device_id or DeviceID("")
    return Account(str(who.user_id), str(who.device_id or ""), token)


async def _by_password(client: ClientAPI, options: Options) -> Account:
    path = options.data_dir / "login.json" if options.data_dir is not None else None
    kept = _read(path, options)
    if kept.token:
        try:
            return await _by_token(client, kept.token)
        except Unauthorized as error:
            if not isinstance(error.__cause__, MatrixInvalidToken):
                raise
            log.warning("the kept Matrix login is not valid any more: logging in again as device %s", kept.device_id)
    _write(path, options, kept)
    client.api.token = ""
    client.mxid = UserID(options.user_id)
    try:
        with calling("log in to Matrix"):
            await client.login(password=options.password, device_id=kept.device_id, device_name=DEVICE_NAME)
    except AdapterError as error:
        # Wrong password is M_FORBIDDEN, which elsewhere means a room that is closed to us.
        if isinstance(error.__cause__, MForbidden):
            raise Unauthorized(str(error), fix="correct MATRIX_PASSWORD, or set MATRIX_ACCESS_TOKEN") from error
        raise
    account = Account(str(client.mxid), str(client.device_id), client.api.token)
    _write(path, options, account)
    return account


def _read(path: Path | None, options: Options) -> Account:
    """What is kept of this user at this homeserver; else a new device without a token."""
    fresh = Account(options.user_id, options.device_id or f"HERMESD{secrets.token_hex(4).upper()}", "")
    try:
        kept = json.loads(path.read_text("utf-8")) if path is not None else {}
    except FileNotFoundError:
        return fresh
    except (OSError, ValueError) as error:
        log.warning("the kept Matrix login cannot be read: %s", error)
        return fresh
    if (kept.get("homeserver"), kept.get("user_id")) != (options.homeserver, options.user_id):
        return fresh
    if options.device_id not in ("", kept["device_id"]):
        return fresh
    return replace(fresh, device_id=kept["device_id"], token=kept["token"])


def _write(path: Path | None, options: Options, account: Account) -> None:
    if path is None:
        return
    kept = {
        "homeserver": options.homeserver, "user_id": options.user_id, "device_id": account.device_id,
        "token": account.token,
    }  # fmt: skip
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(kept, out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise AdapterError(
            f"cannot keep the Matrix login in {path}: {error.strerror}", fix="free disk space, or mend its permissions"
        ) from error
