"""What stands on the table and how the room looks: plain data, no simulator.

Lengths m, orientations unit quaternions xyzw, the cell's ``base`` frame; the table top is z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Triple = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
Colour = tuple[float, float, float, float]

IDENTITY: Quaternion = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Geom:
    """One solid of an object, in the object's frame.

    size: MuJoCo half sizes: box (x, y, z), sphere (r,), cylinder and capsule (r, half length), ellipsoid (x, y, z).
    rgba: colour and opacity in [0, 1].
    """

    kind: Literal["box", "sphere", "cylinder", "capsule", "ellipsoid"]
    size: tuple[float, ...]
    position: Triple = (0.0, 0.0, 0.0)
    orientation: Quaternion = IDENTITY
    rgba: Colour = (0.8, 0.8, 0.8, 1.0)


@dataclass(frozen=True)
class SceneObject:
    """A rigid object: free to move with the given mass (shared over its geoms by volume), or ``fixed`` to the table."""

    name: str
    geoms: tuple[Geom, ...]
    mass_kg: float
    position: Triple
    orientation: Quaternion = IDENTITY
    friction: float = 1.0
    fixed: bool = False


@dataclass(frozen=True)
class Appearance:
    """Table, room and light. Colours are RGB in [0, 1]; ``table_texture`` patterns the table with ``table_rgb_2``.

    light_position: m, base frame; light_intensity: diffuse strength in [0, 1]; ambient: in [0, 1].
    """

    table_rgb: Triple = (0.80, 0.68, 0.52)
    table_texture: Literal["checker", "stripes"] | None = None
    table_rgb_2: Triple = (0.70, 0.58, 0.42)
    wall_rgb: Triple = (0.80, 0.83, 0.86)
    floor_rgb: Triple = (0.45, 0.46, 0.48)
    light_position: Triple = (0.6, 0.5, 2.2)
    light_intensity: float = 0.4
    ambient: float = 0.5


@dataclass(frozen=True)
class Scene:
    """Everything in the cell but the arms."""

    objects: tuple[SceneObject, ...] = ()
    appearance: Appearance = Appearance()
