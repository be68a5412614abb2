"""Drift with the weights that ship, in the simulated cell: grasping is normal; a thing that jumps or a covered camera is not."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from harmowam_core.presets import load_preset
from harmowam_core.stages import Observation
from harmowam_sim.environments import sample_episode
from harmowam_training.calibrate_drift import FIRST_SEED, REPLAN_TICKS, ListeningWorldModel
from harmowam_training.lockstep import START_NS, Episode, LockStep
from harmowam_training.policies import load_policy
from harmowam_world_model.drift import DriftMonitor, load_calibration

DISTURBED_S, NOTICED_S = 1.2, 0.45
SEED = FIRST_SEED + 1000  # not one of the calibration's
NOTHING, JUMP, COVER = range(3)


class Disturbed(LockStep):
    """Episode one is left alone; in the second, what lies furthest from the hand jumps; in the third, a quarter of the view is hidden."""

    def start(self, spec):
        episode = super().start(spec)
        self.episodes = [*getattr(self, "episodes", []), episode]
        return episode

    def tick(self, episode: Episode, tick: int, now_ns: int) -> None:
        if self.episodes.index(episode) == JUMP and now_ns == START_NS + DISTURBED_S * 1e9:
            sim = episode.live.sim
            loose = [thing.name for thing in sim.scene.objects if not thing.fixed]
            hand = sim.tcp_pose()[0][0]
            furthest = max(loose, key=lambda name: float(np.linalg.norm(sim.object_pose(name)[0] - hand)))
            sim.data.qpos[sim.model.joint(furthest).qposadr[0] + 1] += 0.08
            mujoco.mj_forward(sim.model, sim.data)
        super().tick(episode, tick, now_ns)

    def observe(self, episode: Episode, now_ns: int) -> Observation:
        observation = super().observe(episode, now_ns)
        if self.episodes.index(episode) == COVER and now_ns > START_NS + DISTURBED_S * 1e9:
            scene = observation.image("scene").copy()
            scene[32:, 40:] = (60, 45, 40)
            observation = replace(observation, images={**observation.images, "scene": scene})
        return observation


@pytest.fixture(scope="module")
def drifts() -> list[list[tuple[float, float]]]:
    """(time s, score) of each of the three episodes."""
    policy = load_policy("harmowam", "compact")
    listening = ListeningWorldModel(policy.policy.world_model)
    lockstep = Disturbed(policy.preset, replace(policy.policy, world_model=listening))
    lockstep.replan_ticks = REPLAN_TICKS
    episodes = lockstep.run([sample_episode("pick_fruit", "in_domain", SEED, obstacle=False)] * 3, 5.0)
    result = []
    for episode in episodes:
        monitor = DriftMonitor(load_calibration(load_preset().weights_dir()).scale)
        found = [monitor.update(imagination) for imagination in listening.heard[id(episode.memory)]]
        result.append([((drift.stamp_ns - START_NS) / 1e9, drift.score) for drift in found if drift is not None])
    return result


def test_reaching_and_grasping_hides_things_and_is_normal(drifts) -> None:
    scores = np.array([score for _, score in drifts[NOTHING]])
    assert len(scores) > 15 and np.median(scores) < 0.7 and (scores > 1).mean() < 0.1 and scores.max() < 2


@pytest.mark.parametrize("kind", [JUMP, COVER])
def test_what_was_not_imagined_is_noticed_at_once_and_only_then(drifts, kind: int) -> None:
    before = [score for time_s, score in drifts[kind] if time_s <= DISTURBED_S]
    after = [score for time_s, score in drifts[kind] if DISTURBED_S < time_s <= DISTURBED_S + NOTICED_S]
    assert max(before) < 1 < max(after) and max(after) > 2 * max(before)
