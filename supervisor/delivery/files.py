"""The files that an agent's text asks for: which of them may leave this machine, and fetching those on the web.

An agent reads what strangers wrote, and may be talked into sending what is nobody's business. So nothing of hermesd's
home goes out but the media directory and what its own session made, and nothing that is known to be a secret. What is
refused is named in the text with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from hermesd.adapters.contract import Attachment
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.media import kinds
from hermesd.adapters.media.download import AddressJudge, download, is_public, shown
from hermesd.adapters.media.store import safe_name

from .directives import Reply, Wanted, without_lines
from .settings import Places

log = logging.getLogger("hermesd.delivery")

MOST = 20
"""Files of one message; more is no answer but a flood."""

_SECRET_NAMES = frozenset(
    {
        ".ssh", ".gnupg", ".aws", ".azure", ".gcloud", ".kube", ".docker", ".password-store", ".netrc", ".pgpass",
        ".git-credentials", ".npmrc", ".pypirc", ".htpasswd", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "shadow",
        "gshadow", "sudoers",
    }
)  # fmt: skip
_NO_FILES = ("/proc", "/sys", "/dev", "/boot")


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a file is not sent, for the reader."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """A reply's text, and the files that go with it."""

    text: str
    files: tuple[Attachment, ...]


def refusal(real: str, places: Places, session: str) -> str:
    """Why a file must not leave, "" if it may. ``real``: its path without links; ``session``: the id of its session."""
    path = PurePath(real)
    if any(path.is_relative_to(root) for root in _NO_FILES):
        return "it is no ordinary file"
    if any(part in _SECRET_NAMES or part == ".env" or part.startswith(".env.") for part in path.parts):
        return "it may hold secrets"
    if places.home is None or not path.is_relative_to(places.home):
        return ""
    if places.media is not None and path.is_relative_to(places.media):
        return ""
    if places.work is not None and session and path.is_relative_to(places.work / session):
        return ""
    return "it belongs to hermesd itself"


def look(source: str, places: Places, session: str, name: str = "") -> Attachment | Refused:
    """A file as it lies on disk. Blocking."""
    name = safe_name(name or os.path.basename(source))
    real = os.path.realpath(os.path.expanduser(source))
    # Before it is touched: whether a secret exists is nobody's business either.
    if reason := refusal(real, _resolved(places), session):
        return Refused(name, reason)
    try:
        # Not to wait for a pipe's writer, nor to follow a link that has just been put there.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return Refused(name, "it does not exist")
    except OSError as error:
        return Refused(name, error.strerror or str(error))
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return Refused(name, "it is a directory" if stat.S_ISDIR(found.st_mode) else "it is no ordinary file")
        if found.st_size == 0:
            return Refused(name, "it is empty")
        head = os.read(descriptor, kinds.HEAD)
    finally:
        os.close(descriptor)
    kind, mime = kinds.kind_of(name), kinds.mime_of(name)
    if kinds.is_animated_sticker(name, head):
        kind = kinds.STICKER
    if kind == kinds.IMAGE:
        mime = kinds.image_type(head)
        if not mime:
            kind, mime = kinds.DOCUMENT, "application/octet-stream"
    return Attachment(real, name, mime, kind, size=found.st_size)


async def gather(reply: Reply, places: Places, session: str, limit: int, *, may: AddressJudge = is_public) -> Gathered:
    """Everything that a text asks for, as far as it may be sent. ``limit``: bytes of one file, 0 = none is taken."""
    files: list[Attachment] = []
    notes: list[str] = []
    sent: list[str] = []
    known: set[str] = set()
    for wanted in reply.wanted:
        if wanted.source in known or (wanted.kind == "local" and limit == 0):
            continue
        known.add(wanted.source)
        if len(files) >= MOST:
            if wanted.kind != "local":
                notes.append(_note(Refused(_name_of(wanted), f"more than {MOST} files"), wanted))
            continue
        found = await _found(wanted, places, session, limit, may)
        if isinstance(found, Refused):
            if wanted.kind != "local":  # a path in a sentence is no request
                notes.append(_note(found, wanted))
            continue
        if wanted.kind == "local":
            sent.append(wanted.source)
        if any(found.path == file.path for file in files):
            continue
        files.append(await asyncio.to_thread(meant, found, reply))
    text = without_lines(reply.text, sent) if sent else reply.text
    return Gathered("\n".join(filter(None, [text, *notes])), tuple(files))


def meant(file: Attachment, reply: Reply) -> Attachment:
    """The file as what its text calls it, if it can be that. Blocking."""
    if reply.voice and file.kind in (kinds.AUDIO, kinds.VOICE):
        return replace(file, kind=kinds.VOICE)
    if reply.sticker:
        try:
            with open(file.path, "rb") as content:
                head = content.read(kinds.HEAD)
        except OSError:
            return file  # whoever sends it says what is the matter
        if kinds.may_be_sticker(file.name, head):
            return replace(file, kind=kinds.STICKER)
    return file


async def admitted(text: str, files: Iterable[Attachment], places: Places, session: str, reply: Reply) -> Gathered:
    """The same for files that an agent has named as such, beside the text ``reply``."""
    taken: list[Attachment] = []
    notes: list[str] = []
    for file in files:
        found = await asyncio.to_thread(look, file.path, places, session, file.name)
        if isinstance(found, Refused):
            notes.append(_note(found))
        else:
            taken.append(await asyncio.to_thread(meant, found, reply))
    return Gathered("\n".join(filter(None, [text, *notes])), tuple(taken))


async def _found(wanted: Wanted, places: Places, session: str, limit: int, may: AddressJudge) -> Attachment | Refused:
    if wanted.kind != "image":
        return await asyncio.to_thread(look, wanted.source, places, session)
    name = _name_of(wanted)
    kind = kinds.ANIMATION if name.lower().endswith(".gif") else kinds.IMAGE
    if places.media is None:
        return Refused(name, "there is no place for it")
    try:
        return await download(wanted.source, Attachment("", name, "", kind), places.media, limit, may=may)
    except AdapterError as error:
        log.info("a picture of an answer is not sent: %s", error)
        return Refused(name, str(error))


def _name_of(wanted: Wanted) -> str:
    return safe_name(wanted.source.split("?")[0].split("#")[0].rstrip("/").rsplit("/", 1)[-1])


def _note(refused: Refused, wanted: Wanted | None = None) -> str:
    where = f" {shown(wanted.source)}" if wanted is not None and wanted.kind == "image" else ""
    return f"[file {refused.name}{where}: not sent, {refused.reason}]"


def _resolved(places: Places) -> Places:
    """With the links of the places themselves followed, as those of the files are."""
    real = [
        Path(os.path.realpath(one)) if one is not None else None for one in (places.home, places.media, places.work)
    ]
    return Places(*real)
