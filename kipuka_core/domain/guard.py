"""Every call into a plugin goes through here (invariant 4): what goes wrong in a plugin is a refusal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import takewhile
from types import TracebackType
from typing import Any, TypeVar

from kipuka_core.domain.answers import answer_problem
from kipuka_core.errors import PluginFailed, RequestRefused, StoreUnavailable

ResultT = TypeVar("ResultT")
log = logging.getLogger(__name__)


class _Call:
    """A call that is under way."""

    __slots__ = ("deadline", "is_late", "method", "owed", "task")

    def __init__(self, task: asyncio.Task[Any], deadline: float, method: Callable[..., Any]) -> None:
        self.task, self.deadline, self.method = task, deadline, method
        self.is_late = False
        self.owed = 0
        """Cancellations by the guard that have to be taken back."""


class Guard:
    """Calls plugins under ``[plugins] timeout`` and believes only sound answers of the type that the port promises.

    One timer watches all calls. Most calls never wait, and a request makes a dozen of them: a timer for each would cost
    more than the calls.
    """

    def __init__(self, timeout_seconds: float = 10.0) -> None:
        self.timeout_seconds = timeout_seconds
        self._running: dict[_Call, None] = {}  # in the order of their deadlines, since all have the same time
        self._timer: asyncio.TimerHandle | None = None

    async def call(
        self,
        plugin: str,
        method: Callable[..., Awaitable[Any]],
        *arguments: Any,
        expect: type[ResultT] | tuple[type[ResultT], ...],
        passes: tuple[type[Exception], ...] = (),
    ) -> ResultT:
        """Await ``method(*arguments)`` and return its answer.

        Raises PluginFailed, naming ``plugin``, for an exception (``sys.exit()`` is one), a late answer, one of the
        wrong type or one that the core could not use. A refusal that the plugin raises on purpose (RequestRefused)
        passes, and so do a store that is away and what else may be raised on purpose (``passes``).
        """
        call = self._begin(method)
        try:
            answer = await _begun(plugin, method, arguments)
        except (RequestRefused, StoreUnavailable, GeneratorExit, KeyboardInterrupt):
            raise
        except passes:
            raise
        except asyncio.CancelledError as error:
            self._end(call)
            if call.task.cancelling():
                raise
            if call.is_late:
                raise self._late(plugin, call) from error
            raise PluginFailed(plugin, f"{called(method)} cancelled itself") from error
        except BaseException as error:
            # The text of a foreign exception may hold anything, a secret too: type and place are told, the rest is not.
            raise PluginFailed(plugin, f"{called(method)} {raised(error, method)}") from error
        finally:
            self._end(call)
        if call.is_late or asyncio.get_running_loop().time() > call.deadline:
            raise self._late(plugin, call)
        if not isinstance(answer, expect):
            raise PluginFailed(plugin, f"{called(method)} answered with {_kind(answer)}; {_wanted(expect)}")
        if problem := answer_problem(answer):
            raise PluginFailed(plugin, f"{called(method)} answered with {type(answer).__name__} {problem}")
        return answer

    def _begin(self, method: Callable[..., Any]) -> _Call:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("plugins are called from tasks only")
        call = _Call(task, loop.time() + self.timeout_seconds, method)
        self._running[call] = None
        if self._timer is None:
            self._timer = loop.call_at(call.deadline, self._look)
        return call

    def _end(self, call: _Call) -> None:
        """Leave the task as it was."""
        self._running.pop(call, None)
        while call.owed:
            call.owed -= 1
            call.task.uncancel()

    def _look(self) -> None:
        """Cancel what is late, again and again where it goes on all the same, and look again when the next would be."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for call in tuple(takewhile(lambda each: each.deadline <= now, self._running)):
            if call.owed == 1:
                log.error(
                    "%s was cancelled after %g s and goes on: it has to let asyncio.CancelledError pass",
                    called(call.method),
                    self.timeout_seconds,
                )
            del self._running[call]
            call.deadline = now + self.timeout_seconds
            self._running[call] = None
            call.is_late = True
            call.owed += 1
            call.task.cancel()
        following = next(iter(self._running), None)
        self._timer = loop.call_at(following.deadline, self._look) if following else None

    def _late(self, plugin: str, call: _Call) -> PluginFailed:
        detail = f"{called(call.method)} gave no answer within {self.timeout_seconds:g} s"
        if not call.is_late:  # the timer of this loop had no turn
            detail += (
                ", and the event loop stood still: nothing here may block it, so await,"
                " or hand the work to services.run_blocking"
            )
        return PluginFailed(plugin, detail)


async def _begun(plugin: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    awaitable = method(*arguments)
    if not hasattr(awaitable, "__await__"):
        name = getattr(method, "__name__", "it")
        raise PluginFailed(plugin, f"{called(method)} is no coroutine; write `async def {name}`")
    return await awaitable


def called(method: Callable[..., Any]) -> str:
    """A method as its author knows it: module, class and name."""
    name = getattr(method, "__name__", type(method).__name__)
    owner = getattr(method, "__self__", None)
    if owner is None:
        return f"{getattr(method, '__module__', '')}.{getattr(method, '__qualname__', name)}"
    return f"{type(owner).__module__}.{type(owner).__qualname__}.{name}"


def raised(error: BaseException, method: Callable[..., Any]) -> str:
    """What was raised, and the innermost line of the plugin that had a part in it."""
    package = called(method).partition(".")[0]
    place = ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] == package and trace.tb_frame.f_globals is not globals():
            place = f" in line {trace.tb_lineno} of {module}"
        trace = trace.tb_next
    return f"raised {type(error).__name__}{place}"


def _kind(answer: object) -> str:
    if isinstance(answer, type):
        return f"the class {answer.__name__}"
    return "None" if answer is None else type(answer).__name__


def _wanted(expect: type[Any] | tuple[type[Any], ...]) -> str:
    kinds = expect if isinstance(expect, tuple) else (expect,)
    names = ["None" if kind is type(None) else kind.__name__ for kind in kinds]
    head = ", ".join(names[:-1])
    return f"it has to answer with {f'{head} or {names[-1]}' if head else names[0]}"
