"""The model of the agent ``llm``: Hermes' sections, what is wrong with them, and what a worker is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hermesd.supervisor.config import ConfigError, Loaded, load
from hermesd.supervisor.config.models import PROVIDERS, agent_config
from hermesd.supervisor.secrets import secrets_in

LLM = "hermesd: {agent: llm}\n"


def loaded(home: Path, config: str, environ: dict[str, str] | None = None) -> Loaded:
    (home / "config.yaml").write_text(LLM + config)
    return load(home, None, environ or {})


def told(home: Path, config: str, environ: dict[str, str] | None = None) -> dict[str, Any]:
    found = loaded(home, config, environ)
    return agent_config(found.settings, found.environ)


def test_a_name_alone_is_a_model_of_openai(tmp_path: Path) -> None:
    config = told(tmp_path, "model: gpt-5\n", {"OPENAI_API_KEY": "sk-1"})
    assert config["models"] == [
        {"name": "gpt-5", "base_url": "https://api.openai.com/v1", "api_key": "sk-1", "context_length": 0}
    ]
    assert (config["max_turns"], config["ask_before"], config["ask_seconds"]) == (90, [], 300.0)


def test_a_section_with_a_variable_and_its_stand_ins_in_either_form(tmp_path: Path) -> None:
    config = told(
        tmp_path,
        """\
model: {model: big, provider: custom, base_url: "http://127.0.0.1:9/v1", api_key: "${MY_KEY}", context_length: 8192}
fallback_providers:
  - {provider: openrouter, model: a/b}
fallback_model: {provider: ollama, model: small}
agent: {max_turns: 5, system_prompt: Be brief., reasoning_effort: high}
approvals: {tools: [github_*, fs.delete_*], timeout: 1m}
""",
        {"MY_KEY": "k-1", "OPENROUTER_API_KEY": "or-1"},
    )
    assert [(model["name"], model["api_key"], model["context_length"]) for model in config["models"]] == [
        ("big", "k-1", 8192), ("a/b", "or-1", 0), ("small", "", 0),
    ]  # fmt: skip
    assert config["models"][2]["base_url"] == "http://127.0.0.1:11434/v1"
    del config["models"]
    assert config == {
        "system_prompt": "Be brief.", "max_turns": 5, "reasoning_effort": "high",
        "ask_before": ["github_*", "fs.delete_*"], "ask_seconds": 60.0,
    }  # fmt: skip


def test_another_agent_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {default: m, base_url: 'http://h/v1', api_key: secret-key}\n")
    found = load(tmp_path, None, {})
    assert agent_config(found.settings, found.environ) == {}


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_a_key_of_a_variable_goes_to_its_provider_and_to_nobody_else(provider: str, tmp_path: Path) -> None:
    environ = dict.fromkeys((name for known in PROVIDERS.values() for name in known.keys), "stolen")
    (own,) = told(tmp_path, f"model: {{default: m, provider: {provider}}}\n", environ)["models"]
    assert own["api_key"] == ("stolen" if PROVIDERS[provider].keys else "")
    elsewhere = f"model: {{default: m, provider: {provider}, base_url: 'https://evil.example/v1'}}\n"
    (other,) = told(tmp_path, elsewhere, environ)["models"]
    assert (other["base_url"], other["api_key"]) == ("https://evil.example/v1", "")


@pytest.mark.parametrize(
    ("config", "key", "line", "message"),
    [
        ("", "model", 1, "names no model"),
        ("model: {base_url: 'http://h/v1'}\n", "model", 2, "names no model"),
        ("model: {default: m, provider: nous}\n", "model.provider", 2, 'where the provider "nous" is reached'),
        ("model: {default: m, base_url: h/v1}\n", "model.base_url", 2, "is not an address"),
        ("model: {default: m, provider: ollama, context_length: many}\n", "model.context_length", 2,
         '"many" is not a whole number'),
        ("model: [a]\n", "model", 2, "is not a section"),
        ("model: {default: m, provider: ollama}\nfallback_providers: [{provider: openai}]\n", "fallback_providers[0]",
         3, "names no model"),
        ("model: {default: m, provider: ollama}\nagent: {max_turns: 0}\n", "agent.max_turns", 3, "is too small"),
        ("model: {default: m, provider: ollama}\napprovals: {timeout: soon}\n", "approvals.timeout", 3,
         "is not a duration"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(config: str, key: str, line: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, config)
    problem = caught.value.problems[0]
    assert (problem.key, problem.origin.line) == (key, line)
    assert message in problem.message


@pytest.mark.parametrize(
    ("config", "key", "message"),
    [
        ("model: {default: m, provider: openai}\n", "model", "has no key"),
        ("model: {default: m, provider: openai, api_key: '${NOT_SET}'}\n", "model.api_key", '"NOT_SET" is not set'),
        ("model: {default: m, provider: ollama, contxt_length: 8}\n", "model.contxt_length", "is not a known key"),
        ("model: {default: m, provider: ollama}\nagent: {max_turn: 8}\n", "agent.max_turn", "is not a known key"),
        ("model: {default: m, provider: ollama}\napprovals: {tool: [a]}\n", "approvals.tool", "is not a known key"),
        ("model: {default: m, provider: ollama}\naprovals: {}\n", "aprovals", "is not a known key"),
    ],
)
def test_what_may_be_wrong_is_a_warning(config: str, key: str, message: str, tmp_path: Path) -> None:
    (warning,) = [problem for problem in loaded(tmp_path, config).warnings if problem.key == key]
    assert message in warning.message


def test_keys_of_hermes_are_nobodys_mistake(tmp_path: Path) -> None:
    config = (
        "model: {default: m, provider: ollama, api_mode: chat, max_tokens: 5}\n"
        "agent: {verbose: true, personalities: {}}\n"
        "approvals: {mode: manual, gateway_timeout: 9}\n"
    )
    assert loaded(tmp_path, config).warnings == ()


def test_every_key_is_a_secret(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        "model: {default: m, provider: ollama, api_key: key-one}\n"
        "fallback_providers: [{model: m, provider: ollama, api_key: key-two}]\n"
        "fallback_model: {model: m, provider: ollama, api_key: key-three}\n",
    )
    assert {"key-one", "key-two", "key-three"} <= set(secrets_in(found.settings))
    assert "key-one" not in repr(found.settings)
