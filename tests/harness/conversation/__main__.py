"""``scripts/conversations``: have the conversation and write its transcript into docs/."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .conversation import talk
from .transcript import page

PAGE = Path(__file__).parents[3] / "docs" / "conversations.md"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="hd-") as place:
        record = talk(Path(place), lambda line: print(line, file=sys.stderr, flush=True))
    PAGE.write_text(page(record), "utf-8")
    print(PAGE)
    return 0


sys.exit(main())
