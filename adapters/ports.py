"""Who holds a TCP port that a way in cannot have, for the one who has to choose another one."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def holder_of(port: int) -> str:
    """``nginx (pid 812)``; "" where the system does not say, as for a process of another user. Takes some 10 ms."""
    import psutil  # for a way in that has its port this is never needed

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError) as error:
        log.debug("cannot tell who listens on port %d: %s", port, error)
    return ""
