"""What may go wrong at a platform, by what the core may do next, not by what the platform said."""


class AdapterError(Exception):
    """Base of every error of an adapter. ``fix`` is what a person can do about it."""

    def __init__(self, reason: str = "", *, fix: str = ""):
        super().__init__(reason)
        self.fix = fix


class Unavailable(AdapterError):
    """The platform's client library is not installed; the text holds the pip command."""


class StartLater(AdapterError):
    """The way in cannot be up yet, for a reason that may pass by itself: start it again in a while."""


class Conflict(AdapterError):
    """Somebody else uses the same token: nothing will come until they stop."""


class NotAccepted(AdapterError):
    """The core could not keep an inbound message; do not confirm it to the platform. ``reason`` is for the user."""

    def __init__(self, reason: str, *, code: str = "unavailable"):
        super().__init__(reason)
        self.reason = reason
        self.code = code


class DeliveryError(AdapterError):
    """A message was not delivered."""


class Retry(DeliveryError):
    """Not now: try the same message again after ``after`` seconds. ``flood``: the platform wants no calls before then,
    for this chat, whatever they are; ``overall``: for no chat.
    """

    def __init__(self, reason: str, after: float = 1.0, *, flood: bool = False, overall: bool = False):
        super().__init__(reason)
        self.after = after
        self.flood = flood or overall
        self.overall = overall


class Uncertain(DeliveryError):
    """The call was cut: the platform may have the message or not. It goes again after ``after`` seconds, with a mark,
    unless `hermesd.adapters.contract.CanFind` tells.

    For a platform that recognises a message which comes twice, by its `hermesd.adapters.contract.Outbound.key`, it is
    `Retry` instead.
    """

    def __init__(self, reason: str, after: float = 1.0):
        super().__init__(reason)
        self.after = after


class Gone(DeliveryError):
    """The chat (or the caller) is no longer there; nothing more can be delivered to this target."""


class Unattended(DeliveryError):
    """Nobody looks at the chat just now. The message is kept until the adapter says
    `hermesd.adapters.contract.Receiver.attended`.
    """


class Rejected(DeliveryError):
    """The platform will never take this message as it is."""


class Unauthorized(AdapterError):
    """The token is wrong or was revoked; only a human can mend it."""
