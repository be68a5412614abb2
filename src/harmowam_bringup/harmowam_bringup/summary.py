"""summary.json of a run, and where results are put."""

from __future__ import annotations

import os
from bisect import bisect_right
from datetime import datetime
from pathlib import Path
from typing import Any

from harmowam_bringup.auditor import audit
from harmowam_bringup.recording import Recording, latencies_ms, percentiles, phases, rates, real_time_factor, slower_expert
from harmowam_core.cell import Cell


def summarise_run(recording: Recording, cell: Cell, instruction: str, outcome: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """All figures of a recorded run.

    outcome: how the arbiter saw it ({"name", "why"}); run: what describes the run (task, environment, seed, started, commit,
    config). ``success`` and ``score`` are the simulator's, None and False without its scorer.
    """
    last = recording.scores[-1].value if recording.scores else {}
    arm_topic = cell.controllers.arm_topic
    return {
        "success": bool(last.get("success", False)),
        "score": last.get("score"),
        "stages": last.get("stages", {}),
        "failure": last.get("failure"),
        "instruction": instruction,
        **run,
        "outcome": outcome,
        "duration_s": round(recording.duration_s, 3),
        "phases": phases(recording),
        "rates": {**rates(recording, arm_topic), "slower_expert": slower_expert(recording).value},
        "real_time_factor": real_time_factor(recording),
        "latencies_ms": {name: percentiles(values) for name, values in latencies_ms(recording, arm_topic).items()},
        "auditor": {**audited(recording, cell), "live": recording.live_verdict},
        "malformed_messages": len(recording.malformed),
    }


def audited(recording: Recording, cell: Cell) -> dict[str, Any]:
    """The auditor's verdict on all recorded trajectories."""

    def measured(time_ns: int) -> dict[str, float] | None:
        index = bisect_right(recording.joint_states, time_ns, key=lambda item: item.received_ns) - 1
        if index < 0:
            return None
        state = recording.joint_states[index].value
        return dict(zip(state.names, state.positions, strict=True))

    published = [
        (topic, item.published_ns or item.received_ns, item.value) for topic, items in recording.trajectories.items() for item in items
    ]
    return audit(cell, sorted(published, key=lambda item: item[1]), measured).to_json()


def new_results_dir(root: Path) -> Path:
    """``root/<timestamp>``, made; ``root/latest`` points to it."""
    root.mkdir(parents=True, exist_ok=True)
    folder = root / datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    folder.mkdir()
    link = root / f".latest-{os.getpid()}"
    link.symlink_to(folder.name)
    link.replace(root / "latest")
    return folder
