"""Renders a logged episode again, at any size, after the event."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell
from harmowam_sim.cell import SimCell
from harmowam_sim.environments import EpisodeSpec, sample_episode
from harmowam_sim.state_log import StateLog, StateLogError

SUPERSAMPLING = 2  # rendered larger and averaged, for smooth edges


def replay_frames(
    log: StateLog, camera: str, size: tuple[int, int], *, spec: EpisodeSpec | None = None, cell: Cell | None = None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (stamp_ns, (H, W, 3) uint8 RGB) of every logged moment; ``size`` = (height, width).

    ``spec``: the episode, by default the one that the log names. StateLogError if it is another one's log.
    """
    spec = spec or sample_episode(log.task, log.environment, log.seed)
    height, width = size
    with SimCell(spec.scene, cell, start_arm_positions=spec.start_arm_positions) as sim:
        for stamp_ns, qpos in zip(log.stamps_ns, log.qpos, strict=True):
            if qpos.shape != sim.data.qpos.shape:
                raise StateLogError(f"the log holds states of {len(qpos)} numbers, this episode's have {len(sim.data.qpos)}")
            sim.show(qpos)
            large = sim.render(camera, (height * SUPERSAMPLING, width * SUPERSAMPLING))
            yield stamp_ns, np.asarray(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
