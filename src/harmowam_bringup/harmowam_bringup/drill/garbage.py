"""Spoils messages of any type, found out by introspection (``get_fields_and_field_types``); headers are left alone. No rclpy."""

from __future__ import annotations

import copy
import math
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

HEADER = "std_msgs/Header"
_TENSOR_DTYPES = ("float16", "float32", "float64")
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
_DTYPES = {"float": "float32", "double": "float64", "boolean": "bool", "octet": "uint8", "byte": "uint8", "char": "uint8"}


class Garbage(IntEnum):
    """Kinds, by number as an operator gives it."""

    NOT_FINITE = 1
    LENGTHS = 2
    BYTES = 3
    JUMP = 4

    @property
    def text(self) -> str:
        """In words."""
        return _TEXTS[self]


_TEXTS = {
    Garbage.NOT_FINITE: "NaN or infinity in every float field",
    Garbage.LENGTHS: "an array of the wrong length",
    Garbage.BYTES: "random bytes",
    Garbage.JUMP: "floats far from the truth",
}


@dataclass(frozen=True)
class _Leaf:
    """A field that holds no message, or an array of anything: ``setattr(owner, name, ...)`` changes it; ``kind`` as ROS writes it."""

    owner: Any
    name: str
    kind: str

    @property
    def value(self) -> Any:
        return getattr(self.owner, self.name)

    @property
    def element(self) -> str:
        """Type of its elements, or of itself."""
        return re.sub(r"^sequence<(.*?)(, \d+)?>$|\[\d+\]$", r"\1", self.kind)

    @property
    def dtype(self) -> np.dtype | None:
        """Of its numbers; None for text and messages. The bytes of a tensor are what the tensor says they are."""
        told = str(getattr(self.owner, "dtype", ""))
        if self.name == "data" and told in _TENSOR_DTYPES and len(self.value) % np.dtype(told).itemsize == 0:
            return np.dtype(told)
        try:
            return np.dtype(_DTYPES.get(self.element, self.element))
        except TypeError:
            return None

    @property
    def real(self) -> bool:
        """Whether it is made of floats."""
        return self.dtype is not None and self.dtype.kind == "f"

    def numbers(self) -> np.ndarray:
        """A copy of its numbers, (N,)."""
        value = b"".join(self.value) if isinstance(self.value, list) and self.element == "octet" else self.value
        if isinstance(value, (array, bytes)):
            return np.frombuffer(value, self.dtype).copy()
        return np.atleast_1d(np.array(value, self.dtype))

    def write(self, numbers: np.ndarray) -> None:
        """Replace its numbers by as many others, in the container that it has."""
        value, new = self.value, numbers.tobytes()
        if isinstance(value, array):
            value = array(value.typecode, new)
        elif isinstance(value, bytes):
            value = new
        elif isinstance(value, np.ndarray):
            value = numbers.astype(value.dtype)
        elif isinstance(value, list):
            value = [new[i : i + 1] for i in range(len(new))] if self.element == "octet" else numbers.tolist()
        else:
            value = numbers[0].item()
        setattr(self.owner, self.name, value)


def restamped(message: Any, fresh: Any) -> Any:
    """``message`` with the header's stamp of ``fresh``, as a copy; types without a header have nothing to restamp."""
    result = copy.copy(message)
    if message.get_fields_and_field_types().get("header") == HEADER:
        result.header = copy.copy(message.header)
        result.header.stamp = fresh.header.stamp
    return result


def garbled(message: Any, kind: Garbage | None, random: np.random.Generator) -> Any:
    """A spoilt copy; None takes any kind. A type that has nothing to spoil in this way (an image has no floats) gets random bytes."""
    result = copy.deepcopy(message)
    leaves = list(_leaves(result))
    if kind is None:
        kind = Garbage(int(random.integers(len(Garbage))) + 1)
    if not _SPOIL[kind](leaves, random):
        _random_bytes(leaves, random)
    return result


def _leaves(message: Any) -> Iterator[_Leaf]:
    for name, kind in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        if kind == HEADER:
            continue
        if hasattr(value, "get_fields_and_field_types"):
            yield from _leaves(value)
            continue
        yield _Leaf(message, name, kind)
        if "/" in kind:
            for item in value:
                yield from _leaves(item)


def _not_finite(leaves: list[_Leaf], random: np.random.Generator) -> bool:
    """One element of every float field, so that nothing less than a look at all of them finds it."""
    spoilt = False
    for leaf in leaves:
        if leaf.real and len(numbers := leaf.numbers()):
            numbers[random.integers(len(numbers))] = random.choice([math.nan, math.inf, -math.inf])
            leaf.write(numbers)
            spoilt = True
    return spoilt


def _wrong_length(leaves: list[_Leaf], random: np.random.Generator) -> bool:
    """One array that is not empty loses its last element or, unless its length is bounded, has it twice."""
    arrays = [leaf for leaf in leaves if leaf.kind.startswith("sequence<") and len(leaf.value)]
    if not arrays:
        return False
    leaf = arrays[random.integers(len(arrays))]
    setattr(leaf.owner, leaf.name, leaf.value[:-1] if "," in leaf.kind or random.random() < 0.5 else leaf.value + leaf.value[-1:])
    return True


def _random_bytes(leaves: list[_Leaf], random: np.random.Generator) -> bool:
    """Every number, and letters for text; lengths stay."""
    for leaf in leaves:
        if leaf.dtype is not None:
            numbers = leaf.numbers()
            noise = np.frombuffer(random.bytes(numbers.nbytes), numbers.dtype if leaf.dtype.kind != "b" else np.uint8)
            leaf.write(noise % 2 == 0 if leaf.dtype.kind == "b" else noise)
        elif isinstance(leaf.value, str):
            setattr(leaf.owner, leaf.name, _word(leaf.value, random))
        elif leaf.element.endswith("string"):
            setattr(leaf.owner, leaf.name, [_word(text, random) for text in leaf.value])
    return True


def _word(text: str, random: np.random.Generator) -> str:
    return "".join(random.choice(_LETTERS, len(text)))


def _jump(leaves: list[_Leaf], random: np.random.Generator) -> bool:
    """Every float moves by 0.5 to 2 of its unit, a field as a whole: sound in form and still wrong."""
    spoilt = False
    for leaf in leaves:
        if leaf.real and len(numbers := leaf.numbers()):
            leaf.write(numbers + numbers.dtype.type(random.choice([-1, 1]) * random.uniform(0.5, 2.0)))
            spoilt = True
    return spoilt


_SPOIL: dict[Garbage, Callable[[list[_Leaf], np.random.Generator], bool]] = {
    Garbage.NOT_FINITE: _not_finite,
    Garbage.LENGTHS: _wrong_length,
    Garbage.BYTES: _random_bytes,
    Garbage.JUMP: _jump,
}
