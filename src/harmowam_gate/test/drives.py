"""Ways of the tool, and chunks along them that come late, noisy or not at all."""

from __future__ import annotations

import numpy as np

from harmowam_core.stages import ActionChunk, Expert
from harmowam_core.status import Status

START_NS = 1_700_000_000_000_000_000
HOME = np.array([0.40, 0.12, 0.30])
REACTIVE, PREDICTIVE = Expert.REACTIVE, Expert.PREDICTIVE
MOVING = (Status.EXECUTING, Status.SLOWED)


def still(t):
    return HOME


def circle(t):
    """0.2 m/s along a circle of 0.1 m, speeding up and sinking in the first second."""
    way = 0.2 * (t - 0.5) if t > 1 else 0.1 * max(t, 0) ** 2
    angle = way / 0.1
    return HOME + np.array([0.1 * np.sin(angle), 0.1 * (1 - np.cos(angle)), -0.03 * np.sin(angle / 2)])


def drive(rig, ticks, tool, *, score=None, sources=(PREDICTIVE, REACTIVE), period=5, latency=4, noise_m=0.0, seed=0, gripper=1.0):
    """Chunks every ``period`` ticks that arrive ``latency`` ticks after their observation."""
    random, due = np.random.default_rng(seed), []
    for tick in range(ticks):
        if tick % period == 0:
            for source in sources:
                chunk = rig.chunk(source, tool, gripper=gripper)
                noise = random.normal(0, noise_m, (12, 2, 3)) + random.normal(0, noise_m, (1, 2, 3))
                noisy = (chunk.positions + noise).astype(np.float32)
                due.append((tick + latency, ActionChunk(**{**chunk.__dict__, "positions": noisy}), rig.now_ns))
        while due and due[0][0] <= tick:
            _, chunk, stamp_ns = due.pop(0)
            rig.arbiter.on_chunk(chunk, rig.now_ns)
            if score is not None:
                rig.arbiter.on_gate_score(score(tick) if callable(score) else score, stamp_ns)
        rig.tick()
    return rig
