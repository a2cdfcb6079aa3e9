"""What can go wrong between two processes, sorted by whose fault it is.

The sorting is the point: a `LocalError` is a bug to mend here, a `PeerError` is bad input from the other process, which
is dropped and counted and must never end the process that received it.
"""


class IpcError(Exception):
    """Base of every error of this package."""


class LocalError(IpcError):
    """This process tried to send what the wire cannot carry; the message was not sent."""


class PeerError(IpcError):
    """The other process sent what the wire does not allow; the frame was dropped."""


class Incompatible(PeerError):
    """The other process speaks another version of the wire."""
