from __future__ import annotations

import asyncio
from types import NoneType
from typing import Any

import pytest

from kipuka_core.domain.guard import Guard
from kipuka_core.errors import NotAllowed, PluginFailed


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _stubborn() -> str:
    """Takes no cancellation for an answer."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "after all"
    return "never"


async def _at_once() -> str:
    return "answer"


async def test_an_answer_of_the_right_type_passes() -> None:
    assert await Guard(1).call("plugin", _at_once, expect=str) == "answer"


@pytest.mark.parametrize("method", [_for_ever, _stubborn])
async def test_a_late_call_is_a_refusal_and_leaves_its_task_as_it_was(method: Any) -> None:
    guard = Guard(0.05)
    with pytest.raises(PluginFailed) as refusal:
        await guard.call("plugin", method, expect=(str, NoneType))
    assert refusal.value.detail == f"{__name__}.{method.__name__} gave no answer within 0.05 s"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await guard.call("plugin", _at_once, expect=str) == "answer"


async def test_many_calls_at_once_are_each_watched() -> None:
    guard = Guard(0.05)
    late = [guard.call("late", _for_ever, expect=NoneType) for _ in range(20)]
    quick = [guard.call("quick", _at_once, expect=str) for _ in range(20)]
    outcomes = await asyncio.gather(*late, *quick, return_exceptions=True)
    assert [isinstance(outcome, PluginFailed) for outcome in outcomes] == [True] * 20 + [False] * 20


async def test_a_later_call_is_watched_after_an_earlier_one_has_ended() -> None:
    guard = Guard(0.05)
    await guard.call("quick", _at_once, expect=str)
    with pytest.raises(PluginFailed):
        await guard.call("late", _for_ever, expect=NoneType)


async def test_a_caller_that_is_cancelled_is_cancelled() -> None:
    caller = asyncio.create_task(Guard(60).call("plugin", _for_ever, expect=NoneType))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_refusal_that_a_plugin_raises_passes_as_it_is() -> None:
    async def refuse() -> None:
        raise NotAllowed("not for you")

    with pytest.raises(NotAllowed, match="not for you"):
        await Guard(1).call("plugin", refuse, expect=NoneType)


async def test_what_is_no_coroutine_is_a_refusal() -> None:
    def plain() -> Any:
        return "answer"

    with pytest.raises(PluginFailed) as refusal:
        await Guard(1).call("plugin", plain, expect=str)
    assert refusal.value.detail.endswith(".plain is no coroutine; write `async def plain`")
