"""Deserializes recorded messages: by the definitions in the bag, else by those of ROS 2 Jazzy and of the installed interface packages."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
"""What a camera's topic may carry."""

Decoder = Callable[[bytes | memoryview], Any]


class UnknownTypeError(ValueError):
    """Nobody knows the definition of a message type."""


class DefinitionError(ValueError):
    """A bag's definition of a message type cannot be read."""


class MalformedError(ValueError):
    """Bytes that are no message of the type."""


def decoder(msgtype: str, encoding: str = "", definition: str = "") -> Decoder:
    """What turns serialized messages (CDR) of a type into objects with its fields; UnknownTypeError and DefinitionError name the type.

    encoding: "ros2msg" or "ros2idl" with the definition as bags hold it, or "" where the bag has none. Arrays are NumPy arrays that share
    the bytes' memory. The decoder raises MalformedError. (rosbags' own refuses what ROS leaves after a message.)
    """
    try:
        store = _recorded(msgtype, encoding, definition) if definition else _known(msgtype)
        rules = store.get_msgdef(msgtype)
    except (TypesysError, KeyError, ValueError) as error:
        if definition:
            raise DefinitionError(f"the bag's definition of {msgtype} cannot be read: {error}") from error
        raise UnknownTypeError(
            f"type {msgtype} is unknown here, and the bag has no definition of it; build its package and source it"
        ) from error

    def decode(data: bytes | memoryview) -> Any:
        head = bytes(data[:2])
        if head not in (b"\x00\x00", b"\x00\x01"):
            raise MalformedError(f"a message of {len(data)} bytes begins with {head!r}, expected CDR")
        read = rules.deserialize_cdr_le if head[1] else rules.deserialize_cdr_be
        body = memoryview(data)[4:]
        try:
            message, end = read(body, 0, rules.cls, store)
        except (SerdeError, struct.error, UnicodeDecodeError, ValueError, IndexError, MemoryError) as error:
            raise MalformedError(f"a message of {len(data)} bytes is no {msgtype}: {error}") from error
        if end > len(body):  # shorter is sound: ROS estimates the length of empty sequences, and leaves anything at the end
            raise MalformedError(f"a message of {len(data)} bytes is no {msgtype}, which would have {end + 4}")
        return message

    return decode


def _recorded(msgtype: str, encoding: str, definition: str) -> Typestore:
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_idl(definition) if encoding == "ros2idl" else get_types_from_msg(definition, msgtype))
    return store


def _known(msgtype: str) -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    _register_installed(store, msgtype)
    return store


def _register_installed(store: Typestore, msgtype: str) -> None:
    """Add a type, and what it consists of, from the share folder of its package."""
    if msgtype in store.fielddefs:
        return
    package, _, name = msgtype.split("/")
    try:
        path = Path(get_package_share_directory(package)) / "msg" / f"{name}.msg"
        definitions = get_types_from_msg(path.read_text(), msgtype)
    except (PackageNotFoundError, OSError) as error:
        raise KeyError(msgtype) from error
    for part in _parts(definitions[msgtype][1]):
        _register_installed(store, part)
    store.register(definitions)


def differing(msgtype: str, encoding: str, definition: str) -> list[str]:
    """Fields of an installed type (those within as ``header.stamp``) that a recorded definition lacks, or has as something else."""
    try:
        return list(_differing(_recorded(msgtype, encoding, definition), _known(msgtype), msgtype)) if definition else []
    except (TypesysError, KeyError, ValueError):
        return []  # the decoder says so


def _differing(recorded: Typestore, known: Typestore, msgtype: str) -> Iterator[str]:
    there = dict(recorded.fielddefs[msgtype][1])
    for name, description in known.fielddefs[msgtype][1]:
        if name not in there or _form(there[name]) != _form(description):
            yield name
        else:
            for part in _parts(description):
                yield from (f"{name}.{inner}" for inner in _differing(recorded, known, part))


def _form(description: Any) -> Any:
    """What a field is to its readers: a message, text, a number, or several of these; sizes of numbers and limits do not matter."""
    kind, inside = description
    if kind is Nodetype.NAME:
        return inside
    if kind is Nodetype.BASE:
        return "text" if inside[0] in ("string", "wstring") else "number"
    return [_form(inside[0])]


def _parts(description: Any) -> set[str]:
    """Names of message types within a parsed definition."""
    if isinstance(description, str):
        return {description} if description.count("/") == 2 else set()
    return set().union(*(_parts(item) for item in description)) if isinstance(description, list | tuple) else set()


@cache
def definition_of(msgtype: str) -> str:
    """The definition of an installed type as bags hold it (``ros2msg``, with all it consists of); UnknownTypeError."""
    try:
        text, _ = _known(msgtype).generate_msgdef(msgtype, ros_version=2)
    except (TypesysError, KeyError, ValueError) as error:
        raise UnknownTypeError(f"type {msgtype} is not installed; build its package and source it") from error
    return text


def type_of(message_class: type) -> str:
    """The name of ROS's own class of a message, as ``sensor_msgs/msg/Image``."""
    return f"{message_class.__module__.split('.')[0]}/msg/{message_class.__name__}"


@cache
def type_hash(msgtype: str) -> str:
    """The hash of an installed type by which publishers and bags name its version (RIHS01)."""
    return str(_known(msgtype).hash_rihs01(msgtype))


def message_class(msgtype: str) -> Any:
    """ROS's own class of an installed type; UnknownTypeError."""
    package, _, name = msgtype.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UnknownTypeError(f"type {msgtype} is not installed; build its package and source it") from error
