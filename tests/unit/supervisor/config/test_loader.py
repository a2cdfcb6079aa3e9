"""From files and environment to settings: precedence, interpolation, and what is said when something is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest

from hermesd.supervisor.config import ConfigError, Loaded, Settings, load, schema


def loaded(home: Path, config: str = "", environ: dict[str, str] | None = None) -> Loaded:
    if config:
        (home / "config.yaml").write_text(dedent(config), "utf-8")
    return load(home, None, environ or {})


def refused(home: Path, config: str, environ: dict[str, str] | None = None) -> str:
    """The error as the user sees it, with the home's path cut short."""
    with pytest.raises(ConfigError) as caught:
        loaded(home, config, environ)
    return str(caught.value).replace(f"{home}/", "")


def warned(result: Loaded, home: Path) -> str:
    return "\n".join(problem.render("warning") for problem in result.warnings).replace(f"{home}/", "")


class TestDefaults:
    def test_a_home_without_files_has_the_defaults(self, tmp_path: Path) -> None:
        result = loaded(tmp_path)
        assert result.settings == Settings()
        assert result.warnings == ()
        assert result.files == ()

    def test_the_defaults_are_the_documented_ones(self) -> None:
        ours = Settings().hermesd
        assert ours.agent == "demo"
        assert (ours.workers.max, ours.workers.max_turns, ours.workers.spare) == (64, 8, 1)
        assert (ours.workers.idle_timeout_seconds, ours.workers.hang_timeout_seconds) == (1800, 60)
        assert (ours.workers.memory_soft_bytes, ours.workers.memory_hard_bytes) == (1 << 30, 2 << 30)
        assert (ours.workers.max_age_seconds, ours.workers.max_turns_per_worker) == (0, None)
        assert (ours.containment, ours.busy, ours.workers.on_crash) == ("auto", "queue", "ask")
        assert (ours.stop_budget_seconds, ours.adopt_timeout_seconds) == (60, 3)

    @pytest.mark.parametrize(
        "text", ["# only a comment\n", "hermesd:\n", "platforms:\nmcp_servers:\n", "---\n", "null\n"]
    )
    def test_empty_sections_say_nothing(self, text: str, tmp_path: Path) -> None:
        assert loaded(tmp_path, text).settings == Settings()

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            Settings().hermesd.workers.max = 3  # type: ignore[misc]


class TestReading:
    def test_a_relative_agent_path_is_taken_from_where_the_configuration_lies(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", "/home/ann")
        ours = loaded(tmp_path, "hermesd: {agent_path: [agents, ../shared/./x, ~/mine, /]}").settings.hermesd
        here, above = str(tmp_path / "agents"), str(tmp_path.parent / "shared" / "x")
        assert ours.agent_path == (here, above, "/home/ann/mine", "/")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "other.yaml").write_text("hermesd: {agent_path: agents}")
        monkeypatch.chdir(tmp_path)
        other = load(tmp_path, Path("elsewhere/other.yaml"), {}).settings.hermesd
        assert other.agent_path == (str(elsewhere / "agents"),)

    def test_every_key_of_ours_is_read(self, tmp_path: Path) -> None:
        ours = loaded(
            tmp_path,
            """
            hermesd:
              agent: my.package:make
              agent_path: /
              agent_settings: {model: x, nested: {deep: [1, two]}}
              workers: {max: 4, max_turns: 2, spare: 0, idle_timeout: 1h30m, hang_timeout: 500ms,
                        memory_soft: 1.5G, memory_hard: none, max_processes: off, on_crash: retry}
              containment: subreaper
              stop_budget: 30
              adopt_timeout: 0s
              busy: steer
              web: {host: "::1", port: 0}
              log_level: debug
            """,
        ).settings.hermesd
        assert ours.agent == "my.package:make"
        assert ours.agent_path == ("/",)
        assert ours.agent_settings == {"model": "x", "nested": {"deep": [1, "two"]}}
        assert ours.workers.idle_timeout_seconds == 5400
        assert ours.workers.hang_timeout_seconds == 0.5
        assert ours.workers.memory_soft_bytes == 3 << 29
        assert ours.workers.memory_hard_bytes is None
        assert ours.workers.max_processes is None
        assert (ours.containment, ours.stop_budget_seconds, ours.adopt_timeout_seconds) == ("subreaper", 30, 0)
        assert (ours.busy, ours.web.host, ours.web.port, ours.log_level) == ("steer", "::1", 0, "DEBUG")

    def test_an_mcp_server_keeps_numbers_as_they_were_written(self, tmp_path: Path) -> None:
        server = loaded(
            tmp_path,
            """
            mcp_servers:
              time: {command: python, args: [-m, 1.10, 0x10, true], env: {PORT: 8080, FLAG: yes}, timeout: 30s}
            """,
        ).settings.mcp_servers["time"]
        assert server.args == ("-m", "1.10", "0x10", "true")
        assert server.env == {"PORT": "8080", "FLAG": "yes"}
        assert (server.timeout_seconds, server.connect_timeout_seconds) == (30, 60)

    def test_yaml_1_1_booleans_work_as_in_hermes(self, tmp_path: Path) -> None:
        result = loaded(tmp_path, "platforms: {a: {enabled: yes}, b: {enabled: off}, c: {enabled: True}}")
        assert [p.enabled for p in result.settings.platforms.values()] == [True, False, True]

    def test_merge_keys_and_aliases_work(self, tmp_path: Path) -> None:
        servers = loaded(
            tmp_path,
            """
            base: &base {command: npx, timeout: 5}
            mcp_servers:
              a: {<<: *base, args: [x]}
              b: {<<: [*base, {timeout: 9, cwd: /}], command: uvx}
            """,
        ).settings.mcp_servers
        assert (servers["a"].command, servers["a"].timeout_seconds, servers["a"].args) == ("npx", 5, ("x",))
        assert (servers["b"].command, servers["b"].timeout_seconds, servers["b"].cwd) == ("uvx", 5, "/")

    def test_a_byte_order_mark_is_no_part_of_the_first_key(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_bytes(b"\xef\xbb\xbfhermesd: {busy: steer}\n")
        assert loaded(tmp_path).settings.hermesd.busy == "steer"

    def test_hermes_keys_pass_without_a_word(self, tmp_path: Path) -> None:
        result = loaded(
            tmp_path,
            """
            model: {default: x}
            display: {tool_progress: all}
            telegram: {require_mention: true}
            anything: else
            mcp_servers: {t: {command: x, sampling: {enabled: false}, elicitation: {enabled: true}}}
            platforms: {telegram: {gateway_restart_notification: false}}
            """,
        )
        assert result.warnings == ()


class TestPrecedence:
    def test_environment_beats_config_beats_gateway_json_beats_defaults(self, tmp_path: Path) -> None:
        (tmp_path / "gateway.json").write_text(
            '{"default_reset_policy": {"mode": "daily", "at_hour": 1, "idle_minutes": 11, "notify": false}}'
        )
        reset = loaded(tmp_path, "session_reset: {at_hour: 2, idle_minutes: 22}", {"SESSION_IDLE_MINUTES": "33"})
        policy = reset.settings.session_reset
        assert (policy.mode, policy.at_hour, policy.idle_minutes, policy.notify) == ("daily", 2, 33, False)
        assert policy.notify_exclude_platforms == ("api_server", "webhook")

    def test_extra_of_config_is_merged_over_that_of_gateway_json(self, tmp_path: Path) -> None:
        (tmp_path / "gateway.json").write_text(
            '{"platforms": {"x": {"enabled": true, "extra": {"a": 1, "b": {"c": 1}}}}}'
        )
        platform = loaded(tmp_path, "platforms: {x: {extra: {b: {d: 2}}}}").settings.platforms["x"]
        assert platform.enabled
        assert platform.extra == {"a": 1, "b": {"c": 1, "d": 2}}

    def test_gateway_json_sets_nothing_of_ours(self, tmp_path: Path) -> None:
        (tmp_path / "gateway.json").write_text('{"hermesd": {"agent": "evil.module:make"}}')
        assert loaded(tmp_path).settings.hermesd.agent == "demo"

    def test_the_process_beats_the_env_file_and_the_process_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("A=file\nB=file\nC=${A}-${B}\n")
        before = dict(os.environ)
        result = loaded(tmp_path, "hermesd: {agent_settings: {x: '${A} ${B} ${C} ${D}'}}", {"A": "process"})
        assert result.settings.hermesd.agent_settings == {"x": "process file process-file ${D}"}
        assert result.environ == {"A": "process", "B": "file", "C": "process-file"}
        assert dict(os.environ) == before

    def test_a_named_file_replaces_config_yaml(self, tmp_path: Path) -> None:
        other = tmp_path / "other.yaml"
        other.write_text("hermesd: {busy: interrupt}")
        (tmp_path / "config.yaml").write_text("hermesd: {busy: steer}")
        assert load(tmp_path, other, {}).settings.hermesd.busy == "interrupt"


class TestHermesAgentSection:
    def test_some_of_its_keys_are_ours_too_and_the_rest_is_left_to_hermes(self, tmp_path: Path) -> None:
        result = loaded(tmp_path, "agent: {gateway_timeout: 1800, max_turns: 90, personalities: {a: b}}")
        assert result.settings.agent.gateway_timeout_seconds == 1800
        assert result.warnings == ()

    def test_it_has_hermes_defaults(self, tmp_path: Path) -> None:
        agent = loaded(tmp_path).settings.agent
        assert (agent.gateway_timeout_seconds, agent.gateway_timeout_warning_seconds) == (1800, 900)
        assert loaded(tmp_path).settings.hermesd.workers.turn_timeout_seconds == 0

    def test_the_variable_of_hermes_beats_the_file(self, tmp_path: Path) -> None:
        result = loaded(tmp_path, "agent: {gateway_timeout: 1800}", {"HERMES_AGENT_TIMEOUT": "900"})
        assert result.settings.agent.gateway_timeout_seconds == 900

    def test_what_is_no_duration_is_told_where_it_stands(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"agent\.gateway_timeout: \"soon\" is not a duration\n.*config\.yaml:1:26"
        ):
            loaded(tmp_path, "agent: {gateway_timeout: soon}")


class TestApiServer:
    def test_it_has_hermes_defaults(self, tmp_path: Path) -> None:
        server = loaded(tmp_path, "platforms: {api_server: {enabled: true}}").settings.platforms["api_server"]
        assert server.enabled
        assert server.extra == {"host": "127.0.0.1", "port": 8642, "model_name": "hermes-agent"}

    def test_it_takes_hermes_variables(self, tmp_path: Path) -> None:
        environ = {
            "API_SERVER_ENABLED": "true",
            "API_SERVER_KEY": "k3y",
            "API_SERVER_HOST": "0.0.0.0",
            "API_SERVER_PORT": "9000",
            "API_SERVER_MODEL_NAME": "mine",
        }
        server = loaded(tmp_path, "", environ).settings.platforms["api_server"]
        assert (server.enabled, server.api_key) == (True, "k3y")
        assert server.extra == {"host": "0.0.0.0", "port": 9000, "model_name": "mine"}

    def test_a_key_alone_switches_it_on_and_a_port_alone_does_not(self, tmp_path: Path) -> None:
        assert loaded(tmp_path, "", {"API_SERVER_KEY": "k"}).settings.platforms["api_server"].enabled
        assert not loaded(tmp_path, "", {"API_SERVER_PORT": "1"}).settings.platforms["api_server"].enabled

    def test_the_key_may_stand_where_hermes_has_it(self, tmp_path: Path) -> None:
        server = loaded(tmp_path, "platforms: {api_server: {extra: {key: abc}}}").settings.platforms["api_server"]
        assert server.api_key == "abc"
        assert "key" not in server.extra

    def test_an_explicit_off_is_stronger_than_a_token_in_the_environment(self, tmp_path: Path) -> None:
        result = loaded(tmp_path, "platforms:\n  telegram:\n    enabled: false\n", {"TELEGRAM_BOT_TOKEN": "1:x"})
        assert not result.settings.platforms["telegram"].enabled
        assert warned(result, tmp_path) == (
            "warning: platforms.telegram.enabled: is off, so TELEGRAM_BOT_TOKEN is not used\n"
            "  --> config.yaml:3:14\n"
            "  fix: enabled: true switches telegram on"
        )


class TestAccess:
    def test_it_is_closed_by_default(self, tmp_path: Path) -> None:
        access = loaded(tmp_path).settings.access
        assert (access.allowed, access.allow_all) == ({}, frozenset())
        assert (access.gateway_allowed, access.gateway_allow_all) == (frozenset(), False)

    def test_lists_come_from_the_environment(self, tmp_path: Path) -> None:
        environ = {
            "TELEGRAM_ALLOWED_USERS": "1, 2,,@ann ",
            "MATRIX_ALLOW_ALL_USERS": "Yes",
            "DISCORD_ALLOW_ALL_USERS": "false",
            "SIGNAL_GROUP_ALLOWED_USERS": "9",
            "GATEWAY_ALLOWED_USERS": "7",
            "GATEWAY_ALLOW_ALL_USERS": "1",
        }
        access = loaded(tmp_path, "", environ).settings.access
        assert access.allowed == {"telegram": {"1", "2", "@ann"}}
        assert access.allow_all == {"matrix"}
        assert access.gateway_allowed == {"7"}
        assert access.gateway_allow_all

    def test_the_file_cannot_open_the_gate(self, tmp_path: Path) -> None:
        assert not loaded(tmp_path, "access: {gateway_allow_all: true}").settings.access.gateway_allow_all


ERRORS: dict[str, tuple[str, str]] = {
    "size": (
        "hermesd:\n  workers:\n    memory_hard: 2GBB\n",
        """\
        error: hermesd.workers.memory_hard: "2GBB" is not a size
          --> config.yaml:3:18
          fix: use 512M, 2G ... or none for no limit""",
    ),
    "a size that lost its unit": (
        "hermesd: {workers: {memory_soft: none, memory_hard: 2}}",
        """\
        error: hermesd.workers.memory_hard: 2 bytes is less than a worker needs to start
          --> config.yaml:1:53
          fix: use 512M, 2G ... or none for no limit""",
    ),
    "duration": (
        "hermesd: {workers: {idle_timeout: 30 parsecs}}",
        """\
        error: hermesd.workers.idle_timeout: "30 parsecs" is not a duration
          --> config.yaml:1:35
          fix: use 10s, 30m, 1h ...""",
    ),
    "number": (
        "hermesd: {workers: {max: many}}",
        """\
        error: hermesd.workers.max: "many" is not a whole number
          --> config.yaml:1:26
          fix: use a number such as 8""",
    ),
    "true is no number": (
        "hermesd: {workers: {max: true}}",
        """\
        error: hermesd.workers.max: true is not a whole number
          --> config.yaml:1:26
          fix: use a number such as 8""",
    ),
    "too small": (
        "hermesd: {stop_budget: 1s}",
        """\
        error: hermesd.stop_budget: "1s" is too small
          --> config.yaml:1:24
          fix: use at least 2""",
    ),
    "too large": (
        "hermesd: {web: {port: 70000}}",
        """\
        error: hermesd.web.port: 70000 is too large
          --> config.yaml:1:23
          fix: use at most 65535""",
    ),
    "choice": (
        "hermesd: {busy: stear}",
        """\
        error: hermesd.busy: "stear" is not known here
          --> config.yaml:1:17
          fix: did you mean steer? use one of: queue, interrupt, steer""",
    ),
    "boolean": (
        "platforms: {x: {enabled: perhaps}}",
        """\
        error: platforms.x.enabled: "perhaps" is neither true nor false
          --> config.yaml:1:26
          fix: use true or false""",
    ),
    "text": (
        "mcp_servers: {x: {command: [a, b]}}",
        """\
        error: mcp_servers.x.command: is not a text
          --> config.yaml:1:28
          fix: write one word, or a text in quotes""",
    ),
    "empty value": (
        "hermesd:\n  agent:\n",
        """\
        error: hermesd.agent: an empty value is not a text
          --> config.yaml:2:3
          fix: write one word, or a text in quotes""",
    ),
    "list": (
        "mcp_servers: {x: {command: a, args: {b: c}}}",
        """\
        error: mcp_servers.x.args: is not a list
          --> config.yaml:1:37
          fix: use [a, b] or one '- item' a line""",
    ),
    "item of a list": (
        "mcp_servers:\n  x:\n    command: a\n    args:\n      - b\n      - {c: d}\n",
        """\
        error: mcp_servers.x.args[1]: is not a text
          --> config.yaml:6:9
          fix: write one word, or a text in quotes""",
    ),
    "section": (
        "hermesd: demo",
        """\
        error: hermesd: "demo" is not a section
          --> config.yaml:1:10
          fix: indent its keys below it, as 'key: value'""",
    ),
    "factory": (
        "hermesd: {agent: 'my-module:make'}",
        """\
        error: hermesd.agent: "my-module:make" is not package.module:factory
          --> config.yaml:1:18
          fix: see the value's description in the documentation""",
    ),
    "server without a command": (
        "mcp_servers:\n  time:\n    args: [x]\n",
        """\
        error: mcp_servers.time: has no command
          --> config.yaml:3:5
          fix: add command: (a program) or url:, or enabled: false""",
    ),
    "name of a server": (
        "mcp_servers: {../x: {command: a}}",
        """\
        error: mcp_servers.../x: is not a name for a server
          --> config.yaml:1:21
          fix: use letters, digits, - and _""",
    ),
    "soft over hard": (
        "hermesd: {workers: {memory_soft: 3G, memory_hard: 2G}}",
        """\
        error: hermesd.workers.memory_soft: is more than memory_hard
          --> config.yaml:1:34
          fix: make it smaller than memory_hard""",
    ),
    "several at once, in the order of the file": (
        "hermesd:\n  busy: no\n  workers:\n    max: 0\n",
        """\
        error: hermesd.busy: "no" is not known here
          --> config.yaml:2:9
          fix: use one of: queue, interrupt, steer
        error: hermesd.workers.max: 0 is too small
          --> config.yaml:4:10
          fix: use at least 1""",
    ),
    "duplicate key": (
        "hermesd:\n  busy: queue\n  agent: demo\n  busy: steer\n",
        """\
        error: hermesd.busy: appears twice, first in line 2
          --> config.yaml:4:3
          fix: keep one of them""",
    ),
    "broken YAML": (
        "hermesd:\n  agent: demo: x\n",
        """\
        error: broken YAML: mapping values are not allowed here
          --> config.yaml:2:14
          fix: put the value in quotes if it holds a colon""",
    ),
    "tab": (
        "hermesd:\n\tagent: demo\n",
        """\
        error: broken YAML: a tab character
          --> config.yaml:2:1
          fix: indent with spaces; YAML allows no tabs there""",
    ),
    "no mapping": (
        "- hermesd\n",
        """\
        error: the file is not a mapping of keys to values
          --> config.yaml:1:1
          fix: start with a section such as 'hermesd:'""",
    ),
    "two documents": (
        "hermesd: {}\n---\nhermesd: {}\n",
        """\
        error: broken YAML: a second document
          --> config.yaml:2:1
          fix: keep one document in the file, without ---""",
    ),
    "alias of itself": (
        "hermesd: &a\n  agent_settings: *a\n",
        """\
        error: hermesd.agent_settings: is an alias of a section that it lies in
          --> config.yaml:2:3""",
    ),
    "control character": (
        "hermesd: {}\n# \x00\n",
        """\
        error: broken YAML: character 0x00 is not allowed
          --> config.yaml:2
          fix: remove it""",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_says_what_where_and_what_would_be_right(case: str, tmp_path: Path) -> None:
    config, expected = ERRORS[case]
    assert refused(tmp_path, config) == dedent(expected)


class TestOtherErrors:
    def test_a_wrong_variable_is_named_as_such(self, tmp_path: Path) -> None:
        assert refused(tmp_path, "", {"API_SERVER_PORT": "http"}) == dedent("""\
            error: API_SERVER_PORT: "http" is not a whole number
              --> environment
              fix: use a number such as 8""")

    def test_a_wrong_variable_of_the_env_file_has_its_line(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("# one\n\nA=1\nAPI_SERVER_ENABLED=perhaps\n")
        assert refused(tmp_path, "") == dedent("""\
            error: API_SERVER_ENABLED: "perhaps" is neither true nor false
              --> .env:4
              fix: use true or false""")

    @pytest.mark.parametrize("key", ["token", "api_key"])
    def test_a_secret_is_never_quoted(self, key: str, tmp_path: Path) -> None:
        said = refused(tmp_path, f"platforms: {{x: {{{key}: [hunter2], extra: hunter2}}}}\nhermesd: {{busy: x}}")
        assert said.count("error:") == 3
        assert f"platforms.x.{key}: is not a text" in said
        assert f"{key}: [hunter2]" not in said

    def test_secrets_do_not_show_in_the_repr(self, tmp_path: Path) -> None:
        config = """
            platforms: {x: {token: hunter2, api_key: hunter2, extra: {password: hunter2}}}
            mcp_servers: {y: {command: z, env: {KEY: hunter2}, headers: {Authorization: hunter2}}}
            hermesd: {agent_settings: {api_key: hunter2}}
            """
        assert "hunter2" not in repr(loaded(tmp_path, config, {"SOME_TOKEN": "hunter2"}))

    def test_a_file_that_is_not_utf_8(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_bytes(b"hermesd:\n  agent: d\xe9mo\n")
        assert refused(tmp_path, "") == dedent("""\
            error: the configuration is not UTF-8: byte 0xe9
              --> config.yaml:2:11
              fix: save it with the encoding UTF-8""")

    def test_a_directory_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").mkdir()
        assert "error: cannot read the configuration: Is a directory" in refused(tmp_path, "")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_an_unreadable_file(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("")
        (tmp_path / "config.yaml").chmod(0)
        assert "error: cannot read the configuration: Permission denied" in refused(tmp_path, "")

    def test_a_named_file_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no such file"):
            load(tmp_path, tmp_path / "missing.yaml", {})

    def test_a_broken_gateway_json(self, tmp_path: Path) -> None:
        (tmp_path / "gateway.json").write_text('{"platforms": {\n  oops}}')
        assert refused(tmp_path, "").startswith("error: broken JSON: Expecting property name")
        assert "--> gateway.json:2:3" in refused(tmp_path, "")

    def test_a_few_lines_that_stand_for_billions_of_values(self, tmp_path: Path) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
        assert "more than 100000 values" in refused(tmp_path, "\n".join(lines))

    def test_a_file_that_is_nested_too_deeply(self, tmp_path: Path) -> None:
        assert "nested too deeply" in refused(tmp_path, "hermesd: " + "[" * 1000)


class TestWarnings:
    def test_an_unknown_key_is_named_with_the_nearest_known_one(self, tmp_path: Path) -> None:
        config = """\
            hermesd:
              worker: {max: 3}
              workers:
                max_turn: 3
                frobnicate: 1
            platforms:
              api_server: {port: 3}
            mcp_servers:
              x: {command: y, timout: 3}
            mcp_server: {}
            """
        result = loaded(tmp_path, config)
        assert warned(result, tmp_path) == dedent("""\
            warning: mcp_server: is not a known key and has no effect
              --> config.yaml:10:1
              fix: did you mean mcp_servers?
            warning: hermesd.worker: is not a known key and has no effect
              --> config.yaml:2:3
              fix: did you mean workers?
            warning: hermesd.workers.max_turn: is not a known key and has no effect
              --> config.yaml:4:5
              fix: did you mean max_turns?
            warning: hermesd.workers.frobnicate: is not a known key and has no effect
              --> config.yaml:5:5
              fix: remove it, or look up its name
            warning: platforms.api_server.port: is not a known key and has no effect
              --> config.yaml:7:16
              fix: settings of the platform's own go under extra:
            warning: mcp_servers.x.timout: is not a known key and has no effect
              --> config.yaml:9:19
              fix: did you mean timeout?""")
        assert result.settings.hermesd.workers.max_turns == 8

    def test_a_token_that_nobody_set(self, tmp_path: Path) -> None:
        result = loaded(tmp_path, "platforms: {telegram: {enabled: true, token: '${NOT_SET}'}}")
        assert warned(result, tmp_path) == dedent("""\
            warning: platforms.telegram.token: "NOT_SET" is not set
              --> config.yaml:1:46
              fix: set NOT_SET in the environment or in .env""")
        assert result.settings.platforms["telegram"].token == "${NOT_SET}"

    def test_reset_figures_out_of_range_become_the_default_as_in_hermes(self, tmp_path: Path) -> None:
        result = loaded(tmp_path, "session_reset: {at_hour: 24, idle_minutes: -5}")
        assert (result.settings.session_reset.at_hour, result.settings.session_reset.idle_minutes) == (4, 1440)
        assert [problem.key for problem in result.warnings if not problem.quiet] == [
            "session_reset.at_hour", "session_reset.idle_minutes",
        ]  # fmt: skip

    def test_a_line_of_the_env_file_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("A=1\nwhat is this?\nB=2\n")
        result = loaded(tmp_path)
        assert result.environ == {"A": "1", "B": "2"}
        assert warned(result, tmp_path).startswith(
            "warning: this line is not understood and was left out\n  --> .env:2"
        )

    def test_an_agent_path_that_is_not_there(self, tmp_path: Path) -> None:
        result = loaded(tmp_path, "hermesd: {agent_path: [/no/such/place, nor/this]}")
        assert "/no/such/place is not a directory" in warned(result, tmp_path)
        assert "hermesd.agent_path: nor/this is not a directory" in warned(result, tmp_path)


def test_the_schema_names_the_keys_as_the_file_has_them() -> None:
    whole = schema()
    assert set(whole["properties"]) >= {"hermesd", "platforms", "mcp_servers", "session_reset"}
    assert "access" not in whole["properties"]
    workers = whole["$defs"]["Workers"]["properties"]
    assert {"idle_timeout", "memory_hard", "max_turns"} <= set(workers)
    assert workers["memory_hard"]["default"] == 2 << 30


class TestWebhook:
    def test_settings_beside_extra_count_and_those_in_it_go_before_them(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text(
            "platforms:\n  webhook:\n    enabled: true\n    port: 1\n    secret: s\n    routes: {a: {}}\n"
            "    extra: {port: 2}\n"
        )
        loaded = load(tmp_path, None, {"WEBHOOK_SECRET": "t"})
        assert not loaded.warnings
        webhook = loaded.settings.platforms["webhook"]
        assert (webhook.enabled, dict(webhook.extra)) == (True, {"port": 2, "secret": "t", "routes": {"a": {}}})

    def test_a_variable_switches_it_on(self, tmp_path: Path) -> None:
        environ = {"WEBHOOK_ENABLED": "true", "WEBHOOK_PORT": "9000"}
        webhook = load(tmp_path, None, environ).settings.platforms["webhook"]
        assert (webhook.enabled, webhook.extra["port"]) == (True, "9000")
        assert "webhook" not in load(tmp_path, None, {}).settings.platforms


@pytest.mark.parametrize(
    ("written", "chat", "thread"),
    [
        ("-100", "-100", ""),
        ('"!room:x"', "!room:x", ""),
        ("{platform: telegram, chat_id: -100, thread_id: 7, name: Home}", "-100", "7"),
        ("{name: Home}", "", ""),
    ],
)
def test_a_home_channel(tmp_path: Path, written: str, chat: str, thread: str) -> None:
    (tmp_path / "config.yaml").write_text(f"platforms: {{telegram: {{home_channel: {written}}}}}\n")
    loaded = load(tmp_path, None, {})
    home = loaded.settings.platforms["telegram"].home_channel
    assert home is not None
    assert (home.chat_id, home.thread_id) == (chat, thread)
    assert not loaded.warnings
    home = load(tmp_path, None, {"TELEGRAM_HOME_CHANNEL": "5"}).settings.platforms["telegram"].home_channel
    assert home is not None
    assert home.chat_id == "5"
