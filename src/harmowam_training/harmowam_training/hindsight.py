"""Grounding labels in hindsight: where the hand later closed on something, and where it released it.

Nothing but proprioception, gripper commands and the camera's calibration is needed, so a real robot's logs give the same labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmowam_core.scene_view import SceneView
from harmowam_core.stages import HELD_OPENING
from harmowam_gate.labels import gripper_events
from harmowam_training.dataset import Corpus


@dataclass(frozen=True)
class GroundingLabels:
    """points (N, 2, 3) m: tool centre point at the grasp (later: of the carried thing) and at the release; known (N, 2)."""

    points: NDArray[np.float32]
    known: NDArray[np.bool_]

    def pixels(self, view: SceneView) -> NDArray[np.float32]:
        """(N, 2, 2) in the scene image."""
        return view.project(self.points).astype(np.float32)


def grasp_and_release(commanded: NDArray[np.float32], opening: NDArray[np.float32]) -> tuple[int, int] | None:
    """Frames at which one gripper closed on a thing and let it go, from its commanded and measured openings (T,)."""
    events = gripper_events(commanded)
    if commanded[0] < 0.5:  # the recording starts with the hand closed
        events = np.concatenate([[0], events])
    for closing, release in zip(events[:-1], events[1:], strict=True):
        if commanded[closing] < 0.5 and release - closing > 5 and opening[release - 1] > HELD_OPENING[0]:
            return int(closing), int(release)
    return None


def grounding_labels(corpus: Corpus) -> GroundingLabels:
    """Labels of every frame; rollouts without a completed grasp and release have none."""
    points = np.zeros((len(corpus), 2, 3), np.float32)
    known = np.zeros((len(corpus), 2), bool)
    for first, last in corpus.bounds():
        span = slice(first, last + 1)
        for arm in range(corpus.position.shape[1]):
            found = grasp_and_release(corpus.commanded[span, arm], corpus.opening[span, arm])
            if found is None:
                continue
            closing, release = first + found[0], first + found[1]
            place = corpus.position[span, arm].copy()
            held = np.clip(np.arange(first, last + 1), closing, release) - first
            points[span, 0] = place[held]  # before the grasp where it will happen, then with the hand, then where it was left
            points[span, 1] = corpus.position[release, arm]
            known[span] = True
    return GroundingLabels(points, known)
