"""When a server is started, when it is ended although it works, and what another configuration does to it."""

import asyncio
from dataclasses import replace

import pytest
from harness.figures import StopWatch

from hermesd.ipc.mcp import config_hash
from hermesd.workers.agents.contract import Tool
from hermesd.workers.mcp import rest
from hermesd.workers.mcp.errors import CallRejected, CallTimeout, CannotStart, NoSuchServer, Parked, ServerDied
from hermesd.workers.mcp.gate import Grant, Refusal
from hermesd.workers.mcp.generation import Generation

pytestmark = pytest.mark.usefixtures("stopping")


class Warden:
    """Answers as the test says, and notes what it is told."""

    def __init__(self):
        self.verdict = Grant()
        self.asked = []
        self.told = []

    def ask(self, spec, *, for_tools, then):
        self.asked.append((spec.name, for_tools))
        asyncio.get_running_loop().call_soon(then, self.verdict)

    def withdraw(self, spec):
        pass

    def tell(self, spec, grant, event, reason="", *, permanent=False):
        self.told.append((event, grant, permanent))

    def listed(self, spec, tools):
        self.told.append(("listed", len(tools)))


def configured(spec):
    return replace(spec, config=config_hash(spec))


async def state_is(servers, wanted, name="h", seconds=40.0):
    async with asyncio.timeout(seconds):
        while next(report for report in servers.reports() if report.name == name).state != wanted:
            await asyncio.sleep(0.005)


async def test_no_process_without_a_grant_and_the_refusal_tells_the_next_try(pen):
    warden = Warden()
    warden.verdict = Refusal("it exited with status 1 (5 starts have failed in a row)", 4e9)
    servers = pen.servers(pen.hostile("be_plain"), warden=warden)
    with pytest.raises(Parked, match=r"5 starts .* it is tried again in \d+ min .*, or after: hermesctl mcp reset h"):
        await servers.call("h", "echo", {})
    assert servers.reports()[0].state == "parked"
    assert pen.members() == ()
    warden.verdict = Grant(3)
    assert (await servers.call("h", "echo", {})).text == "echo: {}"
    assert warden.told == [("spawned", 3, False), ("listed", 12), ("ready", 3, False)]


async def test_tools_that_are_known_need_no_process(pen):
    warden = Warden()
    warden.verdict = (Tool("h", "echo", "known", {}), Tool("h", "slow", "known", {}))
    servers = pen.servers(pen.hostile("be_plain", exclude=("slow",)), warden=warden)
    assert [tool.name for tool in await servers.tools()] == ["echo"]
    assert await servers.tools() == await servers.tools()
    assert (warden.asked, servers.reports()[0].state) == ([("h", True)], "stopped")
    warden.verdict = Grant()
    await servers.call("h", "echo", {})
    assert warden.asked == [("h", True), ("h", False)]
    assert len(await servers.tools()) == 11, "as its own process says"


async def test_only_faults_of_process_and_connection_are_told(pen):
    warden = Warden()
    servers = pen.servers(pen.hostile("be_plain"), warden=warden)
    with pytest.raises(CallRejected):
        await servers.call("h", "error", {"code": -1})
    servers.equip([replace(pen.hostile("be_plain"), timeout=0.1)])  # which touches no process
    with pytest.raises(CallTimeout):
        await servers.call("h", "slow", {"seconds": 50})
    servers.equip([pen.hostile("be_plain")])
    servers.restart("h")
    await state_is(servers, "stopped")
    assert [event for event, *_ in warden.told] == ["spawned", "listed", "ready"]
    with pytest.raises(ServerDied):
        await servers.call("h", "exit", {"status": 9})
    await state_is(servers, "broken")
    assert [event for event, *_ in warden.told][3:] == ["spawned", "listed", "ready", "crashed"]


@pytest.mark.parametrize(
    ("command", "args", "permanent"),
    [("no-such-command", (), True), ("sh", ("-c", "exec nothing-like-it"), True), ("sh", ("-c", "exit 1"), False)],
)
async def test_what_only_a_person_can_mend_is_told_as_such(pen, command, args, permanent):
    warden = Warden()
    servers = pen.servers(replace(pen.hostile("be_plain"), command=command, args=args), warden=warden)
    with pytest.raises(CannotStart):
        await servers.call("h", "echo", {})
    assert warden.told[-1] == ("failed", 0, permanent)


async def test_an_idle_server_is_ended_and_the_next_call_starts_another(pen, tmp_path):
    enough = tmp_path / "enough"
    servers = pen.servers(pen.hostile("leave_a_child", idle_timeout=0.5))
    calling = asyncio.create_task(servers.call("h", "slow", {"until": str(enough)}))
    await state_is(servers, "ready")
    await asyncio.sleep(1.0)
    assert servers.reports()[0].state == "ready", "a call is no idling"
    enough.touch()
    await calling
    await state_is(servers, "stopped")
    assert pen.oracle.alive() == 0
    assert len(await servers.tools()) == 12
    assert servers.reports()[0].state == "stopped"
    await servers.call("h", "echo", {})
    assert servers.reports()[0].generation == 2


async def test_an_old_server_is_ended_between_calls_and_never_within_one(pen):
    servers = pen.servers(pen.hostile("be_plain", max_lifetime=0.3))
    assert (await servers.call("h", "slow", {"seconds": 1.0})).text == "after 1.0"
    await state_is(servers, "stopped")
    await servers.call("h", "echo", {})
    assert servers.reports()[0].generation == 2


async def test_a_server_that_was_only_asked_for_its_tools_does_not_stay(pen, monkeypatch):
    monkeypatch.setattr(rest, "LISTED_SECONDS", 0.3)
    servers = pen.servers(pen.hostile("be_plain"))
    assert len(await servers.tools()) == 12
    await state_is(servers, "stopped")
    assert len(await servers.tools()) == 12


async def test_another_configuration_touches_only_what_differs(pen):
    specs = {name: configured(pen.hostile("leave_a_child", name)) for name in ("same", "argued", "filtered", "gone")}
    servers = pen.servers(*specs.values())
    await asyncio.gather(*(servers.call(name, "echo", {}) for name in specs))
    before = {report.name: report.pid for report in servers.reports()}
    await pen.oracle.wait_alive(8)
    servers.equip(
        [
            specs["same"],
            configured(replace(specs["argued"], env={**specs["argued"].env, "MORE": "1"})),
            replace(specs["filtered"], include=("echo",)),
            configured(pen.hostile("be_plain", "new")),
        ]
    )
    await state_is(servers, "stopped", "argued")
    async with asyncio.timeout(40.0):
        while "gone" in {report.name for report in servers.reports()}:
            await asyncio.sleep(0.005)
    assert pen.oracle.alive() == 4
    assert [report.name for report in servers.reports()] == ["same", "argued", "filtered", "new"]
    after = {report.name: report.pid for report in servers.reports()}
    assert (after["same"], after["filtered"]) == (before["same"], before["filtered"])
    assert {tool.name for tool in await servers.tools() if tool.server == "filtered"} == {"echo"}
    with pytest.raises(NoSuchServer):
        await servers.call("gone", "echo", {})
    assert "MORE" in (await servers.call("argued", "environment", {})).text
    assert next(report for report in servers.reports() if report.name == "argued").generation == 2


async def test_a_removed_server_that_comes_back_waits_for_the_end_of_the_first(pen):
    spec = configured(pen.hostile("ignore_everything"))
    servers = pen.servers(spec, grace=0.2)
    await servers.call("h", "echo", {})
    servers.equip([])
    servers.equip([spec])
    assert (await servers.call("h", "echo", {})).text == "echo: {}"
    assert pen.oracle.alive() == 1
    assert servers.reports()[0].generation == 2


async def test_what_a_tool_has_started_ends_with_the_turn_that_was_cut_off(pen):
    servers = pen.servers(pen.hostile("be_plain"), pen.hostile("be_plain", "other"))
    await servers.call("other", "echo", {})
    before = servers.cut_calls()
    call = asyncio.create_task(servers.call("h", "grow", {"deep": 10}))
    await pen.oracle.wait_alive(12)
    call.cancel()
    await asyncio.wait([call])
    servers.end_cut_off(before)
    await state_is(servers, "stopped")
    assert pen.oracle.alive() == 1
    assert [report.state for report in servers.reports()] == ["stopped", "ready"]
    assert (await servers.call("h", "echo", {})).text == "echo: {}"


async def test_a_list_that_comes_late_is_not_taken_for_that_of_the_next_process(pen, monkeypatch):
    warden = Warden()
    servers = pen.servers(pen.hostile("be_plain"), warden=warden)
    await servers.call("h", "add", {"name": "more"})
    begun, let_go, list_again = asyncio.Event(), asyncio.Event(), Generation.list_again

    async def late(self):
        begun.set()
        await let_go.wait()
        return await list_again(self)

    monkeypatch.setattr(Generation, "list_again", late)
    looking = asyncio.create_task(servers.tools(patient=True))
    await begun.wait()
    servers.restart("h")
    calling = asyncio.create_task(servers.call("h", "echo", {}))
    await state_is(servers, "starting")
    let_go.set()
    assert len(await looking) == 12
    assert (await calling).text == "echo: {}"
    assert [event for event in warden.told if event[0] == "listed"] == [("listed", 12), ("listed", 12)]


async def test_a_turn_waits_for_the_list_of_a_server_that_hangs_once_and_shortly(pen, tmp_path):
    healed = tmp_path / "healed"
    slow = pen.hostile("wait_for_healing", "slow", env={"HEALED": str(healed)}, tools_wait=0.5)
    servers = pen.servers(slow, pen.hostile("be_plain", tools_wait=60.0))
    assert {tool.server for tool in await servers.tools()} == {"h"}
    watch = StopWatch()
    assert {tool.server for tool in await servers.tools()} == {"h"}
    assert watch.seconds() < 0.4
    assert servers.reports()[0].state == "starting"
    waiting = asyncio.create_task(servers.tools(patient=True))
    healed.touch()
    assert {tool.server for tool in await waiting} == {"slow", "h"}
    assert {tool.server for tool in await servers.tools()} == {"slow", "h"}


async def test_a_server_that_is_tried_again_holds_no_turn_that_does_not_call_it(pen, tmp_path):
    healed, warden = tmp_path / "healed", Warden()
    warden.verdict = Grant(3, again=True)
    servers = pen.servers(pen.hostile("wait_for_healing", env={"HEALED": str(healed)}, tools_wait=60.0), warden=warden)
    assert await servers.tools() == []
    assert servers.reports()[0].state in ("asking", "starting")
    calling = asyncio.create_task(servers.call("h", "echo", {}))
    assert await servers.tools() == []
    healed.touch()
    assert (await calling).text == "echo: {}"
    assert len(await servers.tools()) == 12
    assert len(warden.asked) == 1


async def test_a_server_that_does_not_list_its_changed_tools_holds_a_turn_shortly_and_is_no_cut_call(pen):
    servers = pen.servers(pen.hostile("be_plain", tools_wait=0.3))
    await servers.call("h", "add", {"name": "more"})
    deaf = asyncio.create_task(servers.call("h", "deaf", {}))
    await asyncio.sleep(0)
    assert len(await servers.tools()) == 12
    assert servers.cut_calls() == {"h": 1}
    deaf.cancel()


async def test_a_server_of_its_own_for_each_call_ends_with_the_call_and_keeps_nothing(pen):
    servers = pen.servers(pen.hostile("leave_a_child", fresh=True))
    both = asyncio.gather(*(servers.call("h", "echo", {"n": number}) for number in range(2)))
    assert [result.text for result in await both] == ['echo: {"n": 0}', 'echo: {"n": 1}']
    assert servers.reports()[0].generation == 2
    await servers.call("h", "add", {"name": "more"})
    with pytest.raises(CallRejected, match="Unknown tool: more"):
        await servers.call("h", "more", {})
    await state_is(servers, "stopped")
    assert pen.oracle.alive() == 0
    slow = asyncio.create_task(servers.call("h", "slow", {"seconds": 600}))
    await state_is(servers, "ready")
    slow.cancel()
    await state_is(servers, "stopped")
    assert pen.oracle.alive() == 0
    assert (await servers.call("h", "echo", {})).text == "echo: {}"
