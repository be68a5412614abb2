"""Closed-loop episodes in lock-step: the graph's own objects and the simulated cell, many episodes as one batch.

Time is simulated: a chunk reaches the arbiter ``LATENCY_TICKS`` after its observation, as measured in the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harmowam_core.images import prepare_image
from harmowam_core.kinematics import Kinematics
from harmowam_core.presets import CompactPreset
from harmowam_core.stages import ActionChunk, Observation, StageError
from harmowam_core.status import Reason
from harmowam_experts.protocol import ActionExpert
from harmowam_gate.arbiter import Arbiter, ArbiterSettings
from harmowam_gate.gate_network import Gate
from harmowam_sim.environments import EpisodeSpec, UnusableSeedError
from harmowam_sim.live import LiveCell
from harmowam_sim.servo import UnreachableError
from harmowam_sim.tasks import Score, Scorer
from harmowam_world_model.protocol import GroundingMemory, WorldModel

TICK_S = 0.05
REPLAN_TICKS = 5  # 4 imaginations a second
LATENCY_TICKS = 4
SCORE_TICKS = 2
LATCHED_S = 1.0
"""For what the arm held to come to rest: it is held until an operator resets it, and none is here."""
START_NS = 1_000_000_000
SETTLE_S = 0.45  # that much physics comes before the first tick's, in which things come to rest


@dataclass(frozen=True)
class Policy:
    """What drives the arms; ``selector`` is how the arbiter chooses between the experts."""

    name: str
    world_model: WorldModel
    predictive: ActionExpert
    reactive: ActionExpert
    gate: Gate
    selector: str

    @property
    def experts(self) -> tuple[ActionExpert, ...]:
        """Those whose chunks the selector can ask for."""
        match self.selector:
            case "predictive":
                return (self.predictive,)
            case "reactive":
                return (self.reactive,)
        return (self.predictive, self.reactive)


@dataclass
class Episode:
    """One running episode. ``due`` holds (tick, chunks, gate score, stamp) that the latency still keeps from the arbiter."""

    spec: EpisodeSpec
    live: LiveCell
    arbiter: Arbiter
    scorer: Scorer
    score: Score
    memory: GroundingMemory = field(default_factory=GroundingMemory)
    due: list[tuple[int, list[ActionChunk], float, int]] = field(default_factory=list)
    duration_s: float = 0.0
    latched_s: float = 0.0
    chunks: Counter[Reason] = field(default_factory=Counter)
    """How many came, by why they were refused; NONE: taken."""
    over: bool = False


class LockStep:
    """Runs batches of episodes under one policy."""

    def __init__(self, preset: CompactPreset, policy: Policy, *, seed: int = 0) -> None:
        self.preset, self.policy, self.seed = preset, policy, seed
        self.profile = preset.load_cell()
        self.kinematics = Kinematics(self.profile)
        self.settings = ArbiterSettings(selector=policy.selector)
        self.replan_ticks = REPLAN_TICKS

    def observe(self, episode: Episode, now_ns: int) -> Observation:
        """Images, joints and the instruction; nothing else."""
        state = episode.live.joint_state(now_ns)
        arms = len(self.profile.arm_joint_names)
        position, orientation = self.kinematics.forward(state.positions[:arms])
        images = {
            camera.name: prepare_image(
                episode.live.sim.render(camera.name), self.preset.wrist_size if camera.mounted_on else self.preset.scene_size
            )
            for camera in self.profile.cameras
        }
        opening = np.clip(state.positions[arms:] / self.profile.finger_travel, 0, 1)
        return Observation(
            now_ns,
            images,
            position.astype(np.float32),
            orientation.astype(np.float32),
            opening.astype(np.float32),
            episode.spec.instruction,
        )

    def plan(self, episodes: Sequence[Episode], now_ns: int, tick: int) -> None:
        """Observe, imagine, act and score; the results are due after the latency."""
        observations = [self.observe(e, now_ns) for e in episodes]
        imaginations = self.policy.world_model.imagine(observations, [e.memory for e in episodes], self.seed)
        chunks = zip(*(expert.act(observations, imaginations) for expert in self.policy.experts), strict=True)
        scores = self.policy.gate.score(observations)
        for episode, made, score in zip(episodes, chunks, scores, strict=True):
            episode.due.append((tick + LATENCY_TICKS, list(made), score, now_ns))

    def start(self, spec: EpisodeSpec) -> Episode:
        """A cell at its start, the task given."""
        live = LiveCell(spec, self.profile)
        live.start(START_NS / 1e9 - SETTLE_S)
        arbiter = Arbiter(self.profile, self.kinematics, self.settings)
        scorer = Scorer(spec, live.sim)
        arbiter.on_joint_state(live.joint_state(START_NS))
        arbiter.start_task(spec.instruction, START_NS)
        return Episode(spec, live, arbiter, scorer, scorer.score())

    def tick(self, episode: Episode, tick: int, now_ns: int) -> None:
        """One arbiter tick and the physics until the next."""
        while episode.due and episode.due[0][0] <= tick:
            _, chunks, score, stamp_ns = episode.due.pop(0)
            episode.arbiter.on_gate_score(score, stamp_ns)
            for chunk in chunks:
                episode.chunks[episode.arbiter.on_chunk(chunk, now_ns).reason] += 1
        try:
            episode.arbiter.on_joint_state(episode.live.joint_state(now_ns))
        except StageError as error:  # as the node does
            episode.arbiter.on_bad_joint_state(error)
        output = episode.arbiter.tick(now_ns)
        drivers = ((episode.live.arm_driver, output.arm_trajectory), (episode.live.gripper_driver, output.gripper_trajectory))
        for driver, trajectory in drivers:
            if trajectory is not None:
                driver.accept(trajectory, now_ns / 1e9)
        episode.live.advance(now_ns / 1e9 + TICK_S)
        episode.duration_s += TICK_S
        episode.latched_s += TICK_S if episode.arbiter.latched else 0.0
        if tick % SCORE_TICKS == 0:
            episode.score = episode.scorer.update()
            episode.over = episode.score.success or episode.score.failure is not None or episode.latched_s > LATCHED_S

    def run(self, specs: Sequence[EpisodeSpec], time_limit_s: float, unusable: dict[int, str] | None = None) -> list[Episode]:
        """All episodes side by side until each is over or out of time; their cells are closed. Seeds that cannot be brought to where their
        episodes start are left out and noted in ``unusable`` with the reason; without it, they raise.
        """
        episodes: list[Episode] = []
        try:
            for spec in specs:
                try:
                    episodes.append(self.start(spec))
                except (UnusableSeedError, UnreachableError) as error:
                    if unusable is None:
                        raise
                    unusable[spec.seed] = str(error)
            for tick in range(round(time_limit_s / TICK_S)):
                running = [e for e in episodes if not e.over]
                if not running:
                    break
                now_ns = START_NS + round(tick * TICK_S * 1e9)
                if tick % self.replan_ticks == 0:
                    self.plan(running, now_ns, tick)
                for episode in running:
                    self.tick(episode, tick, now_ns)
        finally:
            for episode in episodes:
                episode.live.close()
        return episodes
