"""What a file is: by its first bytes where that can be known, else by its name."""

from __future__ import annotations

import mimetypes
from pathlib import PurePath

IMAGE, ANIMATION, VOICE, AUDIO, VIDEO, DOCUMENT, STICKER = (
    "image", "animation", "voice", "audio", "video", "document", "sticker",
)  # fmt: skip

_KIND_OF = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".bmp"), IMAGE),
    ".gif": ANIMATION,
    **dict.fromkeys((".ogg", ".opus"), VOICE),
    **dict.fromkeys((".mp3", ".wav", ".m4a", ".flac"), AUDIO),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".3gp"), VIDEO),
}
_MIME_OF = {".opus": "audio/ogg", ".m4a": "audio/mp4", ".md": "text/markdown", ".webp": "image/webp"}
_SUFFIX_OF = {"image/jpeg": ".jpg", "audio/ogg": ".ogg", "audio/mp4": ".m4a", "image/webp": ".webp"}


def image_type(head: bytes) -> str:
    """The MIME type of an image by its first 12 bytes, "" for what is none that a model could look at.

    An error page that a server sends in place of a picture must not be taken for one.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"BM"):
        return "image/bmp"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return ""


def kind_of(name: str, mime: str = "") -> str:
    """How a platform shows a file of this name; the MIME type decides where the name does not."""
    by_name = _KIND_OF.get(PurePath(name).suffix.lower())
    if by_name is not None:
        return by_name
    top = mime.partition("/")[0]
    if mime == "image/gif":
        return ANIMATION
    return {"image": IMAGE, "audio": AUDIO, "video": VIDEO}.get(top, DOCUMENT)


def mime_of(name: str) -> str:
    """The MIME type that goes with a name."""
    suffix = PurePath(name).suffix.lower()
    return _MIME_OF.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or "application/octet-stream"


def suffix_of(mime: str) -> str:
    """The ending that goes with a MIME type, "" where there is none."""
    return _SUFFIX_OF.get(mime) or mimetypes.guess_extension(mime) or ""
