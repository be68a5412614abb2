"""The launch packages' classes as far as real_robot.launch.py uses them, for machines without a ROS 2 installation, and a run of them.

They only keep what they were given; ``Run`` does what launch would: performs functions, starts processes, tells handlers of their ends.
"""

from __future__ import annotations

import runpy
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

CLASSES = {
    "launch": ["LaunchDescription"],
    "launch.actions": [
        "DeclareLaunchArgument", "ExecuteProcess", "IncludeLaunchDescription", "LogInfo", "OpaqueFunction", "RegisterEventHandler",
        "SetEnvironmentVariable",
    ],
    "launch.event_handlers": ["OnProcessExit"],
    "launch.launch_description_sources": ["AnyLaunchDescriptionSource"],
    "launch.conditions": ["IfCondition"],
    "launch.substitutions": ["Command", "FindExecutable", "LaunchConfiguration", "PathJoinSubstitution"],
    "launch_ros": [],
    "launch_ros.actions": ["Node"],
    "launch_ros.parameter_descriptions": ["ParameterValue"],
    "launch_ros.substitutions": ["ExecutableInPackage", "FindPackageShare"],
}  # fmt: skip


class Given:
    """Any of these: what it was made with."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args, self.options = args, options

    @property
    def kind(self) -> str:
        return type(self).__name__

    def perform(self, context: Run) -> str:
        if self.kind == "LaunchConfiguration":
            return context.values[self.args[0]]
        if self.kind == "PathJoinSubstitution":
            return "/".join(part if isinstance(part, str) else part.perform(context) for part in self.args[0])
        return f"<{' '.join(map(str, self.args))}>"


def description_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Given]:
    """What the launch file's ``generate_launch_description`` returns, made of these classes."""
    for name, classes in CLASSES.items():
        module = types.ModuleType(name)
        module.__dict__.update({kind: type(kind, (Given,), {}) for kind in classes})
        monkeypatch.setitem(sys.modules, name, module)
    [entities] = runpy.run_path(str(path))["generate_launch_description"]().args
    return entities


class Run:
    """A launch with some arguments: ``started`` nodes, processes and includes in order; ``end`` tells of a process' end."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, **arguments: str) -> None:
        self.values: dict[str, str] = {}
        self.started: list[Given] = []
        self.environment: dict[str, str] = {}
        self.handlers: list[Given] = []
        self.said: list[str] = []
        self.is_shutdown = False
        entities = description_of(path, monkeypatch)
        for declared in (entity for entity in entities if entity.kind == "DeclareLaunchArgument"):
            default = declared.options["default_value"]
            value = arguments.pop(declared.args[0], default if isinstance(default, str) else default.perform(self))
            assert value in declared.options.get("choices", [value]), f"{declared.args[0]}: {value}"
            self.values[declared.args[0]] = value
        assert not arguments, f"not declared: {sorted(arguments)}"
        self._do(entities)

    def _do(self, entities: Iterable[Given]) -> None:
        for entity in entities:
            if entity.kind == "OpaqueFunction":
                self._do(entity.options["function"](self))
            elif entity.kind == "RegisterEventHandler":
                self.handlers.append(entity.args[0])
            elif entity.kind == "SetEnvironmentVariable":
                value = entity.args[1]
                self.environment[entity.args[0]] = value if isinstance(value, str) else value.perform(self)
            elif entity.kind == "LogInfo":
                self.said.append(entity.options["msg"])
            elif entity.kind != "DeclareLaunchArgument":
                self.started.append(entity)

    def process(self, *words: str) -> Given:
        """The started call of the harmowam command that begins with these words."""
        [found] = [
            item for item in self.started if item.kind == "ExecuteProcess" and tuple(item.options["cmd"][1 : 1 + len(words)]) == words
        ]
        return found

    def names(self) -> list[str]:
        """Executables, commands and included files that were started."""
        found = []
        for item in self.started:
            if item.kind == "Node":
                found.append(item.options["executable"])
            elif item.kind == "ExecuteProcess":
                found.append(" ".join(item.options["cmd"][1:3]))
            else:
                found.append(Path(item.args[0].args[0].perform(self)).name)
        return found

    def end(self, item: Given, returncode: int = 0) -> None:
        """A node or process ends."""
        event = types.SimpleNamespace(returncode=returncode, process_name=item.options.get("name"))
        for handler in [handler for handler in self.handlers if handler.options["target_action"] is item]:
            self._do(handler.options["on_exit"](event, self))
        if item.options.get("on_exit") is not None:
            self._do(item.options["on_exit"](event, self))
