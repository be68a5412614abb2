"""ManagedNode: brings itself up, tells its health, refuses bad parameters, leaves nothing behind, ends cleanly."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from harmowam_msgs.action import ExecuteTask
from rclpy.action import ActionServer
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from harmowam_core import topics
from harmowam_core.lifecycle import ManagedNode, run
from harmowam_core.qos import COMMAND, SENSOR
from harmowam_core.testing import spin_once

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Sample(ManagedNode):
    """One of everything a node may create."""

    def __init__(self, name: str = "sample") -> None:
        self.calls: list[str] = []
        self.broken = ""
        super().__init__(name)

    def declare(self) -> None:
        self.rate_hz = self.parameter("rate_hz", 20.0, "How often to publish.", lower=1, upper=100)
        self.count = self.parameter("count", 3, "An integer.", lower=1, upper=9)
        self.mode = self.parameter("mode", "slow", "Manner.", choices=("slow", "fast"))
        self.fail = self.parameter("fail", False, "Fail to configure.", read_only=True)

    def note(self, hook: str) -> None:
        self.calls.append(hook)
        print(hook, flush=True)
        if self.broken == hook:
            raise RuntimeError(f"broken {hook}")

    def configure(self) -> None:
        self.publisher = self.create_lifecycle_publisher(String, "/sample", COMMAND)
        self.create_subscription(String, "/other", lambda _: None, SENSOR)
        self.create_service(Trigger, "/poke", lambda _, response: response)
        self.create_client(Trigger, "/elsewhere")
        ActionServer(self, ExecuteTask, "/act", lambda _: ExecuteTask.Result())
        if self.fail:
            raise FileNotFoundError("no weights at /nowhere")
        self.note("configure")

    def activate(self) -> None:
        self.create_timer(1 / self.rate_hz, self.tick)
        self.note("activate")

    def tick(self) -> None:
        self.health.event("tick")
        self.publisher.publish(String(data="tick"))

    def deactivate(self) -> None:
        self.note("deactivate")

    def cleanup(self) -> None:
        self.note("cleanup")


@pytest.fixture
def make_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sample]]:
    """Nodes on a graph of their own, given command-line arguments."""
    nodes: list[Sample] = []

    def make(*parameters: str) -> Sample:
        arguments = [part for parameter in parameters for part in ("-p", parameter)]
        rclpy.init(args=["--ros-args", *arguments] if arguments else [], domain_id=random.randint(1, 100))
        nodes.append(Sample())
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def spin_until(node: ManagedNode, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)
    executor.shutdown()


def entity_names(node: ManagedNode) -> list[str]:
    return sorted(
        [*(p.topic_name for p in node.publishers), *(s.topic_name for s in node.subscriptions), *(s.srv_name for s in node.services)]
    )


def test_brings_itself_up_and_reports(make_node: Callable[..., Sample]) -> None:
    node = make_node()
    heard: list[str] = []
    statuses: list[DiagnosticArray] = []
    node.create_subscription(String, "/sample", lambda message: heard.append(message.data), COMMAND)
    node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, statuses.append, COMMAND)
    spin_until(node, lambda: bool(statuses) and "tick rate (Hz)" in {v.key for v in statuses[-1].status[0].values})
    assert node.active and node.calls == ["configure", "activate"] and set(heard) == {"tick"}
    (status,) = statuses[-1].status
    assert (status.level, status.name, status.message) == (b"\0", "/sample", "ok")
    assert {v.key: v.value for v in status.values}["state"] == "active"


def test_walked_by_hand_it_leaves_nothing_behind(make_node: Callable[..., Sample]) -> None:
    node = make_node("autostart:=false")
    before, timers, waitables = entity_names(node), len(list(node.timers)), len(list(node.waitables))
    for _ in range(2):
        assert node.trigger_configure() == SUCCESS
        assert not node.active and entity_names(node) != before
        assert node.trigger_activate() == SUCCESS
        assert node.active
        assert node.trigger_deactivate() == SUCCESS
        assert len(list(node.timers)) == timers
        assert node.trigger_cleanup() == SUCCESS
        assert (entity_names(node), len(list(node.waitables)), len(list(node.clients))) == (before, waitables, 0)
    assert node.calls == ["configure", "activate", "deactivate", "cleanup"] * 2


def test_shutdown_from_active_undoes_all(make_node: Callable[..., Sample]) -> None:
    node = make_node("autostart:=false")
    node.trigger_configure()
    node.trigger_activate()
    assert node.trigger_shutdown() == SUCCESS
    assert node.calls == ["configure", "activate", "deactivate", "cleanup"]


@pytest.mark.parametrize("hook", ["configure", "activate"])
def test_a_hook_that_raises_fails_its_transition_and_can_be_tried_again(make_node: Callable[..., Sample], hook: str) -> None:
    node = make_node("autostart:=false")
    before, timers = entity_names(node), len(list(node.timers))
    node.broken = hook
    results = [node.trigger_configure()] if hook == "configure" else [node.trigger_configure(), node.trigger_activate()]
    assert results[-1] == FAILURE
    assert node.health.summary().message == f"{hook}: RuntimeError: broken {hook}"
    assert len(list(node.timers)) == timers
    if hook == "configure":
        assert entity_names(node) == before
    node.broken = ""
    assert (node.trigger_configure() if hook == "configure" else node.trigger_activate()) == SUCCESS
    assert node.health.summary().message == "ok"


def test_parameters_are_described_bounded_and_refused_when_wrong(make_node: Callable[..., Sample]) -> None:
    node = make_node("autostart:=false", "rate_hz:=50.0", "mode:=fast")
    assert (node.rate_hz, node.count, node.mode) == (50.0, 3, "fast")
    descriptor = node.describe_parameter("rate_hz")
    assert descriptor.description == "How often to publish."
    assert (descriptor.floating_point_range[0].from_value, descriptor.floating_point_range[0].to_value) == (1.0, 100.0)
    for name, value in (("rate_hz", 1000.0), ("count", 10), ("mode", "wild"), ("autostart", True), ("rate_hz", "fast")):
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful and result.reason, (name, value)
    assert (node.get_parameter("rate_hz").value, node.get_parameter("mode").value) == (50.0, "fast")
    assert node.set_parameters([Parameter("mode", value="slow")])[0].successful


def test_one_bound_alone_is_a_mistake(make_node: Callable[..., Sample]) -> None:
    with pytest.raises(ValueError, match="give both bounds or none"):
        make_node("autostart:=false").parameter("x", 1.0, "One bound.", lower=0)


# ---- whole processes -------------------------------------------------------------------------------------------------------


def start(*parameters: str, through: tuple[str, ...] = (), nice: int = 0, real_time: int = 0) -> subprocess.Popen[str]:
    arguments = [part for parameter in parameters for part in ("-p", parameter)]
    return subprocess.Popen(
        [*through, sys.executable, str(Path(__file__)), *(["--ros-args", *arguments] if arguments else [])],
        env={**os.environ, "ROS_DOMAIN_ID": str(random.randint(1, 100)), "NICE": str(nice), "REAL_TIME": str(real_time)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    with start() as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "activate":
                break
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "deactivate\ncleanup\n" in output


def test_a_node_that_cannot_come_up_retries_and_exits_with_an_error() -> None:
    with start("fail:=true", "autostart_attempts:=2") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.count("configure failed: FileNotFoundError: no weights at /nowhere") == 2
    assert "giving up" in output


@pytest.mark.parametrize(
    ("parameter", "complaint"),
    [("rate_hz:=1000.0", "Max: 100.0"), ("mode:=wild", "expected one of ['slow', 'fast']"), ("count:=many", "INTEGER")],
)
def test_a_bad_parameter_is_refused_at_start(parameter: str, complaint: str) -> None:
    with start(parameter) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint in output and "Traceback" not in output


@pytest.mark.parametrize("through", [(), ("setpriv", "--bounding-set=-sys_nice")], ids=["as permitted", "not permitted"])
def test_real_time_priority_is_taken_or_missed_aloud(through: tuple[str, ...]) -> None:
    if through and os.getuid():
        pytest.skip("only root has capabilities to take away")
    with start(through=through, real_time=7) as process:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "activate\n"))
        policy = os.sched_getscheduler(process.pid)
        locked_kb = int(re.search(r"VmLck:\s*(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])
        process.terminate()
    missed = any("this user may not go before others" in line for line in lines)
    assert policy == (os.SCHED_OTHER if missed else os.SCHED_FIFO)
    assert missed or not through
    may_lock = subprocess.run([sys.executable, "-c", "import ctypes, sys; sys.exit(ctypes.CDLL(None).mlockall(7))"]).returncode == 0
    assert (locked_kb > 10_000) == (may_lock and not missed), "memory goes with the priority"


@pytest.mark.parametrize("through", [(), ("setpriv", "--bounding-set=-sys_nice")], ids=["as permitted", "not permitted"])
def test_a_process_that_stands_back_renews_its_leases_ahead_where_that_is_permitted(through: tuple[str, ...]) -> None:
    if through and os.getuid():
        pytest.skip("only root has capabilities to take away")
    with start(through=through, nice=5) as process:
        assert process.stdout is not None
        list(iter(process.stdout.readline, "activate\n"))
        tasks = {int(task.name): (task / "comm").read_text() for task in Path(f"/proc/{process.pid}/task").iterdir()}
        policies = {os.sched_getscheduler(task) for task, name in tasks.items() if name.startswith("dds.ev")}
        others = {os.sched_getscheduler(task) for task, name in tasks.items() if not name.startswith("dds.ev")}
        process.terminate()
    ask = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
    may = subprocess.run([*through, sys.executable, "-c", ask], stderr=subprocess.DEVNULL).returncode == 0
    assert policies == {os.SCHED_FIFO if may else os.SCHED_OTHER} and (may or through or os.getuid())
    assert others == {os.SCHED_OTHER}


if __name__ == "__main__":
    run(Sample, nice=int(os.environ.get("NICE", "0")), real_time=int(os.environ.get("REAL_TIME", "0")))


class Raising:
    """Stands in for an executor whose round ends with an error."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def spin_once(self, timeout_sec: float) -> None:
        self.act()


def test_a_round_survives_what_was_destroyed_meanwhile_and_nothing_else() -> None:
    spin_once(Raising(lambda: rclpy.node.Node.get_name(None)))  # an AttributeError of rclpy's own
    with pytest.raises(AttributeError, match="mine"):
        spin_once(Raising(lambda: "".mine))
