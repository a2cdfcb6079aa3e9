"""What can go wrong in a worker outside its agent."""


class WorkerError(Exception):
    """Base of every error of this package."""


class NoAgent(WorkerError):
    """The agent of the configuration cannot be made; the text says where it was looked for and why it failed."""


class TurnFailed(WorkerError):
    """An agent's own word on why a turn failed: a sentence for the chat, shown as it is and logged in one line."""
