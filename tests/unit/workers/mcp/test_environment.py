"""A server's environment is an allow-list plus what its configuration names."""

from hermesd.workers.mcp.environment import server_environment


def test_only_the_allowed_names_pass():
    base = {
        "PATH": "/bin", "HOME": "/h", "USER": "u", "LANG": "C", "LC_ALL": "C", "TZ": "UTC", "TERM": "dumb",
        "SHELL": "/bin/sh", "TMPDIR": "/t", "XDG_RUNTIME_DIR": "/r",
    }  # fmt: skip
    secrets = {"TELEGRAM_BOT_TOKEN": "x", "OPENAI_API_KEY": "x", "MYXDG_A": "x", "LD_PRELOAD": "x", "path": "x"}
    assert server_environment(base | secrets, {}) == base


def test_what_the_configuration_names_wins():
    assert server_environment({"PATH": "/bin", "HOME": "/h"}, {"HOME": "/other", "KEY": "k"}) == {
        "PATH": "/bin",
        "HOME": "/other",
        "KEY": "k",
    }


def test_exported_shell_functions_do_not_pass():
    assert server_environment({"LANG": "() { :; }; echo vulnerable"}, {}) == {}


def test_a_configuration_cannot_forge_a_tag():
    assert server_environment({"HERMESD_TAG": "a"}, {"HERMESD_TAG": "b"}) == {}
