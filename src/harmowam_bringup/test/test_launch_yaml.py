"""YAML launch files are read as ``ros2 launch`` reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harmowam_bringup.launch_yaml import Launch, Process, declared_arguments, read_launch
from harmowam_bringup.substitutions import LaunchError, Scope, split_command, substitute

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "USER": "ada"}


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Launch]:
    def read(text: str, **arguments: str) -> Launch:
        path = tmp_path / "file.launch.yaml"
        path.write_text(text)
        return read_launch(path, arguments, ENVIRONMENT)

    return read


def words(launch: Launch) -> list[str]:
    return [word for process in launch.processes for word in process.command]


def parameters(process: Process) -> dict[str, object]:
    return {key: value for source in process.parameters for value in source.values() for key, value in value["ros__parameters"].items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a $(var x) b", "a 1 b"),
        ("$(var y 'two words')", "two words"),
        ('$(var y "$(var x)!")', "1!"),
        ("$(var $(var name))", "1"),
        ("$(env USER)", "ada"),
        ("$(env NONE fallback)", "fallback"),
        (r"\$(var x)", "$(var x)"),
        (r"cost: 5\$", "cost: 5$"),
        ("$x", "$x"),
        ("$(dirname)/rviz", "/here/rviz"),
        ("$(filename)", "/here/a.launch.yaml"),
    ],
)
def test_substitutions(text: str, expected: str) -> None:
    scope = Scope({"x": "1", "name": "x"}, ENVIRONMENT, Path("/here/a.launch.yaml"))
    assert substitute(text, scope) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(var x", "expected '\\)'"),
        ("$(var 'x)", "expected '"),
        ("$(vra x)", "unknown substitution '\\$\\(vra\\)'"),
        ("$(var)", "takes 1 to 2"),
        ("$(var z)", "'z' does not exist"),
        ("$(env NONE)", "environment variable 'NONE'"),
        ("$(find-pkg-share no_such_package)", "no_such_package"),
    ],
)
def test_bad_substitutions_are_named(text: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        substitute(text, Scope({}, {}))


def test_command_words_from_substitutions_are_not_split() -> None:
    scope = Scope({"a": "one word"})
    assert split_command("run --x=$(var a) 'two words' $(var a)y", scope) == ["run", "--x=one word", "two words", "one wordy"]


def test_arguments_default_and_override(launch: Callable[..., Launch]) -> None:
    text = """
launch:
  - arg: {name: who, default: world, description: whom to greet}
  - let: {name: greeting, value: hello $(var who)}
  - executable: {cmd: "echo $(var greeting)"}
"""
    assert words(launch(text)) == ["echo", "hello world"]
    assert words(launch(text, who="you")) == ["echo", "hello you"]


def test_choices_and_required_arguments(launch: Callable[..., Launch]) -> None:
    text = "launch: [{arg: {name: a, choice: [{value: x}, {value: 'y'}]}}]"
    launch(text, a="y")
    with pytest.raises(LaunchError, match="'a' is 'z', expected one of x, y"):
        launch(text, a="z")
    with pytest.raises(LaunchError, match=r"'a'.*is required"):
        launch(text)


def test_undeclared_argument_names_the_declared(launch: Callable[..., Launch]) -> None:
    with pytest.raises(LaunchError, match="no argument 'sead'; it has seed"):
        launch("launch: [{arg: {name: seed, default: '0'}}]", sead="1")


@pytest.mark.parametrize(("flag", "expected"), [("true", ["a"]), ("0", ["b"]), (" FALSE ", ["b"])])
def test_conditions(launch: Callable[..., Launch], flag: str, expected: list[str]) -> None:
    text = """
launch:
  - arg: {name: flag}
  - executable: {cmd: a, if: $(var flag)}
  - group:
      unless: $(var flag)
      children: [{executable: {cmd: b}}]
"""
    assert words(launch(text, flag=flag)) == expected


def test_condition_must_be_boolean(launch: Callable[..., Launch]) -> None:
    with pytest.raises(LaunchError, match=r"if: maybe.*expected true"):
        launch("launch: [{executable: {cmd: a, if: maybe}}]")


def test_groups_scope_variables_environment_and_namespace(launch: Callable[..., Launch], make_package: Callable[..., Path]) -> None:
    make_package("pkg", talker="")
    result = launch(
        """
launch:
  - let: {name: v, value: outer}
  - group:
      - let: {name: v, value: inner}
      - set_env: {name: E, value: "1"}
      - push_ros_namespace: {namespace: robot}
      - push-ros-namespace: {namespace: left}
      - node: {pkg: pkg, exec: talker, name: t, args: $(var v)}
  - group:
      scoped: false
      children: [{let: {name: w, value: kept}}]
  - node: {pkg: pkg, exec: talker, args: $(var v) $(var w)}
""",
    )
    inside, outside = result.processes
    assert inside.command[1:] == ("inner",) and outside.command[1:] == ("outer", "kept")
    assert inside.environment["E"] == "1" and "E" not in outside.environment
    assert inside.ros_arguments == ("--ros-args", "-r", "__node:=t", "-r", "__ns:=/robot/left")
    assert outside.ros_arguments == ("--ros-args",)
    assert [process.name for process in result.processes] == ["talker-1", "talker-2"]


def test_remaps_reach_the_nodes_that_follow_in_their_group(launch: Callable[..., Launch], make_package: Callable[..., Path]) -> None:
    make_package("pkg", talker="")
    result = launch(
        """
launch:
  - arg: {name: flag, default: "false"}
  - group:
      - set_remap: {from: /a, to: /b}
      - set_remap: {from: /c, to: /d, if: $(var flag)}
      - node: {pkg: pkg, exec: talker, remap: [{from: /e, to: /f}]}
  - node: {pkg: pkg, exec: talker}
""",
    )
    inside, outside = result.processes
    assert inside.ros_arguments == ("--ros-args", "-r", "/a:=/b", "-r", "/e:=/f") and outside.ros_arguments == ("--ros-args",)


def test_node_parameters_keep_or_find_their_types(launch: Callable[..., Launch], make_package: Callable[..., Path], tmp_path: Path) -> None:
    prefix = make_package("pkg", talker="")
    (tmp_path / "values.yaml").write_text("/**: {ros__parameters: {from_file: 1}}")
    result = launch(
        """
launch:
  - arg: {name: seed, default: "7"}
  - arg: {name: task, default: pick_fruit}
  - arg: {name: rates, default: "[1.0, 2.0]"}
  - node:
      pkg: pkg
      exec: talker
      name: t
      namespace: /ns
      param:
        - {name: seed, value: $(var seed)}
        - {name: seed_text, value: $(var seed), type: str}
        - {name: seed_real, value: $(var seed), type: float}
        - {name: enabled, value: $(env ENABLED 1), type: bool}
        - {name: plain_text, value: "7"}
        - {name: task, value: $(var task)}
        - {name: rates, value: $(var rates)}
        - {name: list, value: [a, $(var task)]}
        - {name: flag, value: true}
        - {from: $(dirname)/values.yaml}
        - name: outer
          param: [{name: inner, value: 0.5}]
      remap: [{from: a, to: b}]
      respawn: "true"
      respawn_delay: 1.5
      output: screen
""",
    )
    (process,) = result.processes
    assert process.command == (str(prefix / "lib/pkg/talker"),)
    assert process.ros_arguments == ("--ros-args", "-r", "__node:=t", "-r", "__ns:=/ns", "-r", "a:=b")
    assert process.respawn and process.respawn_delay_s == 1.5 and process.output == "screen"
    assert tmp_path / "values.yaml" in process.parameters
    given = [source for source in process.parameters if not isinstance(source, Path)]
    assert all(list(source) == ["/ns/t"] for source in given)
    values = {key: value for source in given for key, value in source["/ns/t"]["ros__parameters"].items()}
    assert values == {
        "seed": 7, "seed_text": "7", "seed_real": 7.0, "enabled": True, "plain_text": "7", "task": "pick_fruit", "rates": [1.0, 2.0],
        "list": ["a", "pick_fruit"], "flag": True, "outer": {"inner": 0.5},
    }  # fmt: skip
    line = process.command_line(tmp_path)
    assert line.count("--params-file") == 11
    assert yaml.safe_load(Path(line[line.index("--params-file") + 1]).read_text()) == {"/ns/t": {"ros__parameters": {"seed": 7}}}


def test_shared_parameters_reach_nodes_that_follow_in_their_group(launch: Callable[..., Launch], make_package: Callable[..., Path]) -> None:
    make_package("things", n="#!/bin/sh\n")
    text = """
launch:
  - node: {pkg: things, exec: n, name: before}
  - group:
      - set_parameter: {name: use_sim_time, value: "true"}
      - set_parameter: {name: rate, value: "5.0", if: "false"}
      - node: {pkg: things, exec: n, name: inside, param: [{name: own, value: 1}]}
  - node: {pkg: things, exec: n, name: after}
"""
    given = {process.node: [source["/**"]["ros__parameters"] for source in process.parameters] for process in launch(text).processes}
    assert given == {"before": [], "inside": [{"use_sim_time": True}, {"own": 1}], "after": []}


def test_includes_share_variables_and_take_arguments(tmp_path: Path, launch: Callable[..., Launch]) -> None:
    (tmp_path / "inner.launch.yaml").write_text(
        """
launch:
  - arg: {name: shared, default: inner}
  - arg: {name: given, default: inner}
  - arg: {name: own, default: inner}
  - executable: {cmd: "echo $(var shared) $(var given) $(var own) $(filename)"}
"""
    )
    text = """
launch:
  - arg: {name: shared, default: outer}
  - include: {file: $(dirname)/inner.launch.yaml, arg: [{name: given, value: passed}]}
  - executable: {cmd: "echo $(filename)"}
"""
    inner, outer = (tmp_path / name for name in ("inner.launch.yaml", "file.launch.yaml"))
    assert words(launch(text)) == ["echo", "outer", "passed", "inner", str(inner), "echo", str(outer)]
    assert words(launch(text, own="mine"))[3] == "mine"
    assert sorted(declared_arguments(outer, {}, ENVIRONMENT)) == ["own", "shared"]
    with pytest.raises(LaunchError, match="no argument 'given'"):
        launch(text, given="x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("launch: [{nood: {exec: a}}]", "unknown key 'nood'"),
        ("launch: [{node: {exec: a, prams: []}}]", r"unknown key 'prams' \(launch.0.node.prams\)"),
        ("launch: [{group: [{node: {exec: a, param: [{name: x, vale: 1}]}}]}]", "unknown key 'vale'"),
        ("launch: [{arg: {name: a, default: 1}}]", "launch.0.arg.default: launch takes a string here; put quotes around 1"),
        ("launch: [{node: {pkg: a}}]", "launch.0.node.exec: Field required"),
        ("launch: [{node: {exec: a, if: 'true', unless: 'true'}}]", "cannot stand together"),
        ("launch: [{node: {exec: a, respawn_delay: 2}}]", "respawn_delay: must be a number with a decimal point"),
        ("launch: [{node: {exec: a, param: [{name: x, value: [1, b]}]}}]", "value: must be a boolean"),
        ("launch: [{node: {exec: a, param: [{value: 1}]}}]", "a param needs"),
        ("launch: [{let: {name: a, value: $(vat b)}}]", "unknown substitution"),
        ("launch: [{let: {name: a, value: b}, arg: {name: c}}]", "one tag"),
        ("lunch: []", "unknown key 'lunch'"),
        ("launch: [", "not YAML"),
        ("launch: [{include: {file: /no/such.launch.yaml}}]", "/no/such.launch.yaml: No such file"),
        ("launch: [{include: {file: /no/such.launch.py}}]", "such.launch.py: not a YAML launch file"),
        ("launch: [{node: {exec: a, param: [{from: /no/file.yaml}]}}]", "parameter file '/no/file.yaml' does not exist"),
        ("launch: [{node: {exec: a, param: [{name: x, value: $(env NONE half), type: int}]}}]", "parameter 'x' is 'half', expected int"),
        ("launch: [{node: {exec: a, param: [{name: x, value: 1.5, type: int}]}}]", "parameter 'x' is 1.5, expected int"),
        ("launch: [{node: {pkg: no_such_package, exec: a}}]", "no_such_package"),
    ],
)
def test_errors_name_file_and_key(launch: Callable[..., Launch], tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message) as caught:
        launch(text)
    assert str(tmp_path / "file.launch.yaml") in str(caught.value) or "/no/such" in str(caught.value)


def test_unknown_executable_names_those_there_are(launch: Callable[..., Launch], make_package: Callable[..., Path]) -> None:
    make_package("pkg", talker="", listener="")
    with pytest.raises(LaunchError, match=r"no executable 'walker'.*it has listener, talker"):
        launch("launch: [{node: {pkg: pkg, exec: walker}}]")


def test_missing_file_is_named() -> None:
    with pytest.raises(LaunchError, match=r"/nowhere/a.launch.yaml: No such file"):
        read_launch("/nowhere/a.launch.yaml")
