from __future__ import annotations

import base64
from pathlib import Path

import pytest

from hermesd.adapters.api_server.images import discard, store
from hermesd.adapters.api_server.openai import ApiProblem

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50


def url(data: bytes = PNG, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def test_images_are_stored_for_the_owner_only_and_discarded_again(tmp_path: Path) -> None:
    stored = store((url(), url()), tmp_path / "media", 100)
    assert [Path(attachment.path).read_bytes() for attachment in stored] == [PNG, PNG]
    assert (tmp_path / "media").stat().st_mode & 0o777 == 0o700
    discard(stored)
    assert list((tmp_path / "media").iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "status", "why"),
    [
        (url(mime="image/svg+xml"), 400, "image/svg.xml is not one of"),
        (url(b"GIF89a"), 400, "its content is not image/png"),
        ("data:image/png,raw", 400, "not of the form"),
        ("data:image/png;base64,@@@@", 400, "base64 is broken"),
        (url(PNG + b"\0" * 100), 413, "larger than 100 bytes"),
    ],
)
def test_one_bad_image_stores_none(tmp_path: Path, bad: str, status: int, why: str) -> None:
    with pytest.raises(ApiProblem, match=why) as caught:
        store((url(), bad), tmp_path / "media", 100)
    assert caught.value.status == status
    assert not (tmp_path / "media").exists()


def test_without_a_media_directory_images_are_refused_and_none_is_fine() -> None:
    assert store((), None, 100) == ()
    with pytest.raises(ApiProblem, match="takes no images"):
        store((url(),), None, 100)
