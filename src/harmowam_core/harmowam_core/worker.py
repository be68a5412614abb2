"""A thread for slow work, so that the thread that listens stays quick.

rclpy's MultiThreadedExecutor would do the same, but rebuilds its wait set for every event and takes several times the processor time.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker(Generic[T]):
    """Works on the newest item it was given; what comes while it works replaces what waits. ``work`` must not raise."""

    def __init__(self, work: Callable[[T], None], name: str) -> None:
        self._work = work
        self._changed = Condition()
        self._waiting: list[T] = []
        self._ended = False
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def give(self, item: T) -> None:
        """Have it worked on soon, unless a newer one comes first."""
        with self._changed:
            self._waiting = [item]
            self._changed.notify()

    def end(self, timeout_s: float = 5.0) -> None:
        """Finish the item at hand, and no other."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    return
                item = self._waiting.pop()
            self._work(item)
