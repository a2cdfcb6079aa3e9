"""An MCP server with scope: host, in real workers of a real pool: one process, and whose death is felt by whom."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.mcp_pool import Scene
from harness.scene import HOSTILE

from hermesd.supervisor.config.settings import McpServer

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="workers are looked at in /proc")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    one = McpServer(command=sys.executable, args=("-S", str(HOSTILE), "be_plain"), scope="host", connect_timeout=60)
    made = await Scene(tmp_path, {"one": one}).start()
    yield made
    await made.close()


async def test_one_process_serves_all_and_its_death_is_felt_by_the_calls_under_way_only(scene: Scene) -> None:
    ann, bob = await scene.session("ann"), await scene.session("bob")
    calls = [scene.begin(ann, "one.echo", by="ann"), scene.begin(bob, "one.echo", by="bob")]
    assert await asyncio.gather(*calls) == ['echo: {"by": "ann"}', 'echo: {"by": "bob"}']
    holder = scene.holder()
    ((where, first),) = scene.server_pids().items()
    assert where == holder.id

    # Side by side, and the death of the server is told to who waits for it.
    slow = scene.begin(ann, "one.slow", seconds=600)
    await scene.until(lambda: scene.holders.under_way(holder))
    assert await scene.call(bob, "one.echo", by="bob") == 'echo: {"by": "bob"}'
    os.kill(first, signal.SIGKILL)
    assert "ended during 'slow': it was killed by SIGKILL" in await slow
    assert await scene.call(ann, "one.echo", by="ann") == 'echo: {"by": "ann"}'
    assert await scene.call(bob, "one.echo", by="bob") == 'echo: {"by": "bob"}'
    assert list(scene.server_pids()) == [holder.id]
    assert scene.server_pids()[holder.id] != first

    # So is that of the worker that holds it; nobody else ends.
    slow = scene.begin(bob, "one.slow", seconds=600)
    await scene.until(lambda: scene.holders.under_way(holder))
    scene.pool.kill(holder)
    holder.ending = False  # as if something else had killed it
    assert "'one' ended during the call" in await slow
    assert await scene.call(ann, "one.echo", by="ann") == 'echo: {"by": "ann"}'
    assert scene.holder() is not holder
    assert {worker.session for worker in scene.pool.workers.values()} == {"s:ann", "s:bob", None}

    # A session's own end cancels its own call.
    slow = scene.begin(ann, "one.slow", seconds=600)
    await scene.until(lambda: scene.holders.under_way(scene.holder()))
    await scene.call(bob, "one.echo", by="bob")  # the server has the one before then: else there is nothing to cancel
    scene.pool.kill(ann)
    await scene.until(lambda: not scene.holders.under_way(scene.holder()))
    slow.cancel()
    async with asyncio.timeout(60):
        while not json.loads((await scene.call(bob, "one.cancelled")).removeprefix("cancelled: ")):
            await asyncio.sleep(0.02)

    # What else it has is known without anybody's question.
    await scene.call(bob, "one.add", name="more")
    await scene.until(lambda: "more" in {tool.name for tool in scene.mcp.standing("one").tools or ()})

    # It is shared no more: the holder ends.
    scene.reload({})
    await scene.until(lambda: not any(worker.serves for worker in scene.pool.workers.values()))
