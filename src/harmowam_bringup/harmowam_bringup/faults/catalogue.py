"""All scenarios, in the order of the catalogue's rows."""

from __future__ import annotations

from harmowam_bringup.faults import alone, arm, host, models, pairs, senses
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
    alone.QosMismatch,
    host.ClockJumps,
    host.CpuStarved,
    models.ModelRaises,
    host.InvalidParameter,
    alone.BadCheckpoint,
    host.DiskFull,
    pairs.TwoAtOnce,
    senses.GateOscillates,
)
