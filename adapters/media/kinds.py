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
_MIME_OF = {
    ".opus": "audio/ogg", ".m4a": "audio/mp4", ".md": "text/markdown", ".webp": "image/webp",
    ".tgs": "application/x-tgsticker",
}  # fmt: skip
HEAD = 32
"""First bytes of a file that tell everything asked here."""

STICKER_SIDE = 512
"""Pixels: core.telegram.org/stickers#static-stickers-and-emoji."""

_MATROSKA = b"\x1a\x45\xdf\xa3"
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


def image_size(head: bytes) -> tuple[int, int]:
    """Width and height of a PNG, GIF or WebP by its first bytes, (0, 0) where they do not tell."""
    kind = image_type(head)
    if kind == "image/png" and head[12:16] == b"IHDR":
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if kind == "image/gif":
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if kind == "image/webp" and len(head) >= 30:
        # developers.google.com/speed/webp/docs/riff_container; lossy: RFC 6386 9.1, lossless: its specification 3
        if head[12:16] == b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        if head[12:16] == b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
        if head[12:16] == b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 0, 0


def is_animated_sticker(name: str, head: bytes) -> bool:
    """A ``.tgs`` is nothing else: a gzipped Lottie animation."""
    return PurePath(name).suffix.lower() == ".tgs" and head.startswith(b"\x1f\x8b")


def may_be_sticker(name: str, head: bytes) -> bool:
    """Whether a file can be sent as a sticker: pictures of at most `STICKER_SIDE`, and what networks animate."""
    if is_animated_sticker(name, head) or (PurePath(name).suffix.lower() == ".webm" and head.startswith(_MATROSKA)):
        return True
    width, height = image_size(head)
    return 0 < width <= STICKER_SIDE and 0 < height <= STICKER_SIDE


def kind_of(name: str, mime: str = "") -> str:
    """How a platform shows a file of this name; the MIME type decides where the name does not."""
    by_name = _KIND_OF.get(PurePath(name).suffix.lower())
    if by_name is not None:
        return by_name
    top = mime.partition("/")[0]
    if mime == "image/gif":
        return ANIMATION
    return {"image": IMAGE, "audio": AUDIO, "video": VIDEO}.get(top, DOCUMENT)


def shown_as(name: str, mime: str, kind: str) -> str:
    """The kind of a file where it cannot be a sticker."""
    return kind_of(name, mime) if kind == STICKER else kind


def mime_of(name: str) -> str:
    """The MIME type that goes with a name."""
    suffix = PurePath(name).suffix.lower()
    return _MIME_OF.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or "application/octet-stream"


def suffix_of(mime: str) -> str:
    """The ending that goes with a MIME type, "" where there is none."""
    return _SUFFIX_OF.get(mime) or mimetypes.guess_extension(mime) or ""
