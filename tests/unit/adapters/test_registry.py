from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

import pytest

from hermesd.adapters import registry
from hermesd.adapters.contract import Adapter, AdapterSettings
from hermesd.adapters.errors import AdapterError, Unavailable


@pytest.mark.parametrize("name", ["local", "api_server", "fake"])
def test_built_in_adapters_are_made_by_name(name: str) -> None:
    made = registry.make(name, {"enabled": True, "extra": {}})
    assert isinstance(made, Adapter)
    assert made.name == name
    assert name in registry.names()


def test_an_unknown_platform_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(registry.UnknownPlatform, match=r"unknown platform 'api-server': did you mean 'api_server'\?"):
        registry.make("api-server", {})
    with pytest.raises(registry.UnknownPlatform, match="known are api_server, discord, fake, local"):
        registry.make("icq", {})


def test_a_missing_library_makes_the_platform_unavailable_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.startswith("hermesd.adapters.api_server")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(Unavailable, match=r"'api_server' is unavailable.*aiohttp.*pip install aiohttp"):
        registry.make("api_server", {})


def test_a_missing_discord_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.startswith("hermesd.adapters.discord")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "discord", None)
    with pytest.raises(Unavailable, match=r"'discord' is unavailable.*discord.*pip install 'hermesd\[discord\]'"):
        registry.make("discord", {"token": "t"})


def test_settings_show_no_secret_in_their_repr() -> None:
    settings = AdapterSettings("x", token="canary", api_key="canary", extra={"key": "canary"})
    assert "canary" not in repr(settings)


def test_extra_must_be_a_mapping() -> None:
    with pytest.raises(AdapterError, match="extra must be a mapping, not list"):
        registry.make("fake", {"extra": ["x"]})


def plug_in(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    found = [metadata.EntryPoint(name, value, registry.GROUP) for name, value in points.items()]
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: found if group == registry.GROUP else [])


def test_a_third_party_platform_comes_from_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, carrier_pigeon="hermesd.adapters.fake:FakeAdapter")
    made = registry.make("carrier_pigeon", {})
    assert made.name == "carrier_pigeon"
    assert "carrier_pigeon" in registry.names()


def test_telegram_without_its_library_is_unavailable_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "hermesd.adapters.telegram.adapter", raising=False)
    monkeypatch.setitem(sys.modules, "telegram", None)
    with pytest.raises(Unavailable, match=r"pip install 'hermesd\[telegram\]'"):
        registry.make("telegram", {"token": "1:a"})


def test_a_third_party_platform_that_cannot_be_imported_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, carrier_pigeon="pigeons_that_are_not_there.adapter:make")
    with pytest.raises(Unavailable, match=r"pigeons_that_are_not_there.*pip install"):
        registry.make("carrier_pigeon", {})


def test_a_third_party_adapter_that_lacks_methods_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, carrier_pigeon="builtins:repr")
    with pytest.raises(AdapterError, match="its adapter lacks name, start, stop, send"):
        registry.make("carrier_pigeon", {})


def test_no_plug_in_replaces_a_built_in_platform(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    plug_in(monkeypatch, local="builtins:repr")
    assert registry.names().count("local") == 1
    assert "platform 'local' is built in" in caplog.text
