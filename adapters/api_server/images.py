"""Images that a request carries inline, written to the media directory."""

from __future__ import annotations

import base64
import binascii
import os
import re
import uuid
from pathlib import Path

from hermesd.adapters.api_server.openai import ApiProblem
from hermesd.adapters.contract import Attachment

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)((?:;[\w.+-]+=[\w.+-]+)*);base64,", re.ASCII)
_KINDS = {
    "image/png": ("png", b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": ("jpg", b"\xff\xd8\xff"),
    "image/gif": ("gif", b"GIF8"),
    "image/webp": ("webp", b"RIFF"),
}


def store(urls: tuple[str, ...], directory: Path | None, limit: int) -> tuple[Attachment, ...]:
    """Decode data URLs into files (0600) of ``directory``; blocking, so called in a thread.

    All or none: a bad one leaves no file behind. Raises `ApiProblem`: 400, or 413 over ``limit`` bytes.
    """
    if not urls:
        return ()
    if directory is None:
        raise ApiProblem(400, "this server takes no images: it has no media directory", code="images_not_supported")
    decoded = [_decode(url, number, limit) for number, url in enumerate(urls, 1)]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    stored: list[Attachment] = []
    try:
        for mime, data in decoded:
            name = f"api-{uuid.uuid4().hex}.{_KINDS[mime][0]}"
            path = directory / name
            stored.append(Attachment(str(path), name, mime))
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
    except OSError as error:
        discard(tuple(stored))
        raise ApiProblem(503, f"cannot keep the image: {error.strerror}", kind="server_error") from error
    return tuple(stored)


def discard(stored: tuple[Attachment, ...]) -> None:
    """Remove the files of a request that was not taken."""
    for attachment in stored:
        Path(attachment.path).unlink(missing_ok=True)


def _decode(url: str, number: int, limit: int) -> tuple[str, bytes]:
    match = _DATA_URL.match(url)
    if match is None:
        raise _bad(number, "its data: URL is not of the form data:image/png;base64,...")
    mime = match.group(1).lower()
    if mime not in _KINDS:
        raise _bad(number, f"{mime} is not one of {', '.join(_KINDS)}")
    encoded = url[match.end() :]
    if len(encoded) // 4 * 3 > limit + 2:
        raise ApiProblem(413, f"image {number} is larger than {limit} bytes", code="image_too_large")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad(number, f"its base64 is broken ({error})") from error
    if not data.startswith(_KINDS[mime][1]):
        raise _bad(number, f"its content is not {mime}")
    return mime, data


def _bad(number: int, why: str) -> ApiProblem:
    return ApiProblem(400, f"cannot read image {number} of the request: {why}", code="invalid_image", param="messages")
