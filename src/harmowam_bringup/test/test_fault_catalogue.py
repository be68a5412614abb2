"""The fault catalogue (docs/faults.md) over DDS: real arbiter, auditor and physics; every scenario in every variant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harmowam_bringup.faults.catalogue import SCENARIOS
from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.scenario import Scenario

CASES = [
    pytest.param(kind, number, id=f"{kind.row}-{kind.name}" + (f"-{variant}" if variant else ""))
    for kind in SCENARIOS
    for number, variant in enumerate(kind().variants)
]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultGraph]:
    folder: Path = tmp_path_factory.mktemp("faults")
    with FaultGraph(folder) as running:
        yield running


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_fault(graph: FaultGraph, kind: type[Scenario], variant: int) -> None:
    """Reaction, reason, bound, and what the auditor says."""
    measured = kind().run(graph, variant)
    assert not measured.says, f"{measured.says}\n{measured.reaction}"
    assert measured.reaction_s is not None and 0 <= measured.reaction_s <= measured.bound_s
