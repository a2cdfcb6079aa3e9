from __future__ import annotations

import pytest

from hermesd.workers.containment.errors import TagError
from hermesd.workers.containment.tag import (
    LENGTH,
    check_instance,
    find_tag,
    make_tag,
    parse_tag,
    plant,
    read_tag,
    server_tag,
    worker_prefix,
)

INSTANCE = "0123456789ab"


def test_a_new_tag_names_its_instance_and_is_never_the_same() -> None:
    one, other = make_tag(INSTANCE), make_tag(INSTANCE)
    assert one != other
    assert parse_tag(one).instance == INSTANCE
    assert len(one) == LENGTH == 45


@pytest.mark.parametrize("text", ["", "abc", INSTANCE, f"{INSTANCE}-{'0' * 31}", f"{INSTANCE}-{'G' * 32}", "x" * 45])
def test_what_is_no_tag_is_refused(text) -> None:
    with pytest.raises(TagError, match="cannot read tag"):
        parse_tag(text)


@pytest.mark.parametrize("instance", ["", "0123456789AB", "0123456789abc", "../../etc/x"])
def test_an_instance_id_of_another_shape_is_refused(instance) -> None:
    with pytest.raises(TagError, match="12 lower-case hex digits"):
        check_instance(instance)


def test_a_servers_tag_is_found_by_its_workers_prefix_and_by_nobody_elses() -> None:
    worker = make_tag(INSTANCE)
    tags = {server_tag(worker, name, generation) for name in ("time", "git") for generation in (1, 2)}
    assert len(tags) == 4
    assert server_tag(worker, "time", 1) in tags
    assert all(tag.startswith(worker_prefix(worker)) and len(tag) == LENGTH for tag in tags)
    assert not any(tag.startswith(worker_prefix(make_tag(INSTANCE))) for tag in tags)


def test_a_tag_is_found_only_as_a_whole_variable() -> None:
    tag = make_tag(INSTANCE)
    value = tag.encode()
    assert find_tag(b"HERMESD_TAG=" + value + b"\0A=b\0") == tag
    assert find_tag(b"A=b\0HERMESD_TAG=" + value + b"\0") == tag
    assert find_tag(b"A=b\0HERMESD_TAG=" + value) == tag
    assert find_tag(b"MY_HERMESD_TAG=" + value + b"\0") == ""
    assert find_tag(b"A=HERMESD_TAG=" + value + b"\0") == ""
    assert find_tag(b"HERMESD_TAG=" + value + b"0\0") == ""
    assert find_tag(b"HERMESD_TAG=short\0") == ""
    assert find_tag(b"") == ""


def test_a_process_that_is_gone_has_no_tag() -> None:
    assert read_tag(2**22 + 1) == ""


def test_a_process_that_was_started_without_a_tag_cannot_take_one() -> None:
    with pytest.raises(TagError, match="started without a HERMESD_TAG"):
        plant(make_tag(INSTANCE))
