"""``harmowam up``: run a YAML launch file in the terminal until it ends or is interrupted."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rich.console import Console
from rich.text import Text

from harmowam_bringup.launch_yaml import Launch, Process, declared_arguments, read_launch
from harmowam_bringup.substitutions import LaunchError
from harmowam_bringup.supervisor import Line, Supervisor

_COLOURS = ("cyan", "magenta", "green", "blue", "yellow", "bright_cyan", "bright_magenta", "bright_green")
_LEVELS = {"WARN": "yellow", "ERROR": "red", "FATAL": "bold red"}


def find_launch_file(name: str) -> Path:
    """A path, or a launch file of this package by name; LaunchError lists those there are."""
    if Path(name).is_file() or "/" in name:
        return Path(name)
    try:
        folder = Path(get_package_share_directory("harmowam_bringup")) / "launch"
    except (PackageNotFoundError, OSError):
        raise LaunchError(f"there is no file '{name}', and harmowam_bringup is not installed; source setup.bash") from None
    if not (folder / name).is_file():
        known = ", ".join(sorted(path.name for path in folder.glob("*.launch.*")))
        raise LaunchError(f"there is no launch file '{name}', neither here nor in {folder}, which has {known}")
    return folder / name


def parse_arguments(words: list[str]) -> dict[str, str]:
    """``name:=value`` words."""
    given = {}
    for word in words:
        name, mark, value = word.partition(":=")
        if not mark or not name:
            raise LaunchError(f"launch arguments are written name:=value, not '{word}'")
        given[name] = value
    return given


def run(file: str, words: list[str], console: Console, *, show_args: bool = False, print_only: bool = False) -> int:
    """Show arguments, print processes or run them; the exit code: 0, or 1 if a process failed."""
    path, given = find_launch_file(file), parse_arguments(words)
    if show_args:
        _show_arguments(path, given, console)
        return 0
    launch = read_launch(path, given)
    if print_only:
        for process in launch.processes:
            console.print(Text(_described(process)))
        return 0
    return _supervise(launch, console)


def _show_arguments(path: Path, given: dict[str, str], console: Console) -> None:
    for argument in declared_arguments(path, given).values():
        default = "required" if argument.default is None else f"default: '{argument.default}'"
        console.print(Text.assemble((argument.name, "bold"), f"  {argument.description} ({default})"))
        if argument.choice:
            console.print(Text(f"    one of: {', '.join(choice.value for choice in argument.choice)}"))


def _described(process: Process) -> str:
    lines = [f"{process.name}: {' '.join([*process.command, *process.ros_arguments])}"]
    for source in process.parameters:
        text = source if isinstance(source, Path) else yaml.safe_dump(source, default_flow_style=True, width=1000).strip()
        lines.append(f"    {text}")
    if process.respawn:
        lines.append(f"    respawns after {process.respawn_delay_s} s")
    return "\n".join(lines)


def _supervise(launch: Launch, console: Console) -> int:
    colours = {process.name: _COLOURS[index % len(_COLOURS)] for index, process in enumerate(launch.processes)}

    def on_line(line: Line) -> None:
        if line.on_screen:
            level = re.search(r"\[(WARN|ERROR|FATAL)\]", line.text)
            label, style = (f"[{line.process}] ", colours[line.process]), _LEVELS[level[1]] if level else ""
            console.print(Text.assemble(label, (line.text, style)))

    with _stop_signals() as signals, Supervisor(launch.processes, on_line) as running:
        while running.alive and not running.shutdown_requested and not signals:
            for ended in running.poll():
                again = "; starting it again" if ended.respawns else ""
                console.print(Text(f"[{ended.process}] ended with code {ended.code}{again}", "red" if ended.code else ""))
            time.sleep(0.05)
        running.poll()
    return int(any(ended.code for ended in running.exits))


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, instead of what they would do."""
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
