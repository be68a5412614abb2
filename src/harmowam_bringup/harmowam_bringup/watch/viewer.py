"""Where the log goes: the Rerun viewer, in a window or in the browser, or a file."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import rerun as rr

HOST = "127.0.0.1"
MEMORY = "512MB"
"""What the server keeps for viewers that come late; then the oldest goes."""
READY_S = 30.0


class ViewerError(ValueError):
    """The viewer cannot be started; the message says why and what to do instead."""


@contextmanager
def viewer(stream: rr.RecordingStream, *, web: bool, port: int) -> Iterator[str]:
    """Start a viewer in a process of its own, reachable from this machine alone, and send ``stream`` there; yields where to look."""
    if not web and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ViewerError("there is no display for the viewer's window: give --web to look with a browser, or --save FILE.rrd")
    data_port = port + 1
    for number in (port, data_port) if web else (data_port,):
        if _listens(number):
            raise ViewerError(f"port {number} is in use: give another --port, it and the next one are taken")
    command = [sys.executable, "-m", "rerun", "--bind", HOST, "--port", str(data_port), "--server-memory-limit", MEMORY]
    command += ["--serve-web", "--web-viewer-port", str(port)] if web else ["--hide-welcome-screen", "--expect-data-soon"]
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    address = f"rerun+http://{HOST}:{data_port}/proxy"
    try:
        end_s = time.monotonic() + READY_S
        while not _listens(data_port):
            if process.poll() is not None or time.monotonic() > end_s:
                raise ViewerError(f"the Rerun viewer did not start ({' '.join(command[1:])}); try --save FILE.rrd")
            time.sleep(0.1)
        stream.connect_grpc(address)
        yield f"http://{HOST}:{port}/?url={quote(address, safe='')}" if web else "the viewer's window"
    finally:
        stream.flush()
        stream.disconnect()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # the viewer itself is a child of what was started
        process.wait()


@contextmanager
def saving(stream: rr.RecordingStream, path: Path) -> Iterator[str]:
    """Write ``stream`` to a file; yields where."""
    if not path.parent.is_dir():
        raise ViewerError(f"there is no folder {path.parent} to save {path.name} in")
    stream.save(path)
    try:
        yield str(path)
    finally:
        stream.flush()
        stream.disconnect()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
