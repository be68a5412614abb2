"""Names of the topics, services and the action of the graph (docs/architecture.md); the controllers' are in the cell profile."""

from __future__ import annotations

from harmowam_core.stages import Expert

JOINT_STATES = "/joint_states"
DIAGNOSTICS = "/diagnostics"
TASK = "/harmowam/task"
IMAGINATION = "/harmowam/world_model/imagination"
PREVIEW = "/harmowam/world_model/preview"
GATE_STATE = "/harmowam/gate/state"
MARKERS = "/harmowam/markers"
AUDITOR_VERDICT = "/harmowam/auditor/verdict"
EXECUTE_TASK = "/harmowam/execute_task"  # action
FOLLOW_PATH = "/harmowam/follow_path"  # action of the arbiter
MOVE_TO = "/harmowam/move_to"  # action of the planner
DRIFT = "/harmowam/world_model/drift"
HOLD = "/harmowam/hold"  # service
RESET = "/harmowam/reset"  # service
SET_FAULT = "/harmowam/set_fault"  # service of the relay, which runs in drills alone
RELAY_NODE = "relay"
RELAY_PREFIX = "/relay"


def camera_image(camera: str) -> str:
    """Topic of a camera's colour images."""
    return f"/camera/{camera}/color/image_raw"


def camera_info(camera: str) -> str:
    """Topic of a camera's calibration."""
    return f"/camera/{camera}/color/camera_info"


def camera_depth(camera: str) -> str:
    """Topic of a camera's depth, aligned to its colour images."""
    return f"/camera/{camera}/aligned_depth_to_color/image_raw"


def camera_depth_info(camera: str) -> str:
    """Topic of the calibration that belongs to a camera's aligned depth."""
    return f"/camera/{camera}/aligned_depth_to_color/camera_info"


def chunk(expert: Expert) -> str:
    """Topic of an expert's action chunks."""
    return f"/harmowam/{expert.value}_expert/chunk"


def relayed(topic: str) -> str:
    """Where the producer of a topic publishes when the relay stands between."""
    return RELAY_PREFIX + topic
