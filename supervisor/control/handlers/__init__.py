"""Who answers the verbs of `hermesd.supervisor.control.api`: one file per noun, joined here."""

from .chat import ChatHandler
from .configuration import ConfigurationHandler
from .doctor import DoctorHandler
from .draining import DrainingHandler
from .ending import EndingHandler
from .inbox import InboxHandler
from .leftovers import LeftoversHandler
from .mcp import McpHandler
from .outbox import OutboxHandler
from .platforms import PlatformsHandler
from .ps import PsHandler
from .sending import SendingHandler
from .sessions import SessionsHandler
from .status import StatusHandler
from .webhook import WebhookHandler


class ControlHandlers(
    StatusHandler,
    PsHandler,
    PlatformsHandler,
    DoctorHandler,
    SessionsHandler,
    EndingHandler,
    ChatHandler,
    InboxHandler,
    DrainingHandler,
    ConfigurationHandler,
    SendingHandler,
    McpHandler,
    OutboxHandler,
    LeftoversHandler,
    WebhookHandler,
):
    """One method per row of the table. A new noun is a new file and a name in this line."""
