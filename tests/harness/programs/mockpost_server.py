"""PyPI's mockpost on the listening socket that is descriptor argv[1], without its mail and FTP servers.

Run by the interpreter of mockpost's own environment.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from mockpost import db, main


@contextlib.asynccontextmanager
async def database_only(app: Any) -> AsyncIterator[None]:
    await db.init_db()
    yield
    await db.close_db()


main.app.router.lifespan_context = database_only
uvicorn.run(main.app, fd=int(sys.argv[1]), log_level="warning")
