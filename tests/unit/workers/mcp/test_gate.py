"""A worker's questions to its supervisor before it starts a server."""

from hermesd.ipc.mcp import ServerSpec, ToolInfo
from hermesd.ipc.messages import KnownTools, ServerNews, StartAnswer, StartRequest
from hermesd.workers.agents.contract import Tool
from hermesd.workers.mcp.gate import Gate, Grant, Refusal

SPEC = ServerSpec("s", "run", config="c")


class World:
    def __init__(self):
        self.posted = []
        self.verdicts = []
        self.gate = Gate(self.posted.append)

    def ask(self, **more):
        self.gate.ask(SPEC, then=self.verdicts.append, **{"for_tools": False, **more})
        return self.posted[-1].request

    def answer(self, request, **more):
        self.gate.answered(StartAnswer("s", "c", request, **{"granted": True, **more}))


def test_each_answer_reaches_who_asked():
    world = World()
    world.answer(world.ask(), grant=7, probe=False)
    world.answer(world.ask(), granted=False, reason="exit 1", next_try=9.0)
    world.gate.answered(KnownTools("s", "c", world.ask(for_tools=True), (ToolInfo("t", "d", {}),)))
    assert world.verdicts == [Grant(7, False), Refusal("exit 1", 9.0), (Tool("s", "t", "d", {}),)]
    assert [message.for_tools for message in world.posted] == [False, False, True]


def test_a_grant_that_nobody_waits_for_is_given_back():
    world = World()
    request = world.ask()
    world.gate.withdraw(SPEC)
    world.answer(request, grant=3)
    world.answer(world.ask() - 1, grant=4)
    assert world.verdicts == []
    assert [message for message in world.posted if isinstance(message, ServerNews)] == [
        ServerNews("s", "c", 3, "withdrawn"), ServerNews("s", "c", 4, "withdrawn"),
    ]  # fmt: skip


def test_another_supervisor_is_asked_again():
    world = World()
    request = world.ask()
    world.gate.ask_again()
    assert world.posted == [StartRequest("s", "c", request), StartRequest("s", "c", request)]
    world.answer(request)
    world.gate.ask_again()
    assert len(world.posted) == 2
    assert world.verdicts == [Grant()]
