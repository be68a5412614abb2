"""The base of every node: a lifecycle node that declares parameters, brings itself up, reports its health and ends cleanly.

A node subclasses ManagedNode and fills in some of ``declare``, ``configure``, ``activate``, ``deactivate``, ``cleanup``;
its main is ``run(TheNode)``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.action import ActionClient, ActionServer
from rclpy.client import Client
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.experimental import EventsExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from harmowam_core import topics
from harmowam_core.health import Health
from harmowam_core.qos import COMMAND
from harmowam_core.stamp_clock import JUMP_NS, TOLD_JUMP_NS, StampClock

RETRY_PERIOD_S = 2.0
RENEWAL = 40
"""SCHED_FIFO: ahead of the arbiter (30), for moments only; after ros2_control (50)."""
NO_PRECEDENCE = (
    "this user may not go before others: on a busy machine I will be late (docs/operator.md says how to permit real-time priority)"
)
LOCK_ALL_PAGES_ONCE_TOUCHED = 1 | 2 | 4
"""MCL_CURRENT, MCL_FUTURE and MCL_ONFAULT of Linux' mlockall(2)."""
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
DIAGNOSTICS_PERIOD_S = 1.0


class ManagedNode(LifecycleNode):
    """A lifecycle node; ``self.health`` feeds its one status on /diagnostics.

    Subclasses override the five hooks below. A hook that raises makes its transition fail: the error is logged and stands
    in the diagnostics, and the node stays in the state it was in. Publishers, subscriptions, timers, services and actions
    that ``activate`` or ``configure`` creates are destroyed on the way back; create publishers with
    ``create_lifecycle_publisher``, so that they are silent unless the node is active.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.health = Health()
        self.failed = False
        self._choices: dict[str, tuple[Any, ...]] = {}
        self._before_configure: set[Any] = set()
        self._before_activate: set[Any] = set()
        self.add_on_set_parameters_callback(self._check_choices)
        autostart = self.parameter("autostart", True, "Configure and activate without being asked.", read_only=True)
        self._attempts_left: int = self.parameter(
            "autostart_attempts", 3, "How often to try; then the process ends with an error.", lower=1, upper=1000, read_only=True
        )
        self.declare()
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, COMMAND)
        self._diagnostics_timer = self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)
        self._autostart_timer = self.create_timer(0.0, self._bring_up) if autostart else None

    # ---- hooks -----------------------------------------------------------------------------------------------------

    def declare(self) -> None:
        """Declare parameters (``self.parameter``); called once, at construction."""

    def configure(self) -> None:
        """Load models and create publishers, subscriptions, services; nothing may move yet."""

    def activate(self) -> None:
        """Start working: create timers, accept input."""

    def deactivate(self) -> None:
        """Stop working; timers and the like that ``activate`` created go by themselves."""

    def cleanup(self) -> None:
        """Release what else ``configure`` acquired: devices, processes, models."""

    # ---- services to subclasses --------------------------------------------------------------------------------------

    def parameter(
        self,
        name: str,
        default: Any,
        description: str,
        *,
        lower: float | None = None,
        upper: float | None = None,
        choices: Sequence[Any] | None = None,
        read_only: bool = False,
    ) -> Any:
        """Declare a parameter of the type of ``default`` and return its value; what is out of bounds is refused, never repaired."""
        descriptor = ParameterDescriptor(description=description, read_only=read_only)
        if lower is not None or upper is not None:
            if lower is None or upper is None:
                raise ValueError(f"parameter '{name}': give both bounds or none")
            if isinstance(default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(lower), to_value=int(upper), step=1)]
            else:
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(lower), to_value=float(upper), step=0.0)]
        if choices is not None:
            descriptor.additional_constraints = f"one of {list(choices)}"
            self._choices[name] = tuple(choices)
        return self.declare_parameter(name, default, descriptor).value

    def create_timer(self, period_s: float, callback: Callable[[], Any], **options: Any) -> Timer:
        """As rclpy's, but on the steady clock: one on the clock of the stamps stands still when that is set back."""
        return super().create_timer(period_s, callback, **({"clock": STEADY} | options))

    @property
    def active(self) -> bool:
        """Whether the node is in the active state."""
        return bool(self._state_machine.current_state[1] == "active")

    def now_ns(self) -> int:
        """The ROS clock's time, ns (for stamps; measure durations with a steady clock)."""
        return int(self.get_clock().now().nanoseconds)

    def stamp_clock(self) -> StampClock:
        """Maps stamps by the node's clock, which may be simulated, from now on."""
        jump_ns = TOLD_JUMP_NS if self.get_clock().ros_time_is_active else JUMP_NS
        return StampClock(self.now_ns(), time.monotonic_ns(), jump_ns)

    def steady_ns(self, stamps: StampClock, slew: bool = False) -> int:
        """The steady time, ns; on the way, ``stamps`` reads the clock of the stamps, and a jump of that is logged."""
        before_ns = time.monotonic_ns()
        stamp_ns = self.now_ns()
        now_ns = time.monotonic_ns()
        if stamp_ns and stamps.read(stamp_ns, before_ns, now_ns, slew):  # 0: simulated time has not begun
            self.get_logger().warning("the clock of the stamps has jumped; nothing that moves goes by it")
        return now_ns

    # ---- transitions ---------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``configure``; after a failure, nothing of it is left."""
        self._before_configure = self._entities()
        if self._attempt("configure") and self._succeeds(super().on_configure(state)):
            return TransitionCallbackReturn.SUCCESS
        self._destroy_entities_since(self._before_configure)
        return TransitionCallbackReturn.FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the publishers, then call ``activate``; after a failure, nothing of it is left."""
        self._before_activate = self._entities()
        if self._succeeds(super().on_activate(state)) and self._attempt("activate"):
            gc.freeze()  # what is loaded by now stays: no collection, and no tick that waits for one, has to visit it again
            return TransitionCallbackReturn.SUCCESS
        super().on_deactivate(state)
        self._destroy_entities_since(self._before_activate)
        return TransitionCallbackReturn.FAILURE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``deactivate``, then close the publishers."""
        gc.unfreeze()
        done = self._attempt("deactivate")
        self._destroy_entities_since(self._before_activate)
        return super().on_deactivate(state) if done else TransitionCallbackReturn.ERROR

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``cleanup`` and destroy what is left."""
        done = self._attempt("cleanup")
        self._destroy_entities_since(self._before_configure)
        return super().on_cleanup(state) if done else TransitionCallbackReturn.ERROR

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Undo what the state holds, from wherever the node is."""
        if state.label == "active":
            self.on_deactivate(state)
        if state.label in ("active", "inactive"):
            self.on_cleanup(state)
        return super().on_shutdown(state)

    @staticmethod
    def _succeeds(result: TransitionCallbackReturn) -> bool:
        return bool(result == TransitionCallbackReturn.SUCCESS)

    def _attempt(self, hook: str) -> bool:
        try:
            getattr(self, hook)()
        except Exception as error:  # whatever a hook raises fails this transition, not the process
            self.get_logger().error(f"{hook} failed: {type(error).__name__}: {error}")
            self.health.fault(hook, f"{type(error).__name__}: {error}")
            return False
        self.health.clear(hook)
        return True

    def _entities(self) -> set[Any]:
        return {*self.publishers, *self.subscriptions, *self.timers, *self.services, *self.clients, *self.waitables}

    def _destroy_entities_since(self, before: set[Any]) -> None:
        for entity in self._entities() - before:
            if isinstance(entity, Publisher):
                self.destroy_lifecycle_publisher(entity)  # a plain one too
            elif isinstance(entity, Subscription):
                self.destroy_subscription(entity)
            elif isinstance(entity, Timer):
                self.destroy_timer(entity)
            elif isinstance(entity, Service):
                self.destroy_service(entity)
            elif isinstance(entity, Client):
                self.destroy_client(entity)
            elif isinstance(entity, ActionServer | ActionClient):
                entity.destroy()

    def _bring_up(self) -> None:
        assert self._autostart_timer is not None
        self._autostart_timer.cancel()
        state = self._state_machine.current_state[1]
        if state == "unconfigured" and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            state = "inactive"
        if state == "inactive" and self.trigger_activate() == TransitionCallbackReturn.SUCCESS:
            self.get_logger().info("active")
            return
        if state not in ("unconfigured", "inactive"):
            return  # an operator was faster
        self._attempts_left -= 1
        if self._attempts_left == 0:
            self.get_logger().fatal("giving up: could not bring myself up, see the errors above")
            self.failed = True
            return
        self.get_logger().warning(f"will try again in {RETRY_PERIOD_S:.0f} s, {self._attempts_left} more times")
        self.destroy_timer(self._autostart_timer)
        self._autostart_timer = self.create_timer(RETRY_PERIOD_S, self._bring_up)

    # ---- diagnostics and parameters ----------------------------------------------------------------------------------

    def _publish_diagnostics(self) -> None:
        summary = self.health.summary()
        status = DiagnosticStatus(
            level=bytes([summary.level]),
            name=self.get_fully_qualified_name(),
            message=summary.message,
            hardware_id="harmowam",
            values=[KeyValue(key="state", value=self._state_machine.current_state[1])]
            + [KeyValue(key=key, value=value) for key, value in summary.values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _check_choices(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            choices = self._choices.get(parameter.name)
            if choices is not None and parameter.value not in choices:
                return SetParametersResult(
                    successful=False, reason=f"{parameter.name} is '{parameter.value}', expected one of {list(choices)}"
                )
        return SetParametersResult(successful=True)


def run(
    node_class: Callable[[], ManagedNode],
    args: list[str] | None = None,
    executor_class: Callable[[], Executor] = EventsExecutor,
    nice: int = 0,
    real_time: int = 0,
) -> None:
    """Spin a node until SIGINT or SIGTERM, then shut it down in order; exit with 1 if it could not be brought up.

    EventsExecutor builds no wait set for every message, which takes a third of the processor time of a node that listens to much.
    It polls coroutines that wait at full speed, and cannot hand over information on messages: a node that has either asks for another
    ``executor_class``.
    ``nice``: how far the process stands back behind others (1 to 19), as models should behind the arbiter and the arm's driver, or goes
    before them (-20 to -1). What tells others that a process that stands back is alive (liveliness) does not.
    ``real_time``: it goes before all that have not this priority (SCHED_FIFO, 1 to 99), with all its threads: one without could hold
    the interpreter's lock and wait. Its memory stays in memory, where that is permitted.
    Log and diagnostics say where the user may not go before others.
    """
    precedence = take_place(nice, real_time)
    signalled: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        signalled.append(number)

    # By shared memory, a subscriber that is killed can silence its publishers' images for everybody (Fast-DDS issue 5469).
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")

    # rclpy's own handlers would invalidate the context at once, and with it the last messages of an orderly shutdown.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    try:
        node = node_class()
    except (InvalidParameterValueException, InvalidParameterTypeException) as error:
        rclpy.shutdown()
        sys.exit(f"{getattr(node_class, '__name__', node_class)}: {error}")
    if nice > 0:
        precedence += vouch_in_time()
    node.health.figure("scheduling", precedence or "as all others")
    if not precedence and (real_time or nice < 0):
        node.get_logger().warning(NO_PRECEDENCE)
    executor = executor_class()
    executor.add_node(node)
    try:
        while not signalled and not node.failed:
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass
    finally:
        if rclpy.ok() and node._state_machine.current_state[1] in ("unconfigured", "inactive", "active"):
            node.trigger_shutdown()
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(1 if node.failed else 0)


def vouch_in_time() -> str:
    """Fast DDS' thread for timed events renews leases of liveliness: ahead of all others, a busy process is not taken for a dead one.

    What it got, "" where that is not permitted, or the middleware is another.
    """
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile, or we may not
            if (task / "comm").read_text().startswith("dds.ev"):
                os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(RENEWAL))
                return f", renewing leases at SCHED_FIFO {RENEWAL}"
    return ""


def take_place(nice: int, real_time: int) -> str:
    """For this thread, and for those it will start; what that place is, "" for an ordinary one or where another is not permitted."""
    try:
        if real_time:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(real_time))
            locked = ctypes.CDLL(None).mlockall(LOCK_ALL_PAGES_ONCE_TOUCHED) == 0
            return f"SCHED_FIFO {real_time}, memory {'locked' if locked else 'not locked'}"
        if nice:
            os.nice(nice)
            with contextlib.suppress(OSError):  # where Linux shares processors between sessions, theirs counts
                Path("/proc/self/autogroup").write_text(str(nice))
            return f"nice {nice}"
    except PermissionError:
        pass
    return ""
