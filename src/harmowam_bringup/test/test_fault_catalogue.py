"""The fault catalogue (docs/faults.md) over DDS: real arbiter, auditor and physics; every scenario in every variant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harmowam_bringup.faults.catalogue import SCENARIOS
from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.scenario import Scenario

pytestmark = pytest.mark.faults

# Those with a settable clock last: they need a graph of their own.
CASES = [
    pytest.param(kind, number, id=f"{kind.row}-{kind.name}" + (f"-{variant}" if variant else ""))
    for kind in sorted(SCENARIOS, key=lambda kind: kind.fake_clock)
    for number, variant in enumerate(kind().variants)
]


class Graphs:
    """The graph that is needed, started when it is; one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, ExitStack()
        self._running: tuple[bool, FaultGraph] | None = None

    def get(self, fake_clock: bool) -> FaultGraph:
        if self._running is None or self._running[0] is not fake_clock:
            self.close()
            folder = self._folder / f"clock_{fake_clock}"
            folder.mkdir(exist_ok=True)
            self._running = fake_clock, self._stack.enter_context(FaultGraph(folder, fake_clock))
        return self._running[1]

    def close(self) -> None:
        self._stack.close()
        self._running = None


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graphs]:
    running = Graphs(tmp_path_factory.mktemp("faults"))
    yield running
    running.close()


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_fault(graphs: Graphs, kind: type[Scenario], variant: int) -> None:
    """Reaction, reason, bound, and what the auditor says."""
    measured = kind().run(graphs.get(kind.fake_clock), variant)
    assert not measured.says, f"{measured.says}\n{measured.reaction}"
    assert measured.reaction_s is not None and 0 <= measured.reaction_s <= measured.bound_s
