"""Names of what is logged: entity paths and the timeline. One place, for the log and the blueprint."""

from __future__ import annotations

from harmowam_core.stages import Expert

TIMELINE = "time"
WORKSPACE = "cell/workspace"
GROUNDING = "cell/grounding"
IMAGINED = "imagination"
NEXT = f"{IMAGINED}/next"
FOR_NOW = f"{IMAGINED}/for_now"
CAME = f"{IMAGINED}/came"
GATE = "gate"
SCORE = "score"
DRIFT = "drift"
LATENCY = "latency"
TIMING = "timing"
SAID = "said"


def camera(name: str) -> str:
    """A camera's image and frustum."""
    return f"cameras/{name}"


def path(expert: Expert) -> str:
    """Where an expert wants the tools to go."""
    return f"cell/paths/{expert.value}"


def joint(name: str) -> str:
    """The transform of one joint."""
    return f"joints/{name}"
