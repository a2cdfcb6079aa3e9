"""Servers that misbehave are reached where they can be, and always gone when they are stopped."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from harness.figures import StopWatch

from hermesd.ipc.mcp import ServerSpec
from hermesd.workers.mcp import sdk
from hermesd.workers.mcp.errors import (
    CallRejected,
    CallTimeout,
    CannotStart,
    NoSuchServer,
    NoSuchTool,
    ServerDied,
    ServersStopped,
)

pytestmark = pytest.mark.usefixtures("stopping")

# Habit, and how many processes it has once it is ready.
LIVING = {
    "be_plain": 1,
    "leave_a_child": 2,
    "double_fork": 2,
    "hide": 2,
    "hold_the_pipes": 2,
    "stop_itself": 2,
    "write_garbage": 1,
    "refuse_oddly": 1,
    "flood_stderr": 1,
    "fill_stdout_at_the_end": 1,
    "ignore_everything": 1,
}


@pytest.mark.alone("a stop is to end on time")
@pytest.mark.parametrize("habit", LIVING)
async def test_a_server_of_any_habit_answers_and_is_gone_after_the_stop(pen, habit):
    servers = pen.servers(pen.hostile(habit), grace=0.3)
    assert (await servers.call("h", "echo", {"a": 1})).text == 'echo: {"a": 1}'
    await pen.oracle.wait_alive(LIVING[habit])
    watch = StopWatch()
    await servers.stop(5.0)
    took = watch.seconds()
    assert pen.oracle.alive() == 0
    assert pen.tagged() == []
    assert [str(report.state) for report in servers.reports()] == ["stopped"]
    assert took < 1.5, "0.3 s of grace, twice for a server that ignores everything; 5 s were allowed"
    assert pen.states() == [("starting", 1), ("ready", 1), ("stopping", 1), ("stopped", 1)]


@pytest.mark.alone("a stop is to end on time")
async def test_a_polite_server_is_not_kept_waiting(pen):
    servers = pen.servers(pen.hostile("be_plain"), grace=5.0)
    await servers.call("h", "echo", {})
    watch = StopWatch()
    await servers.stop(10.0)
    assert watch.seconds() < 1.0


async def test_ten_servers_that_ignore_everything_are_stopped_at_once(pen):
    servers = pen.servers(*(pen.hostile("ignore_everything", f"h{number}") for number in range(10)), grace=2.0)
    assert len(await servers.tools()) == 120
    await pen.oracle.wait_alive(10)
    watch = StopWatch()
    await servers.stop(6.0)
    assert watch.seconds() < 6.0
    assert pen.oracle.alive() == 0
    assert {str(report.state) for report in servers.reports()} == {"stopped"}


@pytest.mark.alone("a stop is to end on time")
async def test_a_stop_keeps_its_budget_however_long_the_grace_is(pen):
    servers = pen.servers(pen.hostile("ignore_everything"), grace=30.0)
    await servers.call("h", "echo", {})
    watch = StopWatch()
    await servers.stop(1.0)
    assert watch.seconds() < 1.5
    assert pen.oracle.alive() == 0


async def test_nothing_starts_before_the_first_need_and_its_slot_is_told_before_its_process(pen):
    servers = pen.servers(pen.hostile("be_plain"), pen.hostile("be_plain", "other"))
    assert [(report.name, str(report.state), report.pid) for report in servers.reports()] == [
        ("h", "stopped", 0),
        ("other", "stopped", 0),
    ]
    assert pen.members() == ()
    await servers.call("h", "echo", {})
    first = pen.reports[0][0]
    assert (str(first.state), first.generation, first.pid) == ("starting", 1, 0)
    assert first.container == "w-w1/mcp-h-1"
    ready = servers.reports()[0]
    assert ready.pid in pen.members()
    assert ready.start_ticks == int(Path(f"/proc/{ready.pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    assert servers.reports()[1].pid == 0


async def test_a_crash_fails_the_calls_in_flight_with_its_last_words_and_the_next_call_starts_anew(pen):
    servers = pen.servers(pen.hostile("hold_the_pipes"))
    waiting = [asyncio.create_task(servers.call("h", "slow", {"seconds": 50})) for _ in range(3)]
    await pen.oracle.wait_alive(2)
    with pytest.raises(ServerDied, match=r"ended during 'exit': it exited with status 9; .*\| I am out of cheese$"):
        await servers.call("h", "exit", {"status": 9})
    for task in waiting:
        with pytest.raises(ServerDied, match="ended during 'slow': it exited with status 9"):
            await task
    assert (await servers.call("h", "echo", {})).text == "echo: {}"
    await pen.oracle.wait_alive(2)
    assert pen.states() == [
        ("starting", 1), ("ready", 1), ("emptying", 1), ("broken", 1), ("starting", 2), ("ready", 2),
    ]  # fmt: skip
    assert servers.reports()[0].reason == ""


async def test_a_server_that_is_killed_from_outside_is_noticed_without_a_call(pen):
    servers = pen.servers(pen.hostile("hold_the_pipes"))
    await servers.call("h", "echo", {})
    os.kill(servers.reports()[0].pid, signal.SIGKILL)
    await pen.oracle.wait_alive(0)
    async with asyncio.timeout(30):
        while servers.reports()[0].state != "broken":
            await asyncio.sleep(0.005)
    assert servers.reports()[0].reason.startswith("it was killed by SIGKILL")


async def test_a_server_that_closes_its_output_is_ended(pen):
    servers = pen.servers(pen.hostile("be_plain"))
    with pytest.raises(ServerDied, match="closed its connection and still runs"):
        await servers.call("h", "close_stdout", {})
    assert (await servers.call("h", "echo", {})).text == "echo: {}"
    assert pen.oracle.alive() == 1


async def test_a_server_that_dies_of_the_probe_is_reached_by_a_fresh_process(pen):
    servers = pen.servers(pen.hostile("die_of_the_probe"))
    assert (await servers.call("h", "echo", {})).text == "echo: {}"
    if hasattr(sdk.ClientSession, "discover"):
        assert pen.states() == [("starting", 1), ("replacing", 1), ("starting", 2), ("ready", 2)]
    with pytest.raises(ServerDied):
        await servers.call("h", "kill", {})
    await servers.call("h", "echo", {})
    assert [state for state, _ in pen.states()].count("replacing") <= 1


async def test_a_server_that_hangs_at_the_probe_is_reached_by_a_fresh_process(pen):
    servers = pen.servers(pen.hostile("hang_at_the_probe", connect_timeout=3.2))
    assert (await servers.call("h", "echo", {})).text == "echo: {}"
    await pen.oracle.wait_alive(1)


async def test_a_server_that_does_not_start_says_why_and_is_tried_again_by_the_next_call(pen):
    servers = pen.servers(pen.hostile("die_at_once"), ServerSpec("typo", "no-such-command"))
    for _ in range(2):
        with pytest.raises(CannotStart, match=r"exited with status 1; its last words: no API key: set HOSTILE_KEY"):
            await servers.call("h", "echo", {})
    with pytest.raises(CannotStart, match=r"MCP server 'typo' does not start: .*command not found on PATH="):
        await servers.call("typo", "echo", {})
    assert {report.name: str(report.state) for report in servers.reports()} == {"h": "broken", "typo": "broken"}
    assert servers.reports()[0].generation >= 2
    assert await servers.tools() == []


async def test_a_server_that_never_reads_is_given_up_after_its_time(pen):
    servers = pen.servers(pen.hostile("never_read", connect_timeout=0.8))
    watch = StopWatch()
    with pytest.raises(CannotStart, match=r"no answer"):
        await servers.call("h", "echo", {})
    assert watch.seconds() < 5.0
    assert pen.oracle.alive() == 0


async def test_a_stop_ends_a_start_that_hangs(pen):
    servers = pen.servers(pen.hostile("never_read"), grace=0.1)
    call = asyncio.create_task(servers.call("h", "echo", {}))
    await pen.oracle.wait_alive(1)
    await servers.stop(2.0)
    with pytest.raises(ServersStopped):
        await call
    with pytest.raises(ServersStopped):
        await servers.call("h", "echo", {})
    assert pen.oracle.alive() == 0


@pytest.mark.alone("a stop is to end on time")
async def test_calls_run_side_by_side(pen):
    servers = pen.servers(pen.hostile("be_plain"))
    await servers.tools()
    watch = StopWatch()
    results = await asyncio.gather(*(servers.call("h", "slow", {"seconds": 0.3}) for _ in range(20)))
    took = watch.seconds()
    assert {result.text for result in results} == {"after 0.3"}
    assert took < 1.5  # one after the other: 6


async def test_a_cancelled_call_tells_the_server_and_leaves_the_session_whole(pen):
    servers = pen.servers(pen.hostile("be_plain"))
    await servers.tools()
    call = asyncio.create_task(servers.call("h", "slow", {"seconds": 50}))
    await asyncio.sleep(0)
    await servers.call("h", "echo", {})
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await servers.call("h", "echo", {})).text == "echo: {}"
    if hasattr(sdk.ClientSession, "discover"):  # version 1 of the SDK tells nobody
        assert len(json.loads((await servers.call("h", "cancelled", {})).text)) == 1
    assert pen.states()[-1] == ("ready", 1)


async def test_a_call_that_takes_too_long_fails_alone(pen):
    servers = pen.servers(patient := pen.hostile("be_plain"))
    await servers.tools()
    servers.equip([replace(patient, timeout=0.3)])  # which touches no process
    with pytest.raises(CallTimeout, match=r"h\.slow did not answer within 0\.3 s"):
        await servers.call("h", "slow", {"seconds": 50})
    servers.equip([patient])
    assert (await servers.call("h", "echo", {})).text == "echo: {}"


@pytest.mark.alone("an answer is to come before another times out")
async def test_a_server_that_stops_reading_delays_nobody(pen):
    patient, well = pen.hostile("be_plain"), pen.hostile("be_plain", "well")
    servers = pen.servers(patient, well, grace=0.2)
    await servers.tools()
    servers.equip([replace(patient, timeout=0.4), well])
    deaf = asyncio.create_task(servers.call("h", "deaf", {}))
    full = [asyncio.create_task(servers.call("h", "echo", {"x": "x" * 300_000})) for _ in range(3)]
    watch = StopWatch()
    await servers.call("well", "echo", {})
    assert watch.seconds() < 0.3
    for call in (deaf, *full):
        with pytest.raises(CallTimeout):
            await call
    assert watch.seconds() < 1.0
    watch = StopWatch()
    await servers.stop(3.0)
    assert watch.seconds() < 1.0
    assert pen.oracle.alive() == 0


async def test_a_protocol_error_is_a_rejection_whatever_its_code(pen):
    servers = pen.servers(pen.hostile("be_plain"))
    for code in (-32000, -32602, -1):
        with pytest.raises(CallRejected, match=rf"h\.error was rejected: as you wish \(error {code}\)"):
            await servers.call("h", "error", {"code": code})
    with pytest.raises(CallRejected, match="Unknown tool: nosuch"):
        await servers.call("h", "nosuch", {})


async def test_a_large_answer_arrives_and_one_beyond_the_limit_only_times_out(pen, caplog):
    servers = pen.servers(patient := pen.hostile("be_plain"))
    assert len((await servers.call("h", "big", {"size": 8 << 20})).text) == 8 << 20
    servers.equip([replace(patient, timeout=3.0)])
    with pytest.raises(CallTimeout):
        await servers.call("h", "big", {"size": 17 << 20})
    servers.equip([patient])
    async with asyncio.timeout(30):
        while "dropped a message of more than 16777216 bytes" not in caplog.text:
            await asyncio.sleep(0.01)
    assert (await servers.call("h", "echo", {})).text == "echo: {}"


async def test_all_pages_of_tools_are_listed_and_the_configuration_filters_them(pen):
    servers = pen.servers(
        pen.hostile("be_plain", "some", include=("echo", "slow"), exclude=("slow",)),
        pen.hostile("be_plain", "others", exclude=("echo",)),
    )
    tools = await servers.tools()
    assert [tool.name for tool in tools if tool.server == "some"] == ["echo", "slow"]
    others = [tool.name for tool in tools if tool.server == "others"]
    assert len(others) == 11
    assert "echo" not in others
    for server, tool in (("some", "big"), ("others", "echo")):
        with pytest.raises(NoSuchTool, match=f"does not allow its tool '{tool}'"):
            await servers.call(server, tool, {})
    with pytest.raises(NoSuchServer, match="there is no MCP server 'nosuch'; configured: others, some"):
        await servers.call("nosuch", "echo", {})


async def test_tools_that_change_are_listed_anew(pen):
    servers = pen.servers(pen.hostile("be_plain"))
    before = await servers.tools()
    await servers.call("h", "add", {"name": "brand_new"})
    assert [tool.name for tool in await servers.tools()] == [*(tool.name for tool in before), "brand_new"]
    assert (await servers.call("h", "brand_new", {})).text == "brand_new: {}"


async def test_a_server_sees_an_allow_list_and_its_own_variables_only(pen):
    base = {
        "PATH": os.environ["PATH"],
        "HOME": "/home/x",
        "LC_TIME": "C",
        "TELEGRAM_BOT_TOKEN": "canary",
        "OTHER": "canary",
    }
    servers = pen.servers(pen.hostile("be_plain", env={"MINE": "yes"}), base_env=base)
    seen = json.loads((await servers.call("h", "environment", {})).text)
    assert set(seen) - {"LC_CTYPE"} == {"PATH", "HOME", "LC_TIME", "MINE", "CONNECT_BACK", "HERMESD_TAG"}
    assert "canary" not in seen.values()
    assert seen["HERMESD_TAG"].startswith(pen.tag[:29])


async def test_stderr_goes_to_a_file_with_a_cap_and_what_comes_too_fast_is_counted(pen):
    servers = pen.servers(pen.hostile("be_plain", "../odd name"))
    for _ in range(40):
        await servers.call("../odd name", "loud", {"size": 100_000})
    await servers.stop(2.0)
    files = sorted(pen.log_dir.iterdir())
    assert {path.name for path in files} <= {"mcp-.._odd_name.log", "mcp-.._odd_name.log.1"}
    assert all(path.stat().st_size <= 1 << 20 for path in files)
    text = "".join(path.read_text() for path in files)
    assert "bytes came too fast and are not kept" in text
    kept = sum(path.stat().st_size for path in files)
    assert 100_000 < kept < 4_000_000


async def test_twenty_crashes_leave_the_last_generation_and_nothing_else(pen):
    servers = pen.servers(pen.hostile("leave_a_child"))
    for _ in range(20):
        with pytest.raises(ServerDied):
            await servers.call("h", "kill", {})
    await servers.call("h", "echo", {})
    await pen.oracle.wait_alive(2)
    assert servers.reports()[0].generation == 21
    assert len(pen.members()) == 2
