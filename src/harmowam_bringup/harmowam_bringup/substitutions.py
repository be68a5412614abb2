"""Substitutions of ROS 2 launch files: ``$(var x)``, ``$(env X default)``, ``$(find-pkg-share p)``, ``$(dirname)`` …

The syntax is that of launch's own front ends: arguments are separated by one space, may be quoted, and may hold
substitutions themselves; a backslash takes the next character as it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory

Template = tuple["str | Call", ...]


class LaunchError(ValueError):
    """A launch file, or what was asked of it, cannot be used; the message names the file and the key."""


@dataclass(frozen=True)
class Call:
    """One ``$(name argument ...)``; every argument is a template of its own."""

    name: str
    arguments: tuple[Template, ...]


@dataclass
class Scope:
    """What substitutions read: launch configurations, the environment, and the directory of the file being read."""

    variables: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    file: Path = Path()


class _Reader:
    """Recursive descent over one string."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def fail(self, why: str) -> LaunchError:
        return LaunchError(f"{why} at character {self.at + 1} of '{self.text}'")

    def parts(self, until: str) -> Template:
        """Literal text and calls, up to (not including) one of the characters in ``until`` or the end."""
        parts: list[str | Call] = []
        literal = ""
        while self.at < len(self.text) and self.text[self.at] not in until:
            if self.text.startswith("$(", self.at):
                if literal:
                    parts.append(literal)
                literal = ""
                self.at += 2
                parts.append(self.call())
                continue
            if self.text[self.at] == "\\" and self.at + 1 < len(self.text):
                self.at += 1
            literal += self.text[self.at]
            self.at += 1
        if literal:
            parts.append(literal)
        return tuple(parts)

    def call(self) -> Call:
        start = self.at
        while self.at < len(self.text) and (self.text[self.at].isalnum() or self.text[self.at] in "_-"):
            self.at += 1
        name, arguments = self.text[start : self.at], []
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1
            arguments.append(self.argument())
        if not self.text.startswith(")", self.at):
            raise self.fail("expected ')'")
        self.at += 1
        return Call(name, tuple(arguments))

    def argument(self) -> Template:
        quote = self.text[self.at : self.at + 1]
        if quote not in ("'", '"'):
            return self.parts(" ()")
        self.at += 1
        template = self.parts(quote)
        if not self.text.startswith(quote, self.at):
            raise self.fail(f"expected {quote}")
        self.at += 1
        return template


def parse_template(text: str) -> Template:
    """Split text into literals and calls; LaunchError for unknown substitutions and unbalanced brackets."""
    template = _Reader(text).parts("")
    _check(template)
    return template


def _check(template: Template) -> None:
    for part in template:
        if isinstance(part, Call):
            if part.name not in _SUBSTITUTIONS:
                raise LaunchError(f"unknown substitution '$({part.name})'; known: {', '.join(sorted(_SUBSTITUTIONS))}")
            least, most, _ = _SUBSTITUTIONS[part.name]
            if not least <= len(part.arguments) <= most:
                raise LaunchError(f"$({part.name}) takes {least} to {most} arguments, not {len(part.arguments)}")
            for argument in part.arguments:
                _check(argument)


def perform(template: Template, scope: Scope) -> str:
    """The template's value in this scope."""
    return "".join(part if isinstance(part, str) else _value(part, scope) for part in template)


def substitute(text: str, scope: Scope) -> str:
    """Parse and perform."""
    return perform(parse_template(text), scope)


def split_command(text: str, scope: Scope) -> list[str]:
    """Split as a shell would; what a substitution yields is never split."""
    template = parse_template(text)
    # Private-use characters stand for the calls while shlex cuts the literal text.
    marks = {chr(0xE000 + index): part for index, part in enumerate(template) if isinstance(part, Call)}
    marked = "".join(part if isinstance(part, str) else chr(0xE000 + index) for index, part in enumerate(template))
    values = {mark: _value(call, scope) for mark, call in marks.items()}
    return ["".join(values.get(char, char) for char in word) for word in shlex.split(marked)]


def _value(call: Call, scope: Scope) -> str:
    return _SUBSTITUTIONS[call.name][2]([perform(argument, scope) for argument in call.arguments], scope)


def _look_up(kind: str, values: Mapping[str, str], arguments: list[str]) -> str:
    if arguments[0] in values:
        return values[arguments[0]]
    if len(arguments) == 2:
        return arguments[1]
    raise LaunchError(f"{kind} '{arguments[0]}' does not exist and has no default")


def _package(look_up: Callable[[str], str], name: str) -> str:
    try:
        return look_up(name)
    except PackageNotFoundError:
        raise LaunchError(f"package '{name}' is not in the ament index; build the workspace and source install/setup.bash") from None
    except OSError:
        raise LaunchError(f"package '{name}' cannot be looked up: AMENT_PREFIX_PATH is not set; source install/setup.bash") from None


def package_prefix(name: str) -> Path:
    """Where a package is installed; LaunchError says how to make it known."""
    return Path(_package(get_package_prefix, name))


_SUBSTITUTIONS: dict[str, tuple[int, int, Callable[[list[str], Scope], str]]] = {
    "var": (1, 2, lambda arguments, scope: _look_up("launch configuration", scope.variables, arguments)),
    "env": (1, 2, lambda arguments, scope: _look_up("environment variable", scope.environment, arguments)),
    "find-pkg-share": (1, 1, lambda arguments, scope: _package(get_package_share_directory, arguments[0])),
    "find-pkg-prefix": (1, 1, lambda arguments, scope: str(package_prefix(arguments[0]))),
    "dirname": (0, 0, lambda arguments, scope: str(scope.file.parent)),
    "filename": (0, 0, lambda arguments, scope: str(scope.file)),
}
