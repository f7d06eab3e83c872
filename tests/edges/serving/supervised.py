"""A program that supervises workers, as a real process, and its lines of output."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import IO, cast

PROGRAM = """
import asyncio, os, signal, sys, threading, time
from pathlib import Path
from kipuka_core.edges.serving.control import ControlSocket
from kipuka_core.edges.serving.link import Message, MessageKind
from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.edges.serving.supervisor import Supervisor, SupervisorLimits, run_event_loop
from kipuka_core.edges.serving.worker import WorkerSpec

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def fresh(message):
    return Message(MessageKind.PREPARED, message.round, "all is fresh", "all", "digest")

def refused(text):
    return lambda message: Message(MessageKind.REFUSED, message.round, text)

def obey(name, link, prepare):
    for message in link.received():
        say(message.kind, name, message.text)
        if message.kind is MessageKind.PREPARE and (answer := prepare(message)):
            link.answer(answer)
        elif message.kind is MessageKind.COMMIT:
            link.answer(Message(MessageKind.COMMITTED, message.round))

def serving(name, listening=(), on_term=None, before_ready=lambda: None, prepare=fresh, records=False):
    def run(link):
        async def main():
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, on_term or stop.set)
            loop.add_reader(link.fileno(), obey, name, link, prepare)
            before_ready()
            for bound in listening:
                bound.listen()
            link.ready()
            say("serving", name, os.getpid())
            await stop.wait()
            say("drained", name)
            return 0
        return run_event_loop(main)
    return WorkerSpec(name, tuple(listening), run, records)

def report(event):
    say("event", event.kind, event.worker, event.detail)

def supervise(*specs, control=None, **limits):
    code = Supervisor(specs, SupervisorLimits(**limits), report, control and ControlSocket(Path(control))).run()
    say("exit", code)
    sys.exit(code)
"""


class Program:
    """A running supervisor, its lines of output, and its workers."""

    def __init__(self, source: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM + textwrap.dedent(source)], stdout=subprocess.PIPE, text=True
        )
        self.output = cast("IO[str]", self.process.stdout)
        self.lines: list[str] = []
        self.unread: list[str] = []

    def line(self, start: str) -> str:
        """The next line that starts like this; lines of different processes come in any order."""
        for line in self.unread:
            if line.startswith(start):
                self.unread.remove(line)
                return line
        for line in self.output:
            self.lines.append(line.strip())
            if line.startswith(start):
                return line.strip()
            self.unread.append(line.strip())
        raise AssertionError(f"no line {start!r} in {self.lines}")

    def worker(self, name: str) -> int:
        return int(self.line(f"serving {name} ").split()[2])

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        self.lines += self.output.read().splitlines()
        return self.process.wait(20)


def gone(pid: int) -> None:
    """Return when a process that is not our child has ended."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still lives")
