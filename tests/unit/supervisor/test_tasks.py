from __future__ import annotations

import asyncio

import pytest

from hermesd.supervisor.tasks import Tasks


@pytest.fixture
def failures() -> list[tuple[str, BaseException]]:
    return []


@pytest.fixture
def tasks(failures: list[tuple[str, BaseException]]) -> Tasks:
    return Tasks(lambda name, error: failures.append((name, error)))


async def boom() -> None:
    raise ValueError("boom")


async def test_a_lasting_task_that_fails_is_its_owners_end(tasks: Tasks, failures: list[object]) -> None:
    tasks.spawn(boom(), "sampler")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ((name, error),) = failures  # type: ignore[misc]
    assert (name, str(error)) == ("sampler", "boom")


async def test_so_is_one_that_just_ends(tasks: Tasks, failures: list[object]) -> None:
    tasks.spawn(asyncio.sleep(0), "sampler")
    for _ in range(4):
        await asyncio.sleep(0)
    assert len(failures) == 1


async def test_a_job_that_fails_is_logged_by_its_name(
    tasks: Tasks, failures: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    tasks.job(boom(), "tell 7")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not failures
    assert "tell 7 failed" in caplog.text
    assert "ValueError: boom" in caplog.text


async def test_closing_ends_all_of_them_and_blames_nobody(tasks: Tasks, failures: list[object]) -> None:
    lasting, job = tasks.spawn(asyncio.sleep(60), "a"), tasks.job(asyncio.sleep(60), "b")
    await tasks.close()
    assert lasting.cancelled()
    assert job.cancelled()
    assert not failures
