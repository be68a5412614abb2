"""The catalogue of objects, built from primitives, and which of them training never sees.

Every object is named by a colour and a noun ("yellow banana"). Its frame has z up and its origin on the table at the point
below the grasp; the long axis of elongated objects is x, so that the hand closes along y. Lengths m, masses kg.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from harmowam_sim.scene import Colour, Geom, SceneObject, Triple

Category = Literal["fruit", "can", "plate", "block", "ball", "cylinder", "clutter", "obstacle"]

COLOURS: dict[str, Triple] = {
    "red": (0.82, 0.10, 0.10),
    "orange": (0.95, 0.48, 0.08),
    "yellow": (0.96, 0.82, 0.12),
    "green": (0.18, 0.58, 0.16),
    "blue": (0.12, 0.28, 0.78),
    "purple": (0.42, 0.14, 0.52),
    "pink": (0.95, 0.55, 0.62),
    "brown": (0.40, 0.24, 0.13),
    "white": (0.93, 0.93, 0.91),
    "black": (0.08, 0.08, 0.09),
    "silver": (0.70, 0.72, 0.75),
    "turquoise": (0.12, 0.66, 0.66),
    "magenta": (0.80, 0.12, 0.55),
    "olive": (0.45, 0.46, 0.16),
    "tan": (0.80, 0.66, 0.46),
}


@dataclass(frozen=True)
class ObjectKind:
    """One kind of object.

    half_extents: (x, y) of the footprint's bounding box in the object's frame.
    height: of its highest point above the table, standing as spawned.
    grasp_height: of the TCP above the table, when grasping it there.
    surface_height: where something put on it rests; its own height unless it is hollow.
    """

    colour: str
    noun: str
    category: Category
    geoms: tuple[Geom, ...]
    mass_kg: float
    half_extents: tuple[float, float]
    height: float
    grasp_height: float
    surface_height: float
    friction: float = 1.0

    @property
    def name(self) -> str:
        """Colour and noun, unique in the catalogue."""
        return f"{self.colour} {self.noun}"

    @property
    def radius(self) -> float:
        """Of the circle around the footprint, about the object's origin."""
        return float(np.hypot(*self.half_extents))

    @property
    def elongated(self) -> bool:
        """Whether the hand must align its yaw to grasp it."""
        return self.half_extents[0] > 1.4 * self.half_extents[1]

    @property
    def tall(self) -> bool:
        """Whether it counts as an obstacle that must not be knocked over."""
        return self.category == "obstacle"

    def at(self, x: float, y: float, yaw_rad: float = 0.0) -> SceneObject:
        """This object standing on the table."""
        return SceneObject(
            name=self.name,
            geoms=self.geoms,
            mass_kg=self.mass_kg,
            position=(float(x), float(y), 0.0005),
            orientation=(0.0, 0.0, float(np.sin(yaw_rad / 2)), float(np.cos(yaw_rad / 2))),
            friction=self.friction,
        )


def _rgba(colour: str | Triple, shade: float = 1.0) -> Colour:
    r, g, b = COLOURS[colour] if isinstance(colour, str) else colour
    return (r * shade, g * shade, b * shade, 1.0)


def _along_x(yaw_rad: float = 0.0, pitch_rad: float = 0.0) -> tuple[float, float, float, float]:
    """Orientation that lays a capsule's or cylinder's axis (z) along x, turned by yaw; pitch lifts its +x end."""
    half_tilt, half_yaw = (np.pi / 2 - pitch_rad) / 2, yaw_rad / 2
    # Rz(yaw) * Ry(pi/2 - pitch)
    return (
        float(-np.sin(half_yaw) * np.sin(half_tilt)),
        float(np.cos(half_yaw) * np.sin(half_tilt)),
        float(np.sin(half_yaw) * np.cos(half_tilt)),
        float(np.cos(half_yaw) * np.cos(half_tilt)),
    )


def _foot(radius_x: float, radius_y: float, rgba: Colour) -> Geom:
    """A thin flat underside, so that round things stay where they are put."""
    return Geom("box", (radius_x, radius_y, 0.002), (0.0, 0.0, 0.002), rgba=rgba)


def _fruit(
    colour: str, noun: str, geoms: tuple[Geom, ...], half_extents: tuple[float, float], height: float, mass_kg: float = 0.09
) -> ObjectKind:
    # The finger tips reach a little below the middle, but never so low that they scrape the table.
    return ObjectKind(colour, noun, "fruit", geoms, mass_kg, half_extents, height, max(0.45 * height, 0.015), height, friction=1.2)


def _banana() -> ObjectKind:
    body, tip, bend, radius = _rgba("yellow"), _rgba("brown"), 0.085, 0.0165
    angles = np.linspace(-0.8, 0.8, 6)
    points = np.stack([bend * np.sin(angles), bend * (np.cos(angles) - 1) + 0.004], 1)
    geoms = [_foot(0.022, 0.008, body)]
    for a, b in zip(points[:-1], points[1:], strict=True):
        middle, along = (a + b) / 2, b - a
        yaw = float(np.arctan2(along[1], along[0]))
        half, centre = float(np.hypot(*along)) / 2, (float(middle[0]), float(middle[1]), radius)
        geoms.append(Geom("capsule", (radius, half), centre, _along_x(yaw), body))
    for x, y in (points[0], points[-1]):
        geoms.append(Geom("sphere", (0.009,), (float(x * 1.24), float(y * 1.18), radius), rgba=tip))
    return _fruit("yellow", "banana", tuple(geoms), (0.078, 0.038), 2 * radius)


def _carrot() -> ObjectKind:
    body, leaf = _rgba("orange"), _rgba("green")
    geoms = [_foot(0.02, 0.009, body)]
    for x, radius, half in ((0.028, 0.0205, 0.012), (0.0, 0.0185, 0.014), (-0.026, 0.0155, 0.014), (-0.048, 0.0115, 0.012)):
        geoms.append(Geom("capsule", (radius, half), (x, 0.0, 0.0205), _along_x(), body))
    for yaw in (-0.5, 0.0, 0.5):
        geoms.append(Geom("capsule", (0.005, 0.014), (0.062, 0.014 * yaw, 0.0235), _along_x(yaw, 0.25), leaf))
    return _fruit("orange", "carrot", tuple(geoms), (0.080, 0.021), 0.041)


def _ellipsoid_fruit(
    colour: str, noun: str, half: Triple, *, body: Colour | None = None, extra: tuple[Geom, ...] = (), mass_kg: float = 0.09
) -> ObjectKind:
    rgba = body or _rgba(colour)
    geoms = (
        _foot(half[0] * 0.5, half[1] * 0.5, rgba),
        Geom("ellipsoid", half, (0.0, 0.0, half[2]), rgba=rgba),
        *extra,
    )
    return _fruit(colour, noun, geoms, (half[0], half[1]), 2 * half[2], mass_kg)


def _stem(height: float, rgba: Colour) -> Geom:
    return Geom("cylinder", (0.0035, 0.006), (0.0, 0.0, height + 0.003), rgba=rgba)


def _cucumber() -> ObjectKind:
    rgba = _rgba((0.16, 0.46, 0.12))
    geoms = (
        _foot(0.035, 0.009, rgba),
        Geom("capsule", (0.0195, 0.048), (0.0, 0.0, 0.0195), _along_x(), rgba),
        Geom("sphere", (0.0155,), (0.054, 0.0, 0.0195), rgba=_rgba((0.45, 0.66, 0.30))),
    )
    return _fruit("green", "cucumber", geoms, (0.070, 0.0195), 0.039)


def _mushroom() -> ObjectKind:
    rgba = _rgba("white")
    geoms = (
        Geom("cylinder", (0.014, 0.014), (0.0, 0.0, 0.014), rgba=_rgba((0.88, 0.82, 0.72))),
        Geom("ellipsoid", (0.0265, 0.0265, 0.017), (0.0, 0.0, 0.032), rgba=rgba),
    )
    return replace(_fruit("white", "mushroom", geoms, (0.0265, 0.0265), 0.049), grasp_height=0.030)


def _pepper() -> ObjectKind:
    rgba, stem = _rgba((0.12, 0.50, 0.10)), _rgba((0.30, 0.42, 0.12))
    centres = tuple((float(0.009 * np.cos(a)), float(0.0075 * np.sin(a)), 0.027) for a in (0.5, 2.6, 4.7))
    lobes = tuple(Geom("ellipsoid", (0.019, 0.019, 0.027), centre, rgba=rgba) for centre in centres)
    return _fruit("green", "pepper", (_foot(0.016, 0.013, rgba), *lobes, _stem(0.052, stem)), (0.028, 0.0265), 0.054)


def _eggplant() -> ObjectKind:
    rgba, cap = _rgba((0.30, 0.10, 0.40)), _rgba("green", 0.8)
    geoms = (
        _foot(0.024, 0.010, rgba),
        Geom("ellipsoid", (0.040, 0.0255, 0.0255), (-0.022, 0.0, 0.0255), rgba=rgba),
        Geom("capsule", (0.019, 0.030), (0.014, 0.0, 0.0225), _along_x(), rgba),
        Geom("ellipsoid", (0.012, 0.021, 0.021), (0.056, 0.0, 0.0225), rgba=cap),
        Geom("capsule", (0.006, 0.010), (0.072, 0.0, 0.0235), _along_x(), cap),
    )
    return _fruit("purple", "eggplant", geoms, (0.082, 0.0255), 0.051)


def _lemon() -> ObjectKind:
    rgba = _rgba((0.95, 0.86, 0.18))
    tips = tuple(Geom("sphere", (0.008,), (x, 0.0, 0.022), rgba=rgba) for x in (-0.030, 0.030))
    return _ellipsoid_fruit("yellow", "lemon", (0.032, 0.022, 0.022), body=rgba, extra=tips)


def can(
    colour: str, *, radius: float = 0.027, height: float = 0.098, band: Colour | None = None, mass_kg: float = 0.16, noun: str = "can"
) -> ObjectKind:
    """A drinks can with metal rims and a coloured body; ``band`` paints a ring around its middle."""
    metal, half = _rgba("silver"), height / 2
    geoms = [
        Geom("cylinder", (radius, half - 0.006), (0.0, 0.0, half), rgba=_rgba(colour)),
        Geom("cylinder", (radius * 0.92, half), (0.0, 0.0, half), rgba=metal),
    ]
    if band is not None:
        geoms.append(Geom("cylinder", (radius + 0.0003, half * 0.30), (0.0, 0.0, half), rgba=band))
    return ObjectKind(colour, noun, "can", tuple(geoms), mass_kg, (radius, radius), height, height - 0.033, height)


def plate(colour: str) -> ObjectKind:
    """A flat plate, 16 cm across, with a brighter middle."""
    r, g, b = COLOURS[colour]
    middle = (min(r * 1.08 + 0.06, 1.0), min(g * 1.08 + 0.06, 1.0), min(b * 1.08 + 0.06, 1.0))
    geoms = (
        Geom("cylinder", (0.080, 0.005), (0.0, 0.0, 0.005), rgba=_rgba(colour)),
        Geom("cylinder", (0.056, 0.0057), (0.0, 0.0, 0.0057), rgba=_rgba(middle)),
    )
    return ObjectKind(colour, "plate", "plate", geoms, 0.45, (0.080, 0.080), 0.0114, 0.0114, 0.0114)


def block(colour: str, half: float = 0.022) -> ObjectKind:
    """A cube."""
    geoms = (Geom("box", (half, half, half), (0.0, 0.0, half), rgba=_rgba(colour)),)
    return ObjectKind(colour, "block", "block", geoms, 0.09, (half, half), 2 * half, half, 2 * half)


def ball(colour: str, radius: float = 0.024) -> ObjectKind:
    """A ball with a flat underside."""
    rgba = _rgba(colour)
    geoms = (_foot(0.5 * radius, 0.5 * radius, rgba), Geom("sphere", (radius,), (0.0, 0.0, radius), rgba=rgba))
    return ObjectKind(colour, "ball", "ball", geoms, 0.07, (radius, radius), 2 * radius, 0.9 * radius, 2 * radius, friction=1.2)


def cylinder(colour: str, radius: float = 0.024, height: float = 0.06) -> ObjectKind:
    """A short upright cylinder."""
    geoms = (Geom("cylinder", (radius, height / 2), (0.0, 0.0, height / 2), rgba=_rgba(colour)),)
    return ObjectKind(colour, "cylinder", "cylinder", geoms, 0.10, (radius, radius), height, height / 2, height)


def jar(colour: str, label: str) -> ObjectKind:
    """A squat cylinder without rims, with a label of another colour all around it."""
    geoms = (
        Geom("cylinder", (0.027, 0.036), (0.0, 0.0, 0.036), rgba=_rgba(colour)),
        Geom("cylinder", (0.0273, 0.012), (0.0, 0.0, 0.036), rgba=_rgba(label)),
    )
    return ObjectKind(colour, "jar", "cylinder", geoms, 0.14, (0.0273, 0.0273), 0.072, 0.042, 0.072)


def mug(colour: str) -> ObjectKind:
    """A mug with a handle towards -x; clutter, never grasped."""
    rgba, inside = _rgba(colour), _rgba(colour, 0.45)
    geoms = (
        Geom("cylinder", (0.034, 0.040), (0.0, 0.0, 0.040), rgba=rgba),
        Geom("cylinder", (0.029, 0.0004), (0.0, 0.0, 0.0801), rgba=inside),
        Geom("capsule", (0.005, 0.016), (-0.050, 0.0, 0.040), rgba=rgba),
        Geom("capsule", (0.005, 0.009), (-0.042, 0.0, 0.058), _along_x(), rgba),
        Geom("capsule", (0.005, 0.009), (-0.042, 0.0, 0.022), _along_x(), rgba),
    )
    return ObjectKind(colour, "mug", "clutter", geoms, 0.30, (0.056, 0.034), 0.081, 0.04, 0.081)


def carton(colour: str, half: Triple = (0.030, 0.045, 0.025), noun: str = "carton") -> ObjectKind:
    """A low box with a pale label; clutter."""
    label = Geom("box", (half[0] * 0.6, half[1] * 0.6, 0.0004), (0.0, 0.0, 2 * half[2]), rgba=(0.92, 0.90, 0.84, 1.0))
    geoms = (Geom("box", half, (0.0, 0.0, half[2]), rgba=_rgba(colour)), label)
    return ObjectKind(colour, noun, "clutter", geoms, 0.20, (half[0], half[1]), 2 * half[2], half[2], 2 * half[2])


def duck(colour: str) -> ObjectKind:
    """A bath duck; clutter."""
    rgba = _rgba(colour)
    geoms = (
        _foot(0.02, 0.014, rgba),
        Geom("ellipsoid", (0.036, 0.026, 0.022), (0.0, 0.0, 0.022), rgba=rgba),
        Geom("sphere", (0.018,), (0.022, 0.0, 0.050), rgba=rgba),
        Geom("ellipsoid", (0.009, 0.008, 0.004), (0.042, 0.0, 0.048), rgba=_rgba("orange")),
    )
    return ObjectKind(colour, "duck", "clutter", geoms, 0.10, (0.052, 0.026), 0.068, 0.02, 0.068)


def bowl(colour: str) -> ObjectKind:
    """A low bowl, drawn as two stacked discs and a dark inside; clutter."""
    geoms = (
        Geom("cylinder", (0.030, 0.008), (0.0, 0.0, 0.008), rgba=_rgba(colour, 0.8)),
        Geom("cylinder", (0.048, 0.012), (0.0, 0.0, 0.026), rgba=_rgba(colour)),
        Geom("cylinder", (0.041, 0.0004), (0.0, 0.0, 0.0381), rgba=_rgba(colour, 0.5)),
    )
    return ObjectKind(colour, "bowl", "clutter", geoms, 0.25, (0.048, 0.048), 0.0385, 0.02, 0.0385)


def bottle(colour: str, height: float = 0.21, radius: float = 0.028, mass_kg: float = 0.9, cap: str = "white") -> ObjectKind:
    """A tall bottle with a neck: an obstacle that can be knocked over."""
    body = 0.64 * height
    geoms = (
        Geom("cylinder", (radius, body / 2), (0.0, 0.0, body / 2), rgba=_rgba(colour)),
        Geom("ellipsoid", (radius, radius, 0.028), (0.0, 0.0, body), rgba=_rgba(colour)),
        Geom("cylinder", (0.012, (height - body) / 2 - 0.004), (0.0, 0.0, (height + body) / 2), rgba=_rgba(colour)),
        Geom("cylinder", (0.0145, 0.010), (0.0, 0.0, height - 0.010), rgba=_rgba(cap)),
        Geom("cylinder", (radius + 0.0004, 0.030), (0.0, 0.0, body * 0.5), rgba=_rgba(cap)),
    )
    return ObjectKind(colour, "bottle", "obstacle", geoms, mass_kg, (radius, radius), height, height / 2, height)


def tall_box(colour: str, half: Triple = (0.020, 0.028, 0.10), mass_kg: float = 0.8, label: str = "white", noun: str = "box") -> ObjectKind:
    """A standing packet with a label towards the camera: an obstacle that can be knocked over."""
    front = Geom("box", (0.0004, half[1] * 0.7, half[2] * 0.45), (half[0], 0.0, half[2] * 1.15), rgba=_rgba(label))
    geoms = (Geom("box", half, (0.0, 0.0, half[2]), rgba=_rgba(colour)), front)
    return ObjectKind(colour, noun, "obstacle", geoms, mass_kg, (half[0], half[1]), 2 * half[2], half[2], 2 * half[2])


def _named(*kinds: ObjectKind) -> dict[str, ObjectKind]:
    named = {kind.name: kind for kind in kinds}
    if len(named) != len(kinds):
        raise ValueError(f"two kinds share a name among {[kind.name for kind in kinds]}")
    return named


# The split. "train" may occur in demonstrations and in play; "held out" occurs in neither, only in unseen environments.
_LEAF: Colour = _rgba("green", 0.8)
_WOOD: Colour = _rgba("brown")

TRAIN_FRUITS = _named(
    _banana(),
    _carrot(),
    _ellipsoid_fruit("red", "apple", (0.027, 0.027, 0.025), extra=(_stem(0.048, _WOOD),)),
    _cucumber(),
    _ellipsoid_fruit("orange", "tangerine", (0.0265, 0.0265, 0.022), extra=(_stem(0.040, _LEAF),)),
    _ellipsoid_fruit("purple", "plum", (0.0245, 0.0235, 0.0225)),
    _ellipsoid_fruit("green", "lime", (0.027, 0.0225, 0.0225), body=_rgba((0.44, 0.72, 0.14))),
    _ellipsoid_fruit("brown", "kiwi", (0.029, 0.0235, 0.0225)),
    _mushroom(),
)
HELD_OUT_FRUITS = _named(
    _pepper(),
    _eggplant(),
    _lemon(),
    _ellipsoid_fruit("pink", "peach", (0.0265, 0.0265, 0.0255), extra=(_stem(0.049, _LEAF),)),
)
TRAIN_CANS = _named(*(can(colour) for colour in ("red", "blue", "green", "orange", "white", "purple")))
HELD_OUT_CANS = _named(
    can("silver", radius=0.0245, height=0.108, band=_rgba("blue"), mass_kg=0.14),
    can("black", band=_rgba("green"), mass_kg=0.16),
    can("yellow", radius=0.0255, height=0.092, mass_kg=0.15),
)
TRAIN_PLATES = _named(*(plate(colour) for colour in ("white", "blue")))
PLAY_PLATES = _named(*(plate(colour) for colour in ("white", "blue", "green", "yellow", "black", "red", "tan")))
HELD_OUT_PLATES = _named(plate("pink"), plate("turquoise"))
TRAIN_CLUTTER = _named(
    mug("white"), mug("blue"), mug("red"), carton("brown"), carton("blue", (0.022, 0.034, 0.020)), block("red"), block("blue"),
    block("yellow"), block("green"), ball("white"), ball("purple"), bowl("white"), bowl("tan"),
)  # fmt: skip
HELD_OUT_CLUTTER = _named(
    mug("pink"), mug("black"), mug("olive"), carton("turquoise"), carton("magenta", (0.026, 0.026, 0.030), "gift"), duck("yellow"),
    duck("pink"), bowl("turquoise"), bowl("magenta"), carton("olive", (0.018, 0.060, 0.014), "case"),
    carton("black", (0.035, 0.018, 0.016), "case"),
)  # fmt: skip
TRAIN_OBSTACLES = _named(
    bottle("green", 0.22), bottle("brown", 0.20, 0.027, 0.8, "yellow"), bottle("blue", 0.24, 0.029, 1.1),
    tall_box("red", (0.020, 0.028, 0.100)), tall_box("yellow", (0.018, 0.026, 0.090), 0.7, "blue"),
    tall_box("blue", (0.020, 0.029, 0.110), 0.9),
)  # fmt: skip
HELD_OUT_OBSTACLES = _named(
    bottle("pink", 0.20, 0.027, 0.8), bottle("black", 0.23, 0.029, 1.0, "silver"), bottle("turquoise", 0.21, 0.028, 0.9, "black"),
    tall_box("magenta", (0.019, 0.027, 0.095), 0.7, "yellow", "packet"), tall_box("olive", (0.020, 0.028, 0.105), 0.8, "white", "packet"),
)  # fmt: skip

PLAY_COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black", "silver")
PLAY_SHAPES = _named(*(make(colour) for make in (block, ball, cylinder) for colour in PLAY_COLOURS))
# That something is called by its main colour whatever its label's, and that cans come in sizes, cannot be learnt from plain ones alone.
PLAY_CANS = _named(
    can("pink"), can("brown"),
    can("red", radius=0.025, height=0.112, band=_rgba("white"), noun="soda can"),
    can("blue", radius=0.0272, height=0.090, band=_rgba("yellow"), noun="soda can"),
    can("green", radius=0.024, height=0.104, band=_rgba("black"), noun="soda can"),
    can("orange", radius=0.0272, height=0.104, band=_rgba("blue"), noun="soda can"),
    can("white", radius=0.024, height=0.090, band=_rgba("red"), noun="soda can"),
    can("purple", radius=0.026, height=0.112, band=_rgba("orange"), noun="soda can"),
    can("pink", radius=0.0272, height=0.098, band=_rgba("purple"), noun="soda can"),
    can("brown", radius=0.025, height=0.098, band=_rgba("silver"), noun="soda can"),
)  # fmt: skip
PLAY_JARS = _named(*(
    jar(colour, label) for colour, label in (
        ("red", "silver"), ("orange", "purple"), ("yellow", "red"), ("green", "white"), ("blue", "pink"), ("purple", "yellow"),
        ("pink", "green"), ("brown", "orange"), ("white", "blue"), ("black", "pink"), ("silver", "red"),
    )
))  # fmt: skip

TRAIN_KINDS: dict[str, ObjectKind] = {
    **PLAY_SHAPES, **PLAY_CANS, **PLAY_JARS, **PLAY_PLATES, **TRAIN_CLUTTER, **TRAIN_PLATES, **TRAIN_CANS, **TRAIN_FRUITS, **TRAIN_OBSTACLES
}  # fmt: skip
HELD_OUT_KINDS: dict[str, ObjectKind] = {**HELD_OUT_FRUITS, **HELD_OUT_CANS, **HELD_OUT_PLATES, **HELD_OUT_CLUTTER, **HELD_OUT_OBSTACLES}
KINDS: dict[str, ObjectKind] = {**TRAIN_KINDS, **HELD_OUT_KINDS}
