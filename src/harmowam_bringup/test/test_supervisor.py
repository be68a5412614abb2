"""Processes are started, labelled, respawned and stopped, also those that refuse to stop."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harmowam_bringup.launch_yaml import Process
from harmowam_bringup.substitutions import LaunchError
from harmowam_bringup.supervisor import Line, Supervisor


def shell(script: str, name: str = "p-1", **options: object) -> Process:
    return Process(name, ("/bin/sh", "-c", script), dict(os.environ), **options)  # type: ignore[arg-type]


def wait_for(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_output_is_labelled_and_routed() -> None:
    lines: list[Line] = []
    with Supervisor([shell("echo out; echo err >&2", output="log"), shell("echo shown", "q-2", output="screen")], lines.append) as running:
        wait_for(lambda: not running.alive)
        exits = running.poll()
    assert set(lines) == {Line("p-1", "out", False), Line("p-1", "err", True), Line("q-2", "shown", True)}
    assert [(item.process, item.code) for item in exits] == [("p-1", 0), ("q-2", 0)]


def test_respawn_with_delay_and_limit() -> None:
    lines: list[Line] = []
    process = shell("echo $$; exit 3", respawn=True, respawn_delay_s=0.05, respawn_max_retries=2)
    with Supervisor([process], lines.append) as running:

        def done() -> bool:
            running.poll()
            return not running.alive

        wait_for(done)
    assert [item.code for item in running.exits] == [3, 3, 3]
    assert [item.respawns for item in running.exits] == [True, True, False]
    assert len({line.text for line in lines}) == 3


def test_exit_of_an_essential_process_asks_for_shutdown() -> None:
    with Supervisor([shell("exec sleep 60"), shell("exit 0", "q-2", shutdown_on_exit=True)], lambda line: None) as running:

        def asked() -> bool:
            running.poll()
            return running.shutdown_requested

        wait_for(asked)
        assert list(running.pids) == ["p-1"]
    assert not running.alive


@pytest.mark.parametrize(("trap", "code"), [("exit 5", 5), (":", -15)])
def test_shutdown_escalates(tmp_path: Path, trap: str, code: int) -> None:
    ready = tmp_path / "ready"
    process = shell(f"trap '{trap}' INT; touch {ready}; while :; do sleep 0.05; done", sigterm_timeout_s=0.3, sigkill_timeout_s=0.3)
    with Supervisor([process], lambda line: None) as running:
        wait_for(ready.exists)
        (child,) = running._children
    assert child.popen is not None and child.popen.returncode == code


def test_shutdown_kills_what_ignores_everything(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = shell(f"trap '' INT TERM; touch {ready}; while :; do sleep 0.05; done", sigterm_timeout_s=0.1, sigkill_timeout_s=0.1)
    with Supervisor([process], lambda line: None) as running:
        wait_for(ready.exists)
        (pid,) = running.pids.values()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_program_that_cannot_start_is_named() -> None:
    good = shell("exec sleep 60")
    with (
        pytest.raises(LaunchError, match="/no/such/program"),
        Supervisor([good, Process("x-2", ("/no/such/program",), {})], lambda line: None),
    ):
        pass


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import os, time\n"
        "from harmowam_bringup.launch_yaml import Process\n"
        "from harmowam_bringup.supervisor import Supervisor\n"
        f"command = ('/bin/sh', '-c', 'echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60')\n"
        "with Supervisor([Process('p-1', command, dict(os.environ))], print):\n"
        "    time.sleep(60)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        wait_for(pid_file.exists, 60)
    finally:
        supervisor.kill()
        supervisor.wait()
    stat = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    # Whoever adopts it may not have collected it yet: then it is a zombie.
    wait_for(lambda: not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")
