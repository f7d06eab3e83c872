"""How the suites ask a plugin: as the core does, and with a failure that says what its author has to change."""
# ruff: noqa: S101 - a contract suite is made of assertions

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from kipuka_core.domain.guard import Guard
from kipuka_core.errors import PluginFailed

ResultT = TypeVar("ResultT")
PATIENCE_SECONDS = 60.0
"""How long a suite waits for an answer before it says that there is none."""
_STEPS = 4
_CANCELLATIONS = 1000


async def asked(
    method: Callable[..., Awaitable[Any]],
    *arguments: Any,
    expect: type[ResultT] | tuple[type[ResultT], ...],
    passes: tuple[type[Exception], ...] = (),
    patience_seconds: float = PATIENCE_SECONDS,
) -> ResultT:
    """The answer of a port's method. A refusal that is raised on purpose passes.

    Anything else that a running server would refuse fails the test, with the line that its log would hold and the text
    of the exception, which the log would not.
    """
    try:
        return await Guard(patience_seconds).call("plugin", method, *arguments, expect=expect, passes=passes)
    except PluginFailed as failure:
        cause = failure.__cause__
        text = f": {cause}" if cause is not None and str(cause) else ""
        raise AssertionError(f"{failure.detail}{text}") from cause


async def cancelled_at_every_step(
    begin: Callable[[], Awaitable[Any]], patience_seconds: float = PATIENCE_SECONDS
) -> None:
    """Begin a call and cancel it at its first awaits, as a client does that hangs up."""
    for steps in range(_STEPS):
        task = asyncio.ensure_future(begin())
        for _ in range(steps):
            await asyncio.sleep(0)
        was_done = task.done()
        task.cancel()
        await asyncio.wait([task], timeout=patience_seconds)
        goes_on = not task.done()
        for _ in range(_CANCELLATIONS if goes_on else 0):  # else the test's event loop waits for it, too
            task.cancel()
            await asyncio.sleep(0)
        assert not goes_on, "it was cancelled and goes on: let asyncio.CancelledError pass"
        assert was_done or task.cancelled(), (
            "it was cancelled and answered all the same: let asyncio.CancelledError pass (`except Exception` does,"
            " `except BaseException` and a bare `except:` do not)"
        )


def check_nothing_shows(secrets: Sequence[str], **shown: str) -> None:
    """Assert that no secret is in one of these texts, which are named by what they are of."""
    for what, text in shown.items():
        assert not any(secret in text for secret in secrets if secret), (
            f"a secret is in {what.replace('_', ' ')}: keep it out, with `field(repr=False)` in a dataclass, with"
            " pydantic.SecretStr in settings, and out of every error and log line"
        )
