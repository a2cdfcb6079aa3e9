"""A server that wants OAuth, from the login of a person to workers that share what it brought."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.mcp_http import Running, figures_of, guarded, visit
from harness.mcp_pool import Scene

from hermesd.supervisor.config.settings import McpServer, OAuth
from hermesd.supervisor.oauth.login import LoginFailed, login

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="workers are looked at in /proc")

LIFE = 2.0


@pytest.fixture
def server() -> Iterator[Running]:
    with guarded(life=LIFE) as running:
        yield running


@pytest.fixture
async def scene(tmp_path: Path, server: Running) -> AsyncIterator[Scene]:
    far = McpServer(url=server.url, auth="oauth", connect_timeout=60, oauth=OAuth(timeout=60))
    made = await Scene(tmp_path, {"far": far}).start()
    yield made
    await made.close()


async def never() -> str:
    await asyncio.Event().wait()
    return ""


async def test_workers_share_what_one_login_has_brought(scene: Scene, server: Running) -> None:
    far, store = scene.servers["far"], scene.tokens.store
    ann, bob = await scene.session("ann"), await scene.session("bob")
    assert "has not been authorised yet: run hermesctl mcp login far" in await scene.call(ann, "far.add", a=2, b=40)
    scene.mcp.pardon("far")

    # A browser on this machine comes back by itself.
    loop = asyncio.get_running_loop()
    await login("far", far, store, show=lambda address: _soon(loop, address), pasted=never)
    assert store.file_of("far").stat().st_mode & 0o777 == 0o600

    # From one on another machine, a person pastes the address that it ended at.
    shown: asyncio.Future[str] = loop.create_future()

    async def pasted() -> str:
        return await asyncio.to_thread(visit, await shown, follow=False)

    await login("far", far, store, show=shown.set_result, pasted=pasted)

    for _ in range(2):
        calls = [scene.begin(worker, "far.add", a=2, b=40) for worker in (ann, bob)]
        assert await asyncio.gather(*calls) == ["42", "42"]
        await asyncio.sleep(LIFE)  # the token's, which nothing but time ends
    found = figures_of(server)
    assert (found["refused"], found["reused"]) == (0, 0)
    assert found["refreshed"] >= 1


async def test_a_login_that_nobody_finishes_says_so(tmp_path: Path, scene: Scene, server: Running) -> None:
    far = McpServer(url=server.url, auth="oauth", oauth=OAuth(timeout=0.01))
    with pytest.raises(LoginFailed, match="nobody came back from the browser"):
        await login("far", far, scene.tokens.store, show=lambda address: None, pasted=never)
    with pytest.raises(LoginFailed, match="access_denied"):
        await login("far", scene.servers["far"], scene.tokens.store, show=lambda _: None, pasted=_denied)


async def _denied() -> str:
    return "http://127.0.0.1/callback?error=access_denied"


def _soon(loop: asyncio.AbstractEventLoop, address: str) -> None:
    loop.run_in_executor(None, visit, address)
