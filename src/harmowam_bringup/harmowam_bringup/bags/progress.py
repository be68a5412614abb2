"""A progress bar for what reads a recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from harmowam_bringup.bags.rows import Progress

STEP = 0.01


@contextmanager
def following(console: Console, what: str) -> Iterator[Progress]:
    """Shows the share that is done; updated for every hundredth of it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, shown = bar.add_task(what, total=1.0), 0.0

        def show(share: float) -> None:
            nonlocal shown
            if share - shown >= STEP:
                shown = share
                bar.update(task, completed=share)

        yield show
