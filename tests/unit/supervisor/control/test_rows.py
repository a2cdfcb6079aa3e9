from __future__ import annotations

import pytest

from hermesd.supervisor.control.access import Access
from hermesd.supervisor.control.api import VERBS
from hermesd.supervisor.control.errors import Refused
from hermesd.supervisor.control.handlers.rows import bounded, chosen, each, number
from hermesd.supervisor.gateway.inbox_orders import Unsuitable
from hermesd.supervisor.journal.errors import IllegalTransition, JournalUnavailable, UnknownRow
from hermesd.supervisor.journal.states import InboxState, OutboxState


def test_a_state_is_a_word_of_the_journal_and_none_means_all() -> None:
    assert chosen(InboxState, "dead") == (InboxState.DEAD,)
    assert chosen(OutboxState, "ambiguous") == (OutboxState.AMBIGUOUS,)
    assert chosen(InboxState, "") == ()
    with pytest.raises(Refused, match="no state 'sent'; there are: received, queued, dispatched"):
        chosen(InboxState, "sent")


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_list_has_an_end(limit: int) -> None:
    assert bounded(1000) == 1000
    with pytest.raises(Refused, match='"limit" must be 1 to 1000'):
        bounded(limit)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "١", "9" * 19, "1 "])
def test_what_is_no_number_of_a_row_is_refused(text: str) -> None:
    assert number("12") == 12
    with pytest.raises(Refused, match="is not the number of a message"):
        number(text)


async def test_each_row_has_its_own_outcome() -> None:
    errors = {
        2: UnknownRow("cannot find it"),
        3: Unsuitable("it runs"),
        4: IllegalTransition("it is over"),
        5: JournalUnavailable("disk full"),
    }

    async def order(row_id: int) -> str:
        if row_id in errors:
            raise errors[row_id]
        return "well"

    document = await each([str(row_id) for row_id in range(1, 6)], order)
    assert document["schema"] == 1
    assert [(row["id"], row["outcome"], row["detail"]) for row in document["messages"]] == [
        (1, "done", "well"),
        (2, "not_found", "there is no such message"),
        (3, "refused", "it runs"),
        (4, "refused", "it is over"),
        (5, "failed", "disk full"),
    ]


async def test_one_wrong_number_means_that_none_is_touched() -> None:
    touched = []

    async def order(row_id: int) -> str:
        touched.append(row_id)
        return ""

    with pytest.raises(Refused):
        await each(["1", "two"], order)
    assert not touched


def test_looking_is_for_everybody_and_acting_is_not_for_an_agent() -> None:
    for box in ("inbox", "outbox"):
        assert {VERBS[f"{box}.{verb}"].access for verb in ("list", "show")} == {Access.READ}
        assert {VERBS[f"{box}.{verb}"].access for verb in ("retry", "drop")} == {Access.ADMIN}
