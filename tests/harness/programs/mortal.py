"""Ends its process by ``os._exit`` on SIGUSR2: what no signal of the kernel's does, and what a C library may do.

As an agent (``mortal:make``, the demo agent besides) its handler is in the keeper, which imports it ahead, and in every
worker. As ``sitecustomize`` on PYTHONPATH it is in hermesd.
"""

from __future__ import annotations

import os
import signal
from typing import Any, NoReturn

EXIT_STATUS = 3


def end(*_: object) -> NoReturn:
    os._exit(EXIT_STATUS)


signal.signal(signal.SIGUSR2, end)


def make(session: Any) -> Any:
    from hermesd.workers.agents import demo

    return demo.make(session)
