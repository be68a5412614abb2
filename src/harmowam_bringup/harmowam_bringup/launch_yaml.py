"""Reads ROS 2 YAML launch files on machines without the ``launch`` packages, and says what they would run.

A file is checked whole before anything happens, as ``ros2 launch`` does: unknown tags and keys, and values of the
wrong type, are errors even in branches not taken. Semantics kept: an argument keeps a value already set, included
files share the including file's variables, only a scoped group restores them, nodes start in the order of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harmowam_bringup.substitutions import LaunchError, Scope, package_prefix, parse_template, split_command, substitute

Scalar = bool | int | float | str


def _parsed(text: str) -> str:
    try:
        parse_template(text)
    except LaunchError as error:
        raise ValueError(str(error)) from error
    return text


def _real(value: object) -> object:
    if type(value) is not float:
        raise ValueError(f"must be a number with a decimal point (launch reads {value!r} as {type(value).__name__})")
    return value


def _uniform(value: object) -> object:
    items = value if isinstance(value, list) else [value]
    if not items or type(items[0]) not in (bool, int, float, str) or len({type(item) for item in items}) > 1:
        raise ValueError("must be a boolean, a number, a string, or a list of one of these")
    return value


Text = Annotated[str, AfterValidator(_parsed)]
Seconds = Annotated[float, BeforeValidator(_real), Field(ge=0)]
Value = Annotated[Any, AfterValidator(_uniform)]
_TYPES = {"str": str, "int": int, "float": float, "bool": bool}
TypeName = Literal["str", "int", "float", "bool", "list_of_str", "list_of_int", "list_of_float", "list_of_bool"]


class _Tag(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Action(_Tag):
    if_: Text | None = Field(None, alias="if")
    unless: Text | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> _Action:
        if self.if_ is not None and self.unless is not None:
            raise ValueError("'if' and 'unless' cannot stand together")
        return self


class Pair(_Tag):
    """A name and its value."""

    name: Text
    value: Text


class Choice(_Tag):
    """One permitted value of an argument."""

    value: str


class Arg(_Action):
    """A launch argument."""

    name: str
    default: Text | None = None
    description: str = ""
    choice: list[Choice] = []


class Let(_Action):
    """Sets a variable."""

    name: Text
    value: Text


class SetEnv(_Action):
    """Sets an environment variable of what starts later."""

    name: Text
    value: Text


class UnsetEnv(_Action):
    """Removes an environment variable of what starts later."""

    name: Text


class PushRosNamespace(_Action):
    """Prefixes the namespace of the nodes that follow."""

    namespace: Text


class SetRemap(_Action):
    """Renames a topic, service or node name for the nodes that follow."""

    from_: Text = Field(alias="from")
    to: Text


class SetParameter(_Action):
    """A parameter of all nodes that follow, unless they set it themselves; the value is read by YAML's rules."""

    name: Text
    value: Text


class Include(_Action):
    """Reads another YAML launch file, with arguments set for it."""

    file: Text
    arg: list[Pair] = []


class Remap(_Tag):
    """Renames a topic, service or node name."""

    from_: Text = Field(alias="from")
    to: Text


class Param(_Tag):
    """A parameter (name and value, or name and nested parameters), or a file of them (from)."""

    name: Text | None = None
    value: Value = None
    type: TypeName | None = None
    param: list[Param] = []
    from_: Text | None = Field(None, alias="from")
    allow_substs: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Param:
        given = [self.value is not None, bool(self.param), self.from_ is not None]
        if given.count(True) != 1 or (self.name is None) != (self.from_ is not None):
            raise ValueError("a param needs 'name' with 'value' or nested 'param', or else 'from'")
        if self.allow_substs and self.from_ is None:
            raise ValueError("'allow_substs' goes with 'from'")
        for item in self.value if isinstance(self.value, list) else [self.value]:
            if isinstance(item, str):
                _parsed(item)
        return self


class _Process(_Action):
    cwd: Text | None = None
    output: Text = "log"
    respawn: Text = "false"
    respawn_delay: Seconds = 0.0
    respawn_max_retries: int = -1
    sigterm_timeout: Seconds = 5.0
    sigkill_timeout: Seconds = 5.0
    on_exit: Literal["shutdown"] | None = None
    launch_prefix: Text = Field("", alias="launch-prefix")
    env: list[Pair] = []


class Executable(_Process):
    """Any program."""

    cmd: Text
    name: Text | None = None


class Node(_Process):
    """A ROS node in a process of its own."""

    pkg: Text | None = None
    exec: Text
    name: Text | None = None
    exec_name: Text | None = None
    namespace: Text | None = None
    args: Text = ""
    ros_args: Text = ""
    param: list[Param] = []
    remap: list[Remap] = []


class Group(_Action):
    """Several entities; a scoped group leaves variables, environment, namespace and remaps as it found them."""

    scoped: bool = True
    children: list[Entity]

    @model_validator(mode="before")
    @classmethod
    def _list_is_children(cls, value: Any) -> Any:
        return {"children": value} if isinstance(value, list) else value


class Entity(_Tag):
    """One tag of a launch file."""

    arg: Arg | None = None
    let: Let | None = None
    include: Include | None = None
    node: Node | None = None
    executable: Executable | None = None
    group: Group | None = None
    set_env: SetEnv | None = None
    unset_env: UnsetEnv | None = None
    push_ros_namespace: PushRosNamespace | None = Field(None, alias="push_ros_namespace")
    set_remap: SetRemap | None = None
    set_parameter: SetParameter | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_tag(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or len(value) != 1:
            raise ValueError("every entry must be a mapping with one tag, such as 'node'")
        return {str(key).replace("push-ros-namespace", "push_ros_namespace"): item for key, item in value.items()}

    @property
    def action(self) -> _Action:
        """The tag's content."""
        return next(getattr(self, name) for name in self.model_fields_set)


class _File(_Tag):
    launch: list[Entity]


@dataclass(frozen=True)
class Process:
    """One process to run, all substitutions done.

    name: label of its output, ``<executable>-<number>``; node: node name, if one was given.
    parameters: each a parameter file, or parameters (nested by name) that are written to one.
    environment: the whole environment of the process.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    node: str | None = None
    ros_arguments: tuple[str, ...] = ()
    parameters: tuple[Path | Mapping[str, Any], ...] = ()
    cwd: Path | None = None
    output: str = "log"
    respawn: bool = False
    respawn_delay_s: float = 0.0
    respawn_max_retries: int = -1
    sigterm_timeout_s: float = 5.0
    sigkill_timeout_s: float = 5.0
    shutdown_on_exit: bool = False

    def command_line(self, params_dir: Path) -> list[str]:
        """The command with its parameters, which are written to files in ``params_dir``."""
        words = [*self.command, *self.ros_arguments]
        for index, source in enumerate(self.parameters):
            if not isinstance(source, Path):
                path = params_dir / f"{self.name}.{index}.yaml"
                path.write_text(yaml.safe_dump(source))
                source = path
            words += ["--params-file", str(source)]
        return words


@dataclass
class Launch:
    """What a launch file declares and, with these arguments, runs."""

    arguments: dict[str, Arg] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)


def _read(path: Path) -> list[Entity]:
    if path.suffix not in (".yaml", ".yml"):
        raise LaunchError(f"{path}: not a YAML launch file; only a full ROS 2 installation can run it ('ros2 launch {path}')")
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise LaunchError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise LaunchError(f"{path}: not YAML: {error}") from error
    try:
        return _File.model_validate(content).launch
    except ValidationError as error:
        raise LaunchError("\n".join(f"{path}: {_explain(item)}" for item in error.errors())) from error


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part != "children")
    if error["type"] == "extra_forbidden":
        return f"unknown key '{error['loc'][-1]}' ({where})"
    if error["type"] == "string_type":
        return f"{where}: launch takes a string here; put quotes around {error['input']!r}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def read_launch(path: Path | str, arguments: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None) -> Launch:
    """Read a launch file with ``name:=value`` arguments; ``environment`` is this process's unless given.

    LaunchError names the file and key of what is wrong, and the declared arguments if one of those given is not among them.
    """
    path, given = Path(path).resolve(), dict(arguments or {})
    known = declared_arguments(path, given, environment)
    for name in given:
        if name not in known:
            raise LaunchError(f"{path} has no argument '{name}'; it has {', '.join(sorted(known)) or 'none'}")
    interpreter = _Interpreter(Scope(given, dict(os.environ if environment is None else environment)))
    interpreter.run_file(path)
    return Launch(known, interpreter.processes)


def declared_arguments(
    path: Path | str, arguments: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, Arg]:
    """Every argument a user may set: of the file and of the files it includes, without those it sets for them itself.

    A file whose name depends on a required argument that was not given is left out.
    """
    found: dict[str, Arg] = {}
    scope = Scope(dict(arguments or {}), dict(os.environ if environment is None else environment))

    def visit(entities: list[Entity], file: Path, hidden: frozenset[str]) -> None:
        scope.file = file
        for entity in entities:
            action = entity.action
            if isinstance(action, Arg) and action.name not in hidden:
                found.setdefault(action.name, action)
                if action.default is not None and action.name not in scope.variables:
                    scope.variables[action.name] = substitute(action.default, scope)
            elif isinstance(action, Group):
                visit(action.children, file, hidden)
            elif isinstance(action, Include):
                try:
                    target = Path(substitute(action.file, scope))
                except LaunchError:
                    continue
                visit(_read(target), target, hidden | {pair.name for pair in action.arg})
                scope.file = file

    path = Path(path).resolve()
    visit(_read(path), path, frozenset())
    return found


class _Interpreter:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.processes: list[Process] = []
        self._remaps: list[tuple[str, str]] = []
        self._shared: list[Param] = []
        self._count = 0

    def run_file(self, path: Path) -> None:
        outer, self.scope.file = self.scope.file, path
        self._run(_read(path))
        self.scope.file = outer

    def _run(self, entities: list[Entity]) -> None:
        for entity in entities:
            action = entity.action
            try:
                if self._applies(action):
                    self._perform(action)
            except LaunchError as error:
                if str(error).startswith("/"):  # already says in which file
                    raise
                tag = next(iter(entity.model_fields_set))
                raise LaunchError(f"{self.scope.file}: {tag}: {error}") from error

    def _applies(self, action: _Action) -> bool:
        if action.if_ is not None:
            return self._boolean(action.if_, "if")
        return action.unless is None or not self._boolean(action.unless, "unless")

    def _boolean(self, text: str, key: str) -> bool:
        value = substitute(text, self.scope).strip().lower()
        if value not in ("true", "1", "false", "0"):
            raise LaunchError(f"'{key}: {text}' is '{value}', expected true, 1, false or 0")
        return value in ("true", "1")

    def _perform(self, action: _Action) -> None:
        scope = self.scope
        match action:
            case Arg():
                self._declare(action)
            case Let():
                scope.variables[substitute(action.name, scope)] = substitute(action.value, scope)
            case SetEnv():
                scope.environment[substitute(action.name, scope)] = substitute(action.value, scope)
            case UnsetEnv():
                scope.environment.pop(substitute(action.name, scope), None)
            case PushRosNamespace():
                scope.variables["ros_namespace"] = _join_namespace(
                    scope.variables.get("ros_namespace"), substitute(action.namespace, scope)
                )
            case SetRemap():
                self._remaps.append((substitute(action.from_, scope), substitute(action.to, scope)))
            case SetParameter():
                name, value = substitute(action.name, scope), yaml.safe_load(substitute(action.value, scope))
                self._shared.append(Param(name=name, value=value))
            case Include():
                for pair in action.arg:
                    scope.variables[substitute(pair.name, scope)] = substitute(pair.value, scope)
                self.run_file(Path(substitute(action.file, scope)).resolve())
            case Group():
                kept = dict(scope.variables), dict(scope.environment), list(self._remaps), list(self._shared)
                self._run(action.children)
                if action.scoped:
                    scope.variables, scope.environment, self._remaps, self._shared = kept
            case Node():
                self._add_node(action)
            case Executable():
                command = split_command(action.cmd, scope)
                name = substitute(action.name, scope) if action.name else Path(command[0]).name
                self._add(action, name, command)

    def _declare(self, arg: Arg) -> None:
        if arg.name not in self.scope.variables:
            if arg.default is None:
                raise LaunchError(f"argument '{arg.name}' ({arg.description}) is required; give {arg.name}:=VALUE")
            self.scope.variables[arg.name] = substitute(arg.default, self.scope)
        choices = [choice.value for choice in arg.choice]
        if choices and self.scope.variables[arg.name] not in choices:
            raise LaunchError(f"argument '{arg.name}' is '{self.scope.variables[arg.name]}', expected one of {', '.join(choices)}")

    def _add_node(self, node: Node) -> None:
        scope = self.scope
        program = substitute(node.exec, scope)
        if node.pkg is not None:
            program = str(find_executable(substitute(node.pkg, scope), program))
        name = substitute(node.name, scope) if node.name else None
        namespace = scope.variables.get("ros_namespace")
        if node.namespace is not None:
            namespace = _join_namespace(namespace, substitute(node.namespace, scope))
        ros_arguments = ["--ros-args", *split_command(node.ros_args, scope)]
        if name is not None:
            ros_arguments += ["-r", f"__node:={name}"]
        if namespace is not None:
            ros_arguments += ["-r", f"__ns:={namespace}"]
        own_remaps = [(substitute(remap.from_, scope), substitute(remap.to, scope)) for remap in node.remap]
        for before, after in [*self._remaps, *own_remaps]:  # the first rule that fits counts
            ros_arguments += ["-r", f"{before}:={after}"]
        addressee = f"{namespace.rstrip('/')}/{name}" if name and namespace else "/**"
        self._add(
            node,
            substitute(node.exec_name, scope) if node.exec_name else Path(program).name,
            [program, *split_command(node.args, scope)],
            node=name,
            ros_arguments=tuple(ros_arguments),
            parameters=tuple(self._parameters([*self._shared, *node.param], addressee)),
        )

    def _parameters(self, params: list[Param], addressee: str) -> Iterator[Path | Mapping[str, Any]]:
        for param in params:
            if param.from_ is None:
                yield {addressee: {"ros__parameters": self._parameter(param)}}
                continue
            path = Path(substitute(param.from_, self.scope))
            if not path.is_file():
                raise LaunchError(f"parameter file '{path}' does not exist")
            if param.allow_substs:
                yield yaml.safe_load(substitute(path.read_text(), self.scope))
            else:
                yield path

    def _parameter(self, param: Param) -> dict[str, Any]:
        name = substitute(param.name or "", self.scope)
        if param.param:
            return {name: {key: value for child in param.param for key, value in self._parameter(child).items()}}
        kind = (param.type or "").removeprefix("list_of_")
        if isinstance(param.value, list):
            return {name: [self._typed(name, item, kind) for item in param.value]}
        if kind and param.type != kind and isinstance(param.value, str):
            listed = yaml.safe_load(substitute(param.value, self.scope))
            return {name: [_coerce(name, item, kind) for item in listed]}
        return {name: self._typed(name, param.value, kind)}

    def _typed(self, name: str, value: Scalar, kind: str) -> Scalar:
        """A plain value keeps its YAML type; the result of substitutions is read by YAML's rules unless a type is given."""
        if isinstance(value, str) and (template := parse_template(value)) != (value,):
            text = substitute(value, self.scope)
            if not text or all(isinstance(part, str) for part in template):
                return text
            if kind:
                return _from_text(name, text, kind)
            value = yaml.safe_load(text)
            if not isinstance(value, (bool, int, float, str, list)):
                raise LaunchError(f"parameter '{name}' is '{text}', which is no parameter value; give it a 'type'")
        return _coerce(name, value, kind)

    def _add(self, action: _Process, name: str, command: list[str], **node: Any) -> None:
        scope = self.scope
        self._count += 1
        extra = {substitute(pair.name, scope): substitute(pair.value, scope) for pair in action.env}
        self.processes.append(
            Process(
                name=f"{name}-{self._count}",
                command=(*split_command(action.launch_prefix, scope), *command),
                environment={**scope.environment, **extra},
                cwd=Path(substitute(action.cwd, scope)) if action.cwd else None,
                output=substitute(action.output, scope),
                respawn=self._boolean(action.respawn, "respawn"),
                respawn_delay_s=action.respawn_delay,
                respawn_max_retries=action.respawn_max_retries,
                sigterm_timeout_s=action.sigterm_timeout,
                sigkill_timeout_s=action.sigkill_timeout,
                shutdown_on_exit=action.on_exit == "shutdown",
                **node,
            )
        )


def _from_text(name: str, text: str, kind: str) -> Any:
    if kind == "bool":
        truth = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
        if truth is None:
            raise LaunchError(f"parameter '{name}' is '{text}', expected true or false")
        return truth
    try:
        return _TYPES[kind](text)
    except ValueError:
        raise LaunchError(f"parameter '{name}' is '{text}', expected {kind}") from None


def _coerce(name: str, value: Any, kind: str) -> Any:
    if not kind or type(value) is _TYPES[kind]:
        return value
    if kind == "float" and type(value) is int:
        return float(value)
    raise LaunchError(f"parameter '{name}' is {value!r}, expected {kind}")


def _join_namespace(base: str | None, namespace: str) -> str:
    if namespace.startswith("/"):
        return namespace
    return f"{(base or '').rstrip('/')}/{namespace}"


def find_executable(package: str, name: str) -> Path:
    """``<prefix>/lib/<package>/<name>`` by the ament index; LaunchError names the package's executables."""
    folder = package_prefix(package) / "lib" / package
    path = folder / name
    if not os.access(path, os.X_OK) or path.is_dir():
        known = sorted(item.name for item in folder.glob("*") if os.access(item, os.X_OK))
        raise LaunchError(f"package '{package}' has no executable '{name}' in {folder}; it has {', '.join(known) or 'none'}")
    return path
