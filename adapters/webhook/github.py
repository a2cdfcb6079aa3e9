"""``deliver: github_comment``: an answer as a comment on an issue or pull request, by way of GitHub's ``gh``.

``gh`` is already logged in where hermes-agent used it, and knows about GitHub Enterprise, tokens and proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil

from hermesd.adapters.errors import Gone, Rejected, Retry, Unauthorized, Uncertain

PREFIX = "github:"
_NAME = r"(?!\.{1,2}[/#])[A-Za-z0-9_.-]+"  # becomes a part of a path
PLACE = re.compile(rf"github:(?P<repo>{_NAME}/{_NAME})#(?P<number>[1-9][0-9]{{0,9}})")
COMMENT_LIMIT = 65536
"""Characters of one comment, as GitHub's API says when there are more."""

SECONDS = 30.0
RETRY_AFTER = 60.0

MISSING = "gh, GitHub's command, is not installed"
FIX = "install gh and run: gh auth login"

_STATUS = re.compile(r"\(HTTP (\d{3})\)")
_NOT_SENT = re.compile(r"error connecting to|dial tcp|no such host|connection refused", re.IGNORECASE)
_NOT_LOGGED_IN = re.compile(r"gh auth login|GH_TOKEN", re.IGNORECASE)


def is_place(chat: str) -> bool:
    """Whether a chat is an issue or a pull request."""
    return PLACE.fullmatch(chat) is not None


def missing() -> str:
    """Why no comment can be written on this machine, or ""."""
    return "" if shutil.which("gh") else MISSING


async def comment(chat: str, text: str) -> str:
    """Write a comment on ``github:OWNER/REPO#NUMBER``. Returns its id. Raises a `DeliveryError` or `Unauthorized`."""
    place = PLACE.fullmatch(chat)
    if place is None:
        raise Gone(f"cannot comment on {chat!r:.80}: that is no issue of a repository")
    path = f"repos/{place['repo']}/issues/{place['number']}/comments"  # a pull request is an issue there, too
    try:
        process = await asyncio.create_subprocess_exec(
            "gh", "api", "--method", "POST", path, "--input", "-",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Rejected(f"cannot comment on {chat}: {MISSING}", fix=FIX) from error
    except OSError as error:
        raise Retry(f"cannot start gh: {error.strerror}", RETRY_AFTER) from error
    try:
        async with asyncio.timeout(SECONDS):
            said, complaint = await process.communicate(json.dumps({"body": text}).encode())
    except TimeoutError as error:
        raise Uncertain(f"gh did not end within {SECONDS:.0f} s", RETRY_AFTER) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise _error(chat, complaint.decode("utf-8", "replace").strip())
    try:
        return str(json.loads(said)["id"])
    except (ValueError, KeyError, TypeError):
        return "unknown"  # it says that it is written, and not as what


def _error(chat: str, complaint: str) -> Exception:
    """What gh's words mean for the message (gh ends them with ``(HTTP 404)`` when GitHub has answered)."""
    first = complaint.partition("\n")[0] or "gh failed without a word"
    why = f"cannot comment on {chat}: {first}"
    found = _STATUS.search(complaint)
    match int(found[1]) if found else 0:
        case 401:
            return Unauthorized(why, fix=FIX)
        case 403 if "rate limit" in complaint.lower():
            return Retry(why, RETRY_AFTER)
        case 403:
            return Rejected(why, fix="give the account of gh write access to the repository")
        case 404 | 410:
            return Gone(why)
        case 429:
            return Retry(why, RETRY_AFTER)
        case status if status >= 500:
            return Uncertain(why, RETRY_AFTER)
        case status if status:
            return Rejected(why)
    if _NOT_SENT.search(complaint):
        return Retry(why, RETRY_AFTER)
    if _NOT_LOGGED_IN.search(complaint):
        return Rejected(why, fix=FIX)
    return Uncertain(why, RETRY_AFTER)
