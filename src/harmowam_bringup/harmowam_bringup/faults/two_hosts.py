"""Row 16 with two hosts: the models in a network namespace of their own, and a link that loses, delays, or is cut.

``python -m harmowam_bringup.faults.two_hosts FOLDER cut|netem``, to be started in fresh user, network and mount namespaces
(``NAMESPACES``), which take everything that this sets up away with them. Prints JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from harmowam_bringup.faults.fault_graph import STAND_INS, FaultGraph
from harmowam_bringup.faults.models import MODELS_MAX_AGE_S, last_chunk_ns
from harmowam_core.status import Status

NAMESPACES = ("unshare", "--map-root-user", "--net", "--mount")
MODELS, ROBOT_LINK, MODELS_LINK = "models", "robot0", "models0"
NETEM = ("delay", "10ms", "3ms", "loss", "0.5%")
PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"  # which would keep each to its own loopback
WATCHED_S = 10.0
CUT_S = 2.0
SET_UP = f"""
mount -t tmpfs tmpfs /run
ip link set lo up
ip netns add {MODELS}
ip link add {ROBOT_LINK} type veth peer name {MODELS_LINK}
ip link set {MODELS_LINK} netns {MODELS}
ip addr add 10.77.0.1/24 dev {ROBOT_LINK}
ip link set {ROBOT_LINK} multicast on up
ip netns exec {MODELS} ip addr add 10.77.0.2/24 dev {MODELS_LINK}
ip netns exec {MODELS} ip link set {MODELS_LINK} multicast on up
ip netns exec {MODELS} ip link set lo up
"""
ADD_NETEM = f"""
tc qdisc add dev {ROBOT_LINK} root netem {" ".join(NETEM)}
ip netns exec {MODELS} tc qdisc add dev {MODELS_LINK} root netem {" ".join(NETEM)}
"""
BETWEEN_HOSTS = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
"""Not by shared memory, which the two would have as they are one machine after all."""


def why_not(script: str = SET_UP) -> str:
    """Why this machine cannot play two hosts; empty if it can."""
    try:
        run = subprocess.run([*NAMESPACES, "sh", "-ec", script], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if run.returncode == 0 else run.stderr.strip() or f"exit code {run.returncode}"


class TwoHosts(FaultGraph):
    """The graph with the models on the other host."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, change=_apart)
        os.environ.update(BETWEEN_HOSTS)


def _apart(launch: Any) -> Any:
    there = ("ip", "netns", "exec", MODELS)
    return replace(
        launch,
        processes=[
            replace(
                process,
                command=(*there, *process.command) if process.node in STAND_INS else process.command,
                environment={name: value for name, value in process.environment.items() if name != PROFILES} | BETWEEN_HOSTS,
            )
            for process in launch.processes
        ],
    )


def cut(graph: FaultGraph) -> dict[str, Any]:
    """Pull the plug for CUT_S: how long until the arm holds, whether anything old was followed, and whether it goes on by itself."""
    at_ns = time.monotonic_ns()
    subprocess.run(["ip", "link", "set", ROBOT_LINK, "down"], check=True)
    held = graph.first_state(at_ns, lambda state: state.safe, MODELS_MAX_AGE_S + 2.0)
    if held is None:
        return {"held": None}
    graph.rest(CUT_S)
    meanwhile = graph.observer.states(held.at_ns)
    subprocess.run(["ip", "link", "set", ROBOT_LINK, "up"], check=True)
    back = graph.first_state(time.monotonic_ns(), lambda state: state.moving, 15.0)
    return {
        "held": f"{held.status.name} {held.reason.name}: {held.text}",
        "after_cut_s": (held.at_ns - at_ns) * 1e-9,
        "after_last_observation_s": (held.at_ns - last_chunk_ns(graph, held.at_ns)) * 1e-9,
        "moved_meanwhile": any(state.moving for state in meanwhile),
        "latched": any(state.status is Status.LATCHED for state in graph.observer.states(at_ns)),
        "goes_on": back is not None,
    }


def watch(graph: FaultGraph) -> dict[str, Any]:
    """What the arm does over a bad link."""
    at_ns = time.monotonic_ns()
    graph.rest(WATCHED_S)
    states = Counter(state.status.name for state in graph.observer.states(at_ns))
    return {
        "states": dict(states),
        "latched": states["LATCHED"] > 0,
        "moving_share": (states["EXECUTING"] + states["SLOWED"]) / states.total(),
    }


def main() -> None:
    """Set the hosts up, run one of the two, print what came of it."""
    folder, what = Path(sys.argv[1]), sys.argv[2]
    os.environ.update(BETWEEN_HOSTS)
    subprocess.run(["sh", "-ec", SET_UP + (ADD_NETEM if what == "netem" else "")], check=True)
    with TwoHosts(folder) as graph:
        graph.ready()
        result = cut(graph) if what == "cut" else watch(graph)
        graph.rest(0.5)
        result["auditor"] = graph.observer.verdict()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
