from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermesd.adapters.matrix.render import html

# Matrix 1.11, 11.2.1.7 m.room.message msgtypes: what clients may show.
ALLOWED = frozenset(
    {
        "del", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "p", "a", "ul", "ol", "sup", "sub", "li", "b", "i",
        "u", "strong", "em", "s", "code", "hr", "br", "div", "table", "thead", "tbody", "tr", "th", "td",
        "caption", "pre",
        "span", "img", "details", "summary",
    }
)  # fmt: skip
ATTRIBUTES = {"a": {"href"}, "ol": {"start"}, "code": {"class"}}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("plain", ""),
        ("two\nlines", ""),
        ("two\n\nparagraphs", ""),
        ("a **b** *c* ~~d~~ `e`", "a <strong>b</strong> <em>c</em> <s>d</s> <code>e</code>"),
        ("# One\ntext", "<h1>One</h1>\n<p>text</p>"),
        ("**a**\nb", "<strong>a</strong><br>b"),
        ("```py\nx < 1\n```", '<pre><code class="language-py">x &lt; 1\n</code></pre>'),
        ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>'),
        ("[a](https://example.org/?x=1&y)", '<a href="https://example.org/?x=1&amp;y">a</a>'),
        ("[a](javascript:alert(1))", ""),
        ("![a *b*](https://example.org/x.png)", '<a href="https://example.org/x.png">a b</a>'),
        ("|a|\n|:-:|\n|b|", "<table>\n<thead>\n<tr>\n<th>a</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>b</td>\n</tr>\n"
         "</tbody>\n</table>"),
        ("*x* <b>&amp;", "<em>x</em> &lt;b&gt;&amp;"),
    ],
)  # fmt: skip
def test_markdown_becomes_what_matrix_allows(text: str, made: str) -> None:
    assert html(text) == made


def test_a_table_that_would_be_a_million_cells_is_not_drawn() -> None:
    head = "|" + "a|" * 1000 + "\n|" + "-|" * 1000 + "\n"
    assert html(head + "|\n" * 1000) == ""
    assert html(head).startswith("<table>")


@given(st.text(st.sampled_from('ab \n*_`~[]()<>&"|-#>1.!:/\\'), max_size=60))
def test_nothing_else_ever_comes_out(text: str) -> None:
    for tag, attributes in re.findall(r"<(\w+)((?: [^<>]*)?)>", html(text)):
        assert tag in ALLOWED
        assert set(re.findall(r'(\w+)="', attributes)) <= ATTRIBUTES.get(tag, set())
