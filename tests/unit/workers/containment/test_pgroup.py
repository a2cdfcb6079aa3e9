from __future__ import annotations

import subprocess

import pytest

from hermesd.workers.containment import pgroup
from hermesd.workers.containment.pgroup import members_of, parse_seconds, parse_table

TAG = "0123456789ab-" + "0" * 32
# As macOS writes it: ps -A -o pid=,ppid=,pgid=,stat=,rss=,time=,lstart= and ps -A -E -ww -o pid=,command=
TABLE = """\
    1     0     1 Ss    12000   1:02.50 Mon Nov 16 08:00:00 2026
  500     1   500 Ss     8000   0:00.10 Sun Nov 22 10:00:00 2026
  501   500   501 S      4000   0:01.00 Sun Nov 22 10:00:01 2026
  502     1   502 S      2000   0:00.00 Sun Nov 22 10:00:02 2026
  503     1   501 S      2000   0:00.00 Sun Nov 22 10:00:03 2026
  600     1   600 Z         0   0:00.00 Sun Nov 22 10:00:04 2026
"""
ENVIRONMENTS = f"""\
    1 /sbin/launchd
  500 python -m worker HOME=/x HERMESD_TAG={TAG} LANG=C
  501 node server.js PATH=/bin HERMESD_TAG={TAG}
  502 daemon HERMESD_TAG={TAG}
  503 sh
"""


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:01.50", 1.5), ("62:03.00", 3723), ("00:00:07", 7), ("1-02:03:04", 93784)]
)
def test_cpu_times_of_every_ps_are_understood(text, seconds) -> None:
    assert parse_seconds(text) == seconds


def test_a_table_of_ps_is_understood() -> None:
    table = parse_table(TABLE, ENVIRONMENTS)
    row = table[501]
    assert (row.parent, row.group, row.resident, row.cpu_seconds) == (500, 501, 4000 * 1024, 1.0)
    assert row.started == "Sun Nov 22 10:00:01 2026"
    assert row.tag == TAG
    assert row.command == "node server.js PATH=/bin"
    assert table[1].tag == ""


def test_members_are_the_tagged_the_known_their_groups_and_all_below() -> None:
    table = parse_table(TABLE, ENVIRONMENTS)
    assert set(members_of(table, TAG, {})) == {500, 501, 502}
    assert set(members_of(table, "", {500: table[500].started})) == {500, 501}
    assert set(members_of(table, "", {}, groups=[501])) == {501, 503}
    assert set(members_of(table, TAG, {}, groups=[501], spared=[500])) == {501, 502, 503}


def test_a_number_that_was_used_again_is_not_known() -> None:
    assert members_of(parse_table(TABLE), "", {500: "Sat Nov 21 10:00:00 2026"}) == {}


def test_a_group_outlives_its_leader_until_its_number_is_another_process() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as child:
        container = pgroup.GroupContainment("0123456789ab").worker("w1", TAG)
        container.started(child.pid)
        leader = pgroup.process_table()[child.pid]
        member = leader._replace(pid=1 << 22, parent=1)
        assert set(container.inside({leader.pid: leader, member.pid: member})) == {leader.pid, member.pid}
        fresh = member._replace(pid=member.pid + 1)
        assert set(container.inside({fresh.pid: fresh})) == {fresh.pid}, (
            "the group has a member, so the number is its own"
        )
        stranger = leader._replace(started="Mon Nov 16 08:00:00 2026")
        assert container.inside({stranger.pid: stranger, member.pid: member._replace(started="later")}) == {}


def test_the_ps_of_this_system_is_understood_and_its_process_is_killed() -> None:
    containment = pgroup.probe("0123456789ab")
    container = containment.worker("w1", TAG)
    container.create()
    command = ["sh", "-c", "cat & cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={"HERMESD_TAG": TAG, "PATH": "/usr/bin:/bin"}) as child:
        container.started(child.pid)
        assert child.pid in container.members()
        usage = containment.usage({"w1": container}, {"w1": child.pid})["w1"]
        assert usage.processes == len(usage.pids) >= 1
        assert usage.memory_bytes > 0
        assert child.pid in {left.pid for left in containment.find()}
        assert containment.find([child.pid]) == []
        for _ in range(50):
            if container.kill_round():
                break
        else:
            pytest.fail(f"{container.members()} do not die")
        assert child.wait(5) == -9
    assert containment.sweep() == []
