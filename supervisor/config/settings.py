"""Every setting of hermesd, with its default. Sizes are bytes and durations seconds, as the names say.

The alias of a field is the key in ``config.yaml``; keys that hermes-agent knows keep its names and meaning.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .units import Bytes, BytesLimit, Count, CountLimit, Seconds, Text, Texts

MIN_MEMORY = 64 << 20
"""Bytes below which a limit is taken for a slip (``2`` for ``2G``): no worker would live."""

MIN_LOG = 128 << 10
"""Bytes below which a log's cap would not hold its longest line."""

Port = Annotated[Count, Field(ge=0, le=65535)]


class Section(BaseModel):
    """A part of the configuration. Frozen: a reload makes a new one."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, validate_default=True)


class Workers(Section):
    """``hermesd.workers``: how many worker processes, how long they live, what each may use."""

    max: Count = Field(default=64, ge=1)
    max_turns: Count = Field(default=8, ge=1)
    spare: Count = Field(default=1, ge=0)
    idle_timeout_seconds: Seconds = Field(default=1800.0, alias="idle_timeout")
    hang_timeout_seconds: Seconds = Field(default=60.0, alias="hang_timeout", gt=0)
    burn_timeout_seconds: Seconds = Field(default=15.0, alias="burn_timeout")  # processor use without a turn; 0: any
    memory_soft_bytes: BytesLimit = Field(default=1 << 30, alias="memory_soft")
    memory_hard_bytes: BytesLimit = Field(default=2 << 30, alias="memory_hard")
    max_processes: CountLimit = Field(default=256, ge=4)
    max_age_seconds: Seconds = Field(default=0.0, alias="max_age")  # of a worker with a session; 0: none
    max_turns_per_worker: CountLimit = Field(default=None, ge=1)
    turn_timeout_seconds: Seconds = Field(default=0.0, alias="turn_timeout")  # of the whole turn; 0: none
    on_crash: Literal["ask", "retry"] = "ask"
    env: Texts = ()  # names or globs of environment variables that agents may see besides the base
    start_by: Literal["fork", "exec"] = "fork"  # exec: for agents whose modules cannot be forked
    endpoint: str = ""  # tcp://ADDRESS:PORT, with CURVE keys; "": a Unix socket in the run directory

    @field_validator("endpoint")
    @classmethod
    def _an_address_of_this_machine(cls, value: str) -> str:
        if not value:
            return value
        match = re.fullmatch(r"tcp://(\d+\.\d+\.\d+\.\d+):(\d{1,5})", value)
        try:
            usable = match is not None and not ipaddress.IPv4Address(match[1]).is_unspecified
        except ValueError:
            usable = False
        # Not port 0: a worker that outlives hermesd has to find the next one.
        if match is None or not usable or not 0 < int(match[2]) < 65536:
            raise ValueError("is not tcp://ADDRESS:PORT with one IPv4 address of this machine, as tcp://127.0.0.1:5555")
        return value


class Logs(Section):
    """``hermesd.logs``: what hermesd.log and the logs of single sessions may use of the disk."""

    max_size_bytes: Bytes = Field(default=10 << 20, alias="max_size", ge=MIN_LOG)
    backups: Count = Field(default=3, ge=0, le=100)
    session_size_bytes: Bytes = Field(default=512 << 10, alias="session_size", ge=MIN_LOG)
    sessions: Count = Field(default=100, ge=0)  # files; 0: none of their own


class Web(Section):
    """``hermesd.web``: the address of metrics and of the page."""

    host: str = "127.0.0.1"
    port: Port = 8641


class Hermesd(Section):
    """``hermesd``: what is ours."""

    agent: str = "demo"
    agent_path: Texts = ()  # absolute, once loaded
    python: Text = ""  # the interpreter of keeper and workers, absolute once loaded; "": the one that runs hermesd
    agent_settings: dict[str, Any] = Field(default_factory=dict, repr=False)
    workers: Workers = Workers()
    containment: Literal["auto", "cgroup", "subreaper", "pgroup", "job"] = "auto"
    stop_budget_seconds: Seconds = Field(default=60.0, alias="stop_budget", ge=2)
    adopt_timeout_seconds: Seconds = Field(default=3.0, alias="adopt_timeout")
    busy: Literal["queue", "interrupt", "steer"] = "queue"
    logs: Logs = Logs()
    web: Web = Web()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("agent")
    @classmethod
    def _name_or_factory(cls, value: str) -> str:
        module, colon, factory = value.partition(":")
        dotted = all(part.isidentifier() for part in module.split("."))
        if colon and not (dotted and all(part.isidentifier() for part in factory.split("."))):
            raise ValueError("is not package.module:factory")
        if not value.strip():
            raise ValueError("is empty")
        return value


class HomeChannel(Section):
    """``platforms.<name>.home_channel``: the chat for what answers nobody; an id alone, or a section."""

    chat_id: Text = ""
    thread_id: Text = ""
    platform: Text = ""  # hermes-agent repeats it here, and keeps a name
    name: Text = ""

    @model_validator(mode="before")
    @classmethod
    def _an_id_alone(cls, value: Any) -> Any:
        return {"chat_id": value} if isinstance(value, str | int) else value


class Platform(Section):
    """``platforms.<name>``: one way in. What only its adapter understands is in ``extra``."""

    enabled: bool = False
    token: Text = Field(default="", repr=False)
    api_key: Text = Field(default="", repr=False)
    home_channel: HomeChannel | None = None
    reply_to_mode: Literal["off", "first", "all"] = "first"
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("reply_to_mode", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads off as false


WEBHOOK_KEYS = ("host", "port", "secret", "routes", "rate_limit", "max_body_bytes", "allowed_hosts")
"""Keys of ``platforms.webhook`` that hermes-agent also takes from the section itself; ``extra`` goes before them."""


class ApiServer(Section):
    """``platforms.api_server.extra``: where the OpenAI-compatible API listens and how it calls itself."""

    model_config = ConfigDict(extra="allow")

    host: str = "127.0.0.1"
    port: Port = 8642
    model_name: Text = "hermes-agent"
    key: Text = Field(default="", repr=False)  # hermes-agent's place for what is api_key here


class ToolFilter(Section):
    """``mcp_servers.<name>.tools``: which tools of a server the agent sees; include beats exclude."""

    include: Texts = ()
    exclude: Texts = ()
    resources: bool = True
    prompts: bool = True


class Sampling(Section):
    """``mcp_servers.<name>.sampling``: what a server may ask of the model of its session."""

    enabled: bool = True
    model: Text = ""  # asked in place of the session's own
    allowed_models: Texts = ()  # which the server may choose by a hint
    max_tokens_cap: Count = Field(default=4096, ge=1)
    timeout_seconds: Seconds = Field(default=30.0, alias="timeout", gt=0)
    max_rpm: Count = Field(default=10, ge=1)
    max_tool_rounds: Count = Field(default=5, ge=0)
    log_level: Literal["debug", "info", "warning"] = "info"

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


class OAuth(Section):
    """``mcp_servers.<name>.oauth``, all of it for ``hermesctl mcp login``. "": the authorization server decides."""

    client_id: Text = ""  # registered by hand; "": hermesd registers itself
    client_secret: Text = Field(default="", repr=False)
    scope: Text = ""
    redirect_port: Port = 0  # 0: a free one
    redirect_uri: Text = ""  # where the browser comes back to, if that is not this machine
    redirect_host: Text = "127.0.0.1"
    client_name: Text = "hermesd"
    timeout_seconds: Seconds = Field(default=300.0, alias="timeout", gt=0)


class McpServer(Section):
    """``mcp_servers.<name>``, in the schema of hermes-agent; scope, limits and isolation are ours."""

    enabled: bool = True
    command: str = ""
    args: Texts = ()
    env: dict[str, Text] = Field(default_factory=dict, repr=False)
    cwd: str = ""
    url: Text = ""
    headers: dict[str, Text] = Field(default_factory=dict, repr=False)
    transport: Literal["", "http", "streamable_http", "sse"] = ""
    ssl_verify: bool | Text = True  # or a file with the certificates to trust
    client_cert: Texts = ()  # a PEM file; or certificate, key and the key's password
    client_key: Text = ""
    auth: Literal["", "oauth"] = ""
    oauth: OAuth = OAuth()
    timeout_seconds: Seconds = Field(default=300.0, alias="timeout", gt=0)
    connect_timeout_seconds: Seconds = Field(default=60.0, alias="connect_timeout", gt=0)
    tools_wait_seconds: Seconds = Field(default=5.0, alias="tools_wait", ge=0)
    keepalive_interval_seconds: Seconds = Field(default=180.0, alias="keepalive_interval", ge=5)
    tools: ToolFilter = ToolFilter()
    sampling: Sampling = Sampling()
    scope: Literal["session", "host"] = "session"
    idle_timeout_seconds: Seconds | None = Field(default=None, alias="idle_timeout")
    max_lifetime_seconds: Seconds | None = Field(default=None, alias="max_lifetime")
    isolation: Literal["worker", "session", "call", "shared"] = "session"  # shared: as scope: host

    @property
    def is_shared(self) -> bool:
        """One instance serves all sessions."""
        return self.scope == "host" or self.isolation == "shared"

    @field_validator("transport", mode="before")
    @classmethod
    def _as_others_write_it(cls, value: Any) -> Any:
        return value.lower().replace("-", "_") if isinstance(value, str) else value

    @field_validator("client_cert")
    @classmethod
    def _one_to_three(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > 3:
            raise ValueError("has more than a certificate, a key and its password")
        return value


class SessionReset(Section):
    """``session_reset``: when a session starts anew by itself."""

    mode: Literal["both", "daily", "idle", "none"] = "both"
    at_hour: Count = 4
    idle_minutes: Count = 1440
    notify: bool = True
    notify_exclude_platforms: Texts = ("api_server", "webhook")


class Streaming(Section):
    """``streaming``, a section of hermes-agent's: how chats see an answer while it is written.

    There it is off unless the file says so; here it is on.
    """

    enabled: bool = True
    edit_interval_seconds: Seconds = Field(default=0.8, alias="edit_interval", ge=0.1, le=60)
    buffer_threshold: Count = Field(default=24, ge=1)  # characters since the last edit that are shown sooner
    cursor: str = Field(default=" \u2589", max_length=16)


class Model(Section):
    """``model``, ``fallback_providers`` and ``fallback_model``: a name alone, or a section. For the agent ``llm``."""

    default: Text = ""
    provider: Text = ""
    base_url: Text = ""
    api_key: Text = Field(default="", repr=False)
    context_length: Count = Field(default=0, ge=0)  # tokens; 0: not known

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_or_hermes_other_word(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"default": value}
        if isinstance(value, dict) and "default" not in value and "model" in value:
            return {**value, "default": value["model"]}
        return value


class Agent(Section):
    """``agent``, hermes-agent's own section. ``max_turns``: steps of one turn, each a request to the model."""

    gateway_timeout_seconds: Seconds = Field(default=1800.0, alias="gateway_timeout")  # without a sign of work; 0: none
    gateway_timeout_warning_seconds: Seconds = Field(default=900.0, alias="gateway_timeout_warning")
    max_turns: Count = Field(default=90, ge=1)
    system_prompt: str = ""
    reasoning_effort: Text = ""


class Approvals(Section):
    """``approvals``: before which tools (globs, as ``github_*`` or ``github.delete_*``) the user is asked."""

    tools: Texts = ()
    timeout_seconds: Seconds = Field(default=300.0, alias="timeout", gt=0)


class Access(Section):
    """Who may talk to the agent, from ``*_ALLOWED_USERS`` and ``*_ALLOW_ALL_USERS``. Closed by default."""

    allowed: dict[str, frozenset[str]] = Field(default_factory=dict)
    allow_all: frozenset[str] = frozenset()
    gateway_allowed: frozenset[str] = frozenset()
    gateway_allow_all: bool = False


class Settings(Section):
    """Everything, checked."""

    hermesd: Hermesd = Hermesd()
    agent: Agent = Agent()
    model: Model = Model()
    fallback_providers: tuple[Model, ...] = ()
    fallback_model: tuple[Model, ...] = ()
    approvals: Approvals = Approvals()
    platforms: dict[str, Platform] = Field(default_factory=dict)
    mcp_servers: dict[str, McpServer] = Field(default_factory=dict)
    session_reset: SessionReset = SessionReset()
    reset_by_type: dict[str, SessionReset] = Field(default_factory=dict)
    reset_by_platform: dict[str, SessionReset] = Field(default_factory=dict)
    streaming: Streaming = Streaming()
    group_sessions_per_user: bool = True
    thread_sessions_per_user: bool = False
    access: Access = Access()

    @field_validator("fallback_providers", "fallback_model", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if isinstance(value, str | dict):
            return [value] if value else []
        return value


def schema() -> dict[str, Any]:
    """The JSON schema of ``config.yaml``, for editors and ``hermesctl config schema``."""
    whole = Settings.model_json_schema(by_alias=True, mode="validation")
    whole["properties"].pop("access")  # comes from the environment only
    whole["$defs"].pop("Access")
    whole["title"] = "config.yaml of hermesd"
    return whole
