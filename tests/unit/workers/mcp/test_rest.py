from hermesd.ipc.mcp import ServerSpec
from hermesd.workers.mcp.rest import LISTED_SECONDS, Times, next_look, rest_reason

SPEC = ServerSpec("s", "run", idle_timeout=60.0, max_lifetime=600.0)


def test_a_server_without_limits_that_is_used_runs_for_ever():
    times = Times(0.0, 5.0, called=True)
    assert rest_reason(ServerSpec("s", "run"), times, 1e9) == ""
    assert next_look(ServerSpec("s", "run"), times) is None


def test_idle_counts_from_the_last_call_and_age_from_the_start():
    times = Times(0.0, 100.0, called=True)
    assert rest_reason(SPEC, times, 159.9) == ""
    assert "idle_timeout" in rest_reason(SPEC, times, 160.0)
    assert next_look(SPEC, times) == 160.0
    times = Times(0.0, 590.0, called=True)
    assert "max_lifetime" in rest_reason(SPEC, times, 600.0)
    assert next_look(SPEC, times) == 600.0


def test_a_server_that_was_started_for_its_list_only_is_not_kept():
    times = Times(0.0, 0.0, called=False)
    assert rest_reason(ServerSpec("s", "run"), times, LISTED_SECONDS - 0.1) == ""
    assert "list of tools" in rest_reason(ServerSpec("s", "run"), times, LISTED_SECONDS)
    assert next_look(SPEC, times) == LISTED_SECONDS
