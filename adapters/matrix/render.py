"""Markdown to the HTML that Matrix allows in messages (spec: m.room.message, "org.matrix.custom.html")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from hermesd.adapters.markdown import parse


class _Html(RendererHTML):
    """markdown-it's own, without what Matrix has no place for."""

    def image(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: Any) -> str:
        # Matrix shows pictures of its own store only (mxc://): the others become links.
        token = tokens[index]
        address = escapeHtml(str(token.attrs.get("src", "")))
        words = self.renderInlineAsText(token.children or [], options, env)
        return f'<a href="{address}">{escapeHtml(words) or address}</a>'

    def softbreak(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: Any) -> str:
        return "<br>"  # whoever writes in a chat means a new line by one

    def hardbreak(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: Any) -> str:
        return "<br>"

    def _cell(self, tokens: Sequence[Token], index: int, options: OptionsDict, env: Any) -> str:
        return f"<{tokens[index].tag}>"  # "style" is no attribute that Matrix allows

    td_open = th_open = _cell


_HTML = _Html()
_OPTIONS = OptionsDict(
    {
        "maxNesting": 20, "html": False, "linkify": False, "typographer": False, "quotes": "", "xhtmlOut": False,
        "breaks": False, "langPrefix": "language-", "highlight": None,
    }
)  # fmt: skip


def html(text: str) -> str:
    """The formatted body of a message, "" for a text without any markup."""
    tokens = parse(text)
    if _is_plain(tokens):
        return ""
    made = _HTML.render(tokens, _OPTIONS, {}).strip()
    if len(tokens) == 3 and made.startswith("<p>") and made.endswith("</p>"):
        return made[3:-4]  # a paragraph by itself would only add space around it
    return made


def _is_plain(tokens: Sequence[Token]) -> bool:
    for token in tokens:
        if token.type not in ("paragraph_open", "paragraph_close", "inline"):
            return False
        if any(child.type not in ("text", "softbreak") for child in token.children or ()):
            return False
    return True
