from __future__ import annotations

from hermesd.adapters.api_server import sse
from hermesd.adapters.api_server.routes import Text, content
from hermesd.adapters.contract import Attachment, Outbound


def test_the_rest_of_an_answer_is_what_was_not_streamed() -> None:
    text = Text()
    assert text.streamed("one ") == "one "
    assert text.rest("one two") == "two"
    assert text.rest("one ") == ""
    assert text.rest("something else") == "\n\nsomething else"
    assert Text().rest("all") == "all"


def test_a_file_of_an_answer_is_named_in_its_text() -> None:
    message = Outbound("k", "see", files=(Attachment("/m/report.pdf", "report.pdf"),))
    assert content(message) == "see\n[file report.pdf: /m/report.pdf]"


def test_no_text_can_break_out_of_a_comment_or_an_event() -> None:
    assert sse.comment("one\ndata: x") == b": one\n: data: x\n\n"
    assert sse.data({"x": "a\n\ndata: y"}).count(b"\n") == 2
