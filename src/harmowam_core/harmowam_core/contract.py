"""The contract: one YAML file says how topics become what models read (observations) and what they are taught (actions).

Live nodes and the conversion of bags both read it, so that a model is taught what it will see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints, model_validator

from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.observation import ObservationAssembler
from harmowam_core.presets import Preset, Strict

CONTRACTS_DIR = Path(__file__).parent / "config" / "contracts"

Topic = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z_]\w*(/[A-Za-z_]\w*)*$")]


class ContractError(ValueError):
    """A contract is unknown, invalid or does not fit the cell; the message names the file and the field."""


class Source(Strict):
    """A topic that something is read from."""

    topic: Topic


class ImageSource(Source):
    """A camera's images; ``size`` is the preset's field that says how large the models see them."""

    size: Literal["scene_size", "wrist_size"]


class JointsSource(Source):
    """Measured joints; ``names`` maps the cell's joint names to those of recordings where they differ (live, the arbiter refuses that)."""

    names: Mapping[str, str] = Field(default_factory=dict)


class ObservationContract(Strict):
    """What an observation is made of."""

    max_skew_s: float = Field(gt=0)
    images: Mapping[str, ImageSource] = Field(min_length=1)
    joints: JointsSource
    instruction: Source


class ActionContract(Strict):
    """What counts as executed: measured poses, and commanded openings (``trajectory_msgs/JointTrajectory``)."""

    poses: Source
    openings: Source


class Contract(Strict):
    """See config/contracts/franka_dual.yaml."""

    name: str
    cell: str
    period_s: float = Field(gt=0)
    observation: ObservationContract
    action: ActionContract

    @model_validator(mode="after")
    def _topics_differ(self) -> Contract:
        topics = [*(source.topic for source in self.observation.images.values()), self.observation.joints.topic]
        topics.append(self.observation.instruction.topic)
        if len(set(topics)) != len(topics):
            raise ValueError(f"observation names a topic twice: {sorted(topics)}")
        if self.action.poses.topic != self.observation.joints.topic:
            raise ValueError(f"action.poses.topic is '{self.action.poses.topic}'; poses are measured on '{self.observation.joints.topic}'")
        return self

    @property
    def observation_topics(self) -> tuple[str, ...]:
        """Topics that observations are made from."""
        observation = self.observation
        return (*(source.topic for source in observation.images.values()), observation.joints.topic, observation.instruction.topic)

    def sizes(self, preset: Preset, cameras: Iterable[str] | None = None) -> dict[str, tuple[int, int]]:
        """(height, width) the models see, of these cameras (None: of all); ContractError names a camera that has no topic."""
        images = self.observation.images
        wanted = tuple(images if cameras is None else cameras)
        if missing := [camera for camera in wanted if camera not in images]:
            raise ContractError(f"contract '{self.name}' has no topic for cameras {missing}; it has {sorted(images)}")
        return {camera: getattr(preset, images[camera].size) for camera in wanted}

    def assembler(self, preset: Preset, cell: Cell, kinematics: Kinematics, cameras: Iterable[str] | None = None) -> ObservationAssembler:
        """What joins images and joint states to observations; ContractError where contract, preset and cell do not fit."""
        if self.cell != cell.name:
            raise ContractError(f"contract '{self.name}' is for cell '{self.cell}', the preset's cell is '{cell.name}'")
        if abs(self.period_s - preset.frame_period_s) > 1e-9:
            raise ContractError(
                f"contract '{self.name}' has a period of {self.period_s} s, preset '{preset.name}' of {preset.frame_period_s} s"
            )
        observation = self.observation
        known = cell.arm_joint_names + cell.finger_joint_names
        if unknown := sorted(set(observation.joints.names) - set(known)):
            raise ContractError(f"contract '{self.name}' renames joints {unknown}, which cell '{cell.name}' has not; it has {list(known)}")
        return ObservationAssembler(
            cell,
            kinematics,
            self.sizes(preset, cameras),
            max_skew_s=observation.max_skew_s,
            joint_names=[observation.joints.names.get(name, name) for name in known],
        )


def load_contract(name_or_path: str | Path = "franka_dual") -> Contract:
    """Read and validate a contract by name (config/contracts) or path; ContractError names the file and the field."""
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = CONTRACTS_DIR / f"{name_or_path}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in CONTRACTS_DIR.glob("*.yaml"))
        raise ContractError(f"no contract '{name_or_path}'; known: {known}; give the path of one of your own, made after {known[0]}.yaml")
    try:
        return Contract.model_validate(yaml.safe_load(path.read_text()))
    except (ValueError, yaml.YAMLError) as error:
        raise ContractError(f"contract {path}: {error}") from error


def contract_for(preset: Preset, name_or_path: str | Path = "") -> Contract:
    """The contract of this name or path; without one, that of the preset's cell."""
    return load_contract(name_or_path or preset.load_cell().name)
