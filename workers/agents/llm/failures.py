"""What an endpoint's error means: one sentence for the chat, and what may be tried next. Pure.

The table is by HTTP status; what comes without one (no connection, a stream that breaks) has rows of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import openai

from hermesd.ipc.redaction import Redactor

from .settings import Model

SAID_LENGTH = 300
"""Characters of an endpoint's own message that the chat is shown: some answer with whole web pages."""

PATIENCE = 30.0
"""Seconds of a ``Retry-After`` that are waited for; a longer one is told instead."""

TRIES = 3
BACKOFF = 0.5


class Kind(StrEnum):
    """What went wrong, where no HTTP status says it."""

    UNREACHABLE = "unreachable"
    SILENT = "silent"
    CUT = "cut"
    UNREADABLE = "unreadable"
    NOTHING = "nothing"
    TOO_LONG = "too_long"
    OTHER = "other"


class Cut(Exception):
    """A stream that ended before its model had said that it is done."""


class Nothing(Exception):
    """An answer with neither text nor tool calls."""


@dataclass(frozen=True, slots=True)
class Row:
    """``again``: the same request may succeed a little later. ``elsewhere``: another provider may not have this."""

    sentence: str
    again: bool = False
    elsewhere: bool = False


_BUSY = Row("{place} takes no more requests just now ({status}){wait}{said}", again=True, elsewhere=True)
_BROKEN = Row("{place} has a fault of its own ({status}){said}", again=True, elsewhere=True)
_REFUSED = Row("{place} refused the request for the model {model} ({status}){said}")
_KEY = Row("{place} did not accept the key for the model {model} ({status}){said}", elsewhere=True)

TABLE: Mapping[int | Kind, Row] = {
    401: _KEY,
    402: Row("{place} wants to be paid before it answers (402){said}", elsewhere=True),
    403: _KEY,
    404: Row("{place} knows no model {model} (404){said}", elsewhere=True),
    408: _BUSY,
    409: _BUSY,
    413: Row("the request is too large for {place} (413){said}"),
    429: _BUSY,
    Kind.UNREACHABLE: Row("{place} cannot be reached{said}", again=True, elsewhere=True),
    Kind.SILENT: Row("{place} did not answer in time", elsewhere=True),
    Kind.CUT: Row("the answer of the model {model} broke off in the middle{said}", again=True, elsewhere=True),
    Kind.UNREADABLE: Row("{place} sent an answer that cannot be read{said}", again=True, elsewhere=True),
    Kind.NOTHING: Row("the model {model} answered with nothing", again=True, elsewhere=True),
    Kind.TOO_LONG: Row("the conversation is too long for the model {model}{said}"),
    Kind.OTHER: Row("{place} answered with an error{said}", elsewhere=True),
}
"""Of the other statuses, 4xx are refusals and 5xx faults of the endpoint."""

_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|maximum context|too many tokens|(?:prompt|input) is too long|"
    r"reduce the length of (?:the|your) (?:messages|prompt)|exceeds the maximum number of tokens|"
    r"too large for model|exceeds? the (?:model'?s )?maximum (?:input|sequence|prompt) length|context the overflows",
    re.IGNORECASE,
)
_LIMIT = re.compile(
    r"(?:maximum context (?:length|size) (?:is|of)|context (?:size|window|length) (?:\(|of |is )?|limit (?:is|of) |"
    r"tokens > |tokens allowed \(|too large for model with )\s*(\d{3,8})",
    re.IGNORECASE,
)
_IMAGES = re.compile(r"image|multi-?modal|\bvision\b|content must be a string", re.IGNORECASE)
_THIS_IMAGE = re.compile(
    r"(?:could not|unable to|failed to|cannot) (?:process|decode|download|fetch|read|load)|unsupported image|"
    r"image data|invalid (?:base64 )?image\b|too large|too small|exceeds|below \d|"
    r"dimension|pixels|corrupt|media[_ ]type",
    re.IGNORECASE,
)
"""Of an image that is broken or too large: the next one may be taken."""
_NO_SUCH_MODEL = re.compile(
    r"model[\s_].{0,80}?(?:not[ _]found|does not exist|not exist|unknown|not a valid|invalid|no longer)|"
    r"(?:unknown|invalid|no such)[ _]model|not a valid model",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """``retry_after``: seconds that the endpoint asked for. ``limit``: the window it named, in tokens; 0 = none."""

    sentence: str
    status: int = 0
    again: bool = False
    elsewhere: bool = False
    retry_after: float = 0.0
    too_long: bool = False
    limit: int = 0
    nothing: bool = False  # an answer that is empty
    about_images: bool = False  # perhaps: the request itself was disliked, or images are spoken of
    takes_no_images: bool = False  # surely: that is what it says


def failure_of(error: Exception, model: Model, *, begun: bool = False) -> Failure:
    """Any exception of a request, the SDK's, its transport's, `Cut` and `Nothing` included. ``begun``: after text."""
    key, status, said, retry_after = _look(error)
    if begun and key is Kind.UNREACHABLE:
        key = Kind.CUT
    too_long = key not in (401, 403, 429) and isinstance(error, openai.APIError) and bool(_TOO_LONG.search(said))
    row = TABLE.get(Kind.TOO_LONG if too_long else key) or (_BROKEN if status >= 500 else _REFUSED)
    limit = _limit(error, said) if too_long else 0
    takes_none = not too_long and bool(_IMAGES.search(said)) and not _THIS_IMAGE.search(said)
    return Failure(
        sentence=row.sentence.format(
            place=model.place,
            model=model.name,
            status=status,
            wait=f" and asks to wait for {retry_after:g} s" if retry_after else "",
            # Some endpoints repeat the key that they do not like.
            said=f": {_one_line(Redactor([model.api_key]).clean(said))}" if said else "",
        ),
        status=status,
        again=row.again,
        # Some endpoints say by a 400 that they do not have the model.
        elsewhere=row.elsewhere or status >= 500 or (status == 400 and bool(_NO_SUCH_MODEL.search(said))),
        retry_after=retry_after,
        too_long=too_long,
        limit=limit,
        nothing=key is Kind.NOTHING,
        about_images=not too_long and (status in (400, 404, 413, 415, 422) or bool(_IMAGES.search(said))),
        takes_no_images=takes_none,
    )


def wait_before(failure: Failure, tries: int, *, stand_in: bool, chance: float) -> float | None:
    """Seconds until the same model is asked again; None: not at all.

    ``tries``: how often it was asked. With a stand-in ready nobody waits. ``chance`` from 0 to 1.
    """
    if not failure.again or stand_in or tries >= TRIES or failure.retry_after > PATIENCE:
        return None
    if failure.retry_after:
        return failure.retry_after
    # So little jitter that each wait is longer than the one before, whatever the chance.
    return float(BACKOFF * 2 ** (tries - 1)) * (1.0 + chance / 2)


def _look(error: Exception) -> tuple[int | Kind, int, str, float]:
    """Row, HTTP status (0: none), the endpoint's own words, and the seconds that it asked to wait."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code, error.status_code, _message(error), _retry_after(error.response.headers)
    if isinstance(error, openai.APITimeoutError):
        return Kind.SILENT, 0, "", 0.0
    if isinstance(error, openai.APIConnectionError):
        return Kind.UNREACHABLE, 0, _deepest(error), 0.0
    if isinstance(error, openai.APIError):
        # In the middle of a stream; OpenRouter gives the status that its own provider answered with.
        code = str(error.code or "")
        status = int(code) if code.isdigit() and 400 <= int(code) <= 599 else 0
        return status or Kind.OTHER, status, _message(error), 0.0
    if isinstance(error, Nothing):
        return Kind.NOTHING, 0, "", 0.0
    if isinstance(error, Cut):
        return Kind.CUT, 0, str(error), 0.0
    if isinstance(error, ValueError):  # JSONDecodeError and UnicodeDecodeError of a chunk; the SDK lets them through
        return Kind.UNREADABLE, 0, "", 0.0
    return Kind.OTHER, 0, f"{type(error).__name__}: {error}", 0.0


def _limit(error: Exception, said: str) -> int:
    """The window that an endpoint names, in its words or, as llama.cpp's server does, in a field of its own."""
    body = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(named := body.get("n_ctx"), int):
        return named
    found = _LIMIT.search(said)
    return int(found[1]) if found else 0


def _message(error: openai.APIError) -> str:
    """What the endpoint says, without the SDK's repetition of the whole body around it."""
    body: Any = error.body
    for _ in range(2):  # {"error": {"message": ...}}, of which the SDK takes off the outer part where it is there
        if isinstance(body, dict):
            body = body.get("message") or body.get("error") or body.get("detail") or ""
    return body if isinstance(body, str) else error.message


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(headers.get("retry-after", "") or 0.0))
    except ValueError:  # a date: nobody on the far side of an API key sends one
        return 0.0


def _deepest(error: BaseException) -> str:
    """The cause that says why: the ones around it only say that there was one."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def _one_line(said: str) -> str:
    line = " ".join(said.split())
    return line if len(line) <= SAID_LENGTH else f"{line[: SAID_LENGTH - 1]}…"
