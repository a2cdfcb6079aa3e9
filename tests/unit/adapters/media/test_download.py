"""What is fetched, and from where it never is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from hermesd.adapters.contract import Attachment
from hermesd.adapters.errors import Gone, Rejected, Retry
from hermesd.adapters.media import download as downloading
from hermesd.adapters.media.download import download, is_public

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1", "::",
    ],
)  # fmt: skip
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async def picture(request: web.Request) -> web.Response:
        return web.Response(body=PNG)

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>no picture</html>")

    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["to"])

    async def round_again(request: web.Request) -> web.Response:
        raise web.HTTPFound("/round")

    async def status(request: web.Request) -> web.Response:
        return web.Response(status=int(request.query["is"]))

    app = web.Application()
    app.add_routes([web.get("/picture", picture), web.get("/page", page), web.get("/away", away),
                    web.get("/status", status), web.get("/round", round_again)])  # fmt: skip
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def only_first_octet_127(address: str) -> bool:
    """In place of the internet: this machine, but not by its IPv6 address."""
    return address.startswith("127.")


async def fetch(url: str, directory: Path, limit: int = 10_000) -> Attachment:
    return await download(url, Attachment("", "p.png", kind="image"), directory, limit, may=only_first_octet_127)


async def test_a_picture_is_stored_with_the_type_of_its_content(site: str, tmp_path: Path) -> None:
    stored = await fetch(f"{site}/picture", tmp_path)
    assert Path(stored.path).read_bytes() == PNG
    assert (stored.mime, stored.size) == ("image/png", len(PNG))
    assert Path(stored.path).stat().st_mode & 0o777 == 0o600


async def test_an_error_page_is_no_picture(site: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="not an image"):
        await fetch(f"{site}/page", tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_too_large(site: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="allowed"):
        await fetch(f"{site}/picture", tmp_path, limit=20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["http://[::1]:1/x", "http://10.0.0.1/x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
async def test_a_redirect_to_where_nothing_is_fetched_from(site: str, tmp_path: Path, to: str) -> None:
    with pytest.raises(Rejected, match="cannot fetch"):
        await fetch(f"{site}/away?to={to}", tmp_path)


async def test_redirects_end(site: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="redirects"):
        await fetch(
            f"{site}/away?to=/away%3Fto=/away%253Fto=/away%25253Fto=/away%2525253Fto=/away%252525253Fto=/x", tmp_path
        )


async def test_a_redirect_is_followed(site: str, tmp_path: Path) -> None:
    assert (await fetch(f"{site}/away?to=/picture", tmp_path)).size == len(PNG)


async def test_a_name_that_stands_for_a_private_address(site: str, tmp_path: Path) -> None:
    file = Attachment("", "p.png", kind="image")
    with pytest.raises(Rejected, match="private network"):
        await download(site.replace("127.0.0.1", "localhost") + "/picture", file, tmp_path, 1000)


@pytest.mark.parametrize(("status", "error"), [(404, Gone), (410, Gone), (429, Retry), (503, Retry), (403, Rejected)])
async def test_what_a_status_means(site: str, tmp_path: Path, status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=str(status)):
        await fetch(f"{site}/status?is={status}", tmp_path)


async def test_behind_a_proxy_names_are_its_affair_and_numbers_are_judged_all_the_same(tmp_path: Path) -> None:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(PNG) + PNG)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        file = Attachment("", "p.png", kind="image")
        stored = await download("http://cdn.invalid/p.png", file, tmp_path, 10_000, proxy=proxy)
        assert Path(stored.path).read_bytes() == PNG
        with pytest.raises(Rejected, match="private network"):
            await download("http://169.254.169.254/latest", file, tmp_path, 10_000, proxy=proxy)
    assert asked == ["GET http://cdn.invalid/p.png HTTP/1.1"]


def test_no_secret_of_a_url_is_shown() -> None:
    assert downloading.shown("https://user:pw@files.example/a/b?token=secret#x") == "https://files.example/a/b"
