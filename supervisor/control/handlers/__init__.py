"""Who answers the verbs of `hermesd.supervisor.control.api`: one file per noun, joined here."""

from .chat import ChatHandler
from .doctor import DoctorHandler
from .ending import EndingHandler
from .ps import PsHandler
from .sessions import SessionsHandler
from .status import StatusHandler


class ControlHandlers(StatusHandler, PsHandler, DoctorHandler, SessionsHandler, EndingHandler, ChatHandler):
    """One method per row of the table. A new noun is a new file and a name in this line."""
