"""All scenarios, in the order of the catalogue's rows."""

from __future__ import annotations

from harmowam_bringup.faults import arm, host, models, pairs, senses
from harmowam_bringup.faults.scenario import Scenario

SCENARIOS: tuple[type[Scenario], ...] = (
    models.ExpertKilled,
    models.ExpertFrozen,
    models.WorldModelLost,
    models.NotFinite,
    models.NotFiniteThrice,
    models.Garbage,
    models.Malformed,
    models.OldChunk,
    senses.CameraOff,
    senses.CameraStuck,
    senses.JointStatesLost,
    senses.JointStatesNotFinite,
    arm.ArmStuck,
    arm.ArbiterKilled,
    arm.ArbiterFrozen,
    arm.DriverRestarts,
    arm.SecondPublisher,
    senses.LinkLost,
    senses.LinkRepeats,
    host.CpuStarved,
    models.ModelRaises,
    host.InvalidParameter,
    pairs.TwoAtOnce,
)
