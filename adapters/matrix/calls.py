"""What the homeserver's errors mean for the core: one table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
from mautrix import errors as matrix

from hermesd.adapters.errors import AdapterError, DeliveryError, Gone, Rejected, Retry, Unauthorized

AFTER = 2.0
"""Seconds until the next try of a call that failed without the server saying when."""

NEW_TOKEN = "set MATRIX_ACCESS_TOKEN to a new access token, or MATRIX_PASSWORD"


class Limited(matrix.MLimitExceeded):
    """Too many requests. mautrix drops the body of an error, and with it when the next one may come
    (mautrix/errors/request.py:86): this one keeps it.
    """

    def __init__(self, http_status: int, message: str, after: float):
        super().__init__(http_status, message)
        self.after = after


async def judge(response: aiohttp.ClientResponse) -> None:
    """``raise_for_status`` of the client session: sees every response first. A homeserver's error goes on to mautrix;
    one of whatever stands before it is none that mautrix could read.
    """
    if response.status < 400:
        return
    text = (await response.read()).decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if response.status == 429:
        raise _limited(response, body if isinstance(body, dict) else {})
    if not isinstance(body, dict) or not isinstance(body.get("errcode"), str):
        raise matrix.MatrixUnknownRequestError(response.status, text)


def _limited(response: aiohttp.ClientResponse, body: Mapping[str, Any]) -> Limited:
    try:
        after = float(body.get("retry_after_ms", 0)) / 1000
    except (ValueError, TypeError):
        after = 0.0
    header = response.headers.get("Retry-After", "")
    if not after and header.isdecimal():
        after = float(header)
    return Limited(429, str(body.get("error", "")) or "too many requests", after or AFTER)


TOO_LARGE = frozenset({413, 414, 431})
"""What a reverse proxy says of a request that will be too large the next time too."""


# The first line that fits decides.
_TABLE: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], type[AdapterError]], ...] = (
    ((matrix.MatrixInvalidToken, matrix.MUserDeactivated), Unauthorized),
    (matrix.MLimitExceeded, Retry),
    # Not in the room, no such room, no such event: nothing more will go there.
    ((matrix.MForbidden, matrix.MNotFound, matrix.MGuestAccessForbidden), Gone),
    ((matrix.MatrixBadRequest, matrix.MUnrecognized, matrix.MUnknownEndpoint), Rejected),
    # The same transaction id makes a second try harmless: never "uncertain".
    ((matrix.MatrixConnectionError, aiohttp.ClientError, asyncio.TimeoutError, OSError), Retry),
    (matrix.MatrixResponseError, Retry),
    (matrix.EncryptionError, Retry),
)


def translated(error: BaseException, doing: str) -> AdapterError | None:
    """``error`` as the core takes it; None for what is no error of a call."""
    kind = next((kind for found, kind in _TABLE if isinstance(error, found)), None)
    if kind is None and isinstance(error, matrix.MatrixRequestError):
        kind = Rejected if _is_final(error) else Retry
    if kind is None:
        return None
    said = f"cannot {doing}: {_words(error)}"
    if kind is Retry:
        return Retry(said, after=error.after, flood=True) if isinstance(error, Limited) else Retry(said, after=AFTER)
    return kind(said, fix=NEW_TOKEN) if kind is Unauthorized else kind(said)


def _is_final(error: matrix.MatrixRequestError) -> bool:
    """Without a word of Matrix' it is not the homeserver that answers: a reverse proxy says 404, or whatever else it
    likes, as long as the server behind it is not there.
    """
    if not 400 <= error.http_status < 500 or error.http_status == 408:
        return False
    return bool(error.errcode) or error.http_status in TOO_LARGE


def _words(error: BaseException) -> str:
    if isinstance(error, matrix.MatrixUnknownRequestError) and not error.errcode:
        return f"status {error.http_status}, and no word of a Matrix server: {' '.join(error.text.split())[:200]}"
    code = getattr(error, "errcode", None)
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    return f"{message} ({code})" if code else str(message)[:500]


@contextmanager
def calling(doing: str) -> Iterator[None]:
    """Errors of the calls inside come out as the core's. ``doing``: "cannot {doing}: ..." """
    try:
        yield
    except AdapterError:
        raise
    except Exception as error:
        if (ours := translated(error, doing)) is None:
            raise
        raise ours from error


def is_passing(error: AdapterError) -> bool:
    """Whether the same call may go through later."""
    return isinstance(error, DeliveryError) and not isinstance(error, Gone | Rejected)
