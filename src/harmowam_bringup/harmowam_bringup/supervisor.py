"""Runs the processes of a launch file: labelled output, respawn, orderly shutdown (SIGINT, then SIGTERM, then SIGKILL)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from harmowam_bringup.launch_yaml import Process
from harmowam_bringup.substitutions import LaunchError

# Ends a node whose supervisor was killed; where util-linux is not at hand, such a node would go on.
_DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


@dataclass(frozen=True)
class Line:
    """One line of output; ``on_screen`` as the process's ``output`` says."""

    process: str
    text: str
    on_screen: bool


@dataclass(frozen=True)
class Exit:
    """A process that ended while nobody had asked it to; ``code`` is negative for a signal."""

    process: str
    code: int
    respawns: bool


class Supervisor:
    """``with Supervisor(processes, on_line) as running: while running.alive: running.poll(); …``

    All methods are to be called from one thread: the kernel ends the children when that thread ends, so that no node
    outlives its supervisor. ``on_line`` is called from reader threads.
    """

    def __init__(self, processes: Sequence[Process], on_line: Callable[[Line], None]) -> None:
        self.exits: list[Exit] = []
        self.shutdown_requested = False
        self._on_line = on_line
        self._params = tempfile.TemporaryDirectory(prefix="harmowam_params_")
        self._children = [_Child(process, Path(self._params.name), on_line) for process in processes]

    def __enter__(self) -> Self:
        for child in self._children:
            child.check()
        for child in self._children:
            child.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()

    @property
    def alive(self) -> bool:
        """Whether any process runs or is about to be started again."""
        return any(child.running or child.restart_at is not None for child in self._children)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the running processes by name."""
        return {child.process.name: child.popen.pid for child in self._children if child.popen is not None and child.running}

    def poll(self) -> list[Exit]:
        """Notice ended processes and start again those that shall be; returns the new exits."""
        new = []
        for child in self._children:
            ended = child.poll(time.monotonic())
            if ended is not None:
                new.append(ended)
                self.shutdown_requested |= child.process.shutdown_on_exit
        self.exits += new
        return new

    def shutdown(self) -> None:
        """Stop every process: SIGINT; SIGTERM and SIGKILL to its whole group after its timeouts."""
        for child in self._children:
            child.restart_at = None
        for number, wait_s in (
            (signal.SIGINT, lambda process: process.sigterm_timeout_s),
            (signal.SIGTERM, lambda process: process.sigkill_timeout_s),
            (signal.SIGKILL, lambda process: 1.0),
        ):
            running = [child for child in self._children if child.running]
            for child in running:
                child.signal(number)
            deadlines = [(child, time.monotonic() + wait_s(child.process)) for child in running]
            while any(child.running and time.monotonic() < deadline for child, deadline in deadlines):
                time.sleep(0.02)
        for child in self._children:
            child.finish()
        self._params.cleanup()


class _Child:
    def __init__(self, process: Process, params_dir: Path, on_line: Callable[[Line], None]) -> None:
        self.process = process
        self.popen: subprocess.Popen[bytes] | None = None
        self.restart_at: float | None = None
        self._command = process.command_line(params_dir)
        self._on_line = on_line
        self._respawns = 0
        self._readers: list[threading.Thread] = []
        self._reported = False

    @property
    def running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def check(self) -> None:
        program = self._command[0]
        if shutil.which(program, path=self.process.environment.get("PATH")) is None:
            raise LaunchError(f"{self.process.name}: there is no program '{program}'")

    def start(self) -> None:
        self.restart_at, self._reported = None, False
        # A session of its own: Ctrl-C reaches the supervisor alone, which then stops its children in order.
        self.popen = subprocess.Popen(
            [*_DIE_WITH_PARENT, *self._command],
            cwd=self.process.cwd,
            env={"PYTHONUNBUFFERED": "1", **self.process.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        screens = (self.process.output in ("screen", "both", "full"), self.process.output != "own_log")
        self._readers = [
            threading.Thread(target=self._read, args=(stream, on_screen), daemon=True)
            for stream, on_screen in zip((self.popen.stdout, self.popen.stderr), screens, strict=True)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[bytes], on_screen: bool) -> None:
        with stream:
            for raw in stream:
                self._on_line(Line(self.process.name, raw.decode(errors="replace").rstrip("\n"), on_screen))

    def poll(self, now_s: float) -> Exit | None:
        if self.restart_at is not None and now_s >= self.restart_at:
            self.start()
        if self.popen is None or self.running or self._reported:
            return None
        self._reported = True
        most = self.process.respawn_max_retries
        respawns = self.process.respawn and (most < 0 or self._respawns < most)
        if respawns:
            self._respawns += 1
            self.restart_at = now_s + self.process.respawn_delay_s
        return Exit(self.process.name, self.popen.returncode, respawns)

    def signal(self, number: signal.Signals) -> None:
        """SIGINT to the process alone, which tells its own children; harder signals to its whole group."""
        if self.popen is None or not self.running:
            return
        if number == signal.SIGINT:
            self.popen.send_signal(number)
        else:
            os.killpg(self.popen.pid, number)

    def finish(self) -> None:
        for reader in self._readers:
            reader.join(timeout=1.0)
