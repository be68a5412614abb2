"""The MuJoCo model of a cell and a scene: arms from the cell's URDF, hands, table, room, cameras, objects."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Camera, Cell
from harmowam_core.kinematics import resolve_urdf
from harmowam_sim.assets import RGBA, VisualMesh, franka_meshes
from harmowam_sim.scene import Appearance, Geom, Scene, SceneObject

Float64 = NDArray[np.float64]

TIMESTEP_S = 0.002
# Stiffness and damping of the joint servos, Nm/rad and Nm s/rad. Overdamped: they follow by velocity feed-forward.
ARM_KP = np.array([4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0])
ARM_KD = ARM_KP / 10
ARM_ARMATURE = 0.1  # kg m^2, rotor inertia seen at the joint
GRIP_FORCE_N = 35.0  # of one finger
GRIP_FULL_FORCE_M = 0.005  # finger position error that takes the full force
FINGER_DAMPING = 300.0  # N s/m: limits a finger to some 0.12 m/s, as the hand's own drive does

TABLE_LOWER, TABLE_UPPER = np.array([-0.16, -0.70, -0.04]), np.array([0.84, 0.70, 0.0])
FLOOR_Z_M = -0.75
WALL_X_M = -0.45

# Who collides with whom: an arm with everything but itself (its joint limits and the arbiter see to that).
WORLD_BIT = 1
CONTACT_SOLREF = (0.006, 1.0)
CONTACT_SOLIMP = (0.95, 0.99, 0.001, 0.5, 2.0)
VISUAL_GROUP, COLLISION_GROUP = 1, 3
GEOM_TYPES = {
    "box": (mujoco.mjtGeom.mjGEOM_BOX, 3),
    "sphere": (mujoco.mjtGeom.mjGEOM_SPHERE, 1),
    "cylinder": (mujoco.mjtGeom.mjGEOM_CYLINDER, 2),
    "capsule": (mujoco.mjtGeom.mjGEOM_CAPSULE, 2),
    "ellipsoid": (mujoco.mjtGeom.mjGEOM_ELLIPSOID, 3),
}
HEADLIGHT = 0.2  # diffuse light from the camera, so that sides away from the lamp keep their shape


class SceneError(ValueError):
    """A scene cannot be built; the message names the object and what is wrong with it."""


@dataclass(frozen=True)
class _Link:
    """A URDF link with the joint that carries it, in the parent link's frame."""

    name: str
    position: Float64
    quaternion_wxyz: Float64
    mass: float
    centre: Float64
    inertia: tuple[float, ...]  # xx yy zz xy xz yz
    effort: float


def wxyz(xyzw: Any) -> Float64:
    """xyzw to MuJoCo's order."""
    return np.roll(np.asarray(xyzw, dtype=np.float64), 1)


def xyzw(wxyz_: Any) -> Float64:
    """MuJoCo's order to xyzw."""
    return np.roll(np.asarray(wxyz_, dtype=np.float64), -1)


def build_model(scene: Scene, cell: Cell) -> mujoco.MjModel:
    """Compile ``build_spec``."""
    return build_spec(scene, cell).compile()


def build_spec(scene: Scene, cell: Cell) -> mujoco.MjSpec:
    """Bodies: ``<arm>_link0..7``, ``<arm>_hand``, ``<arm>_finger1/2``, ``<arm>_tcp`` (with a site), objects by name.

    Actuators: all arm joints in the cell's order, then one gripper an arm. SceneError for a malformed scene.
    """
    spec = mujoco.MjSpec()
    spec.modelname = cell.name
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 160, 128  # grows on demand
    _add_room(spec, scene.appearance)
    _add_arms(spec, cell)
    for camera in cell.cameras:
        if camera.calibration is not None:
            what = f"camera '{camera.name}' of cell '{cell.name}' is calibrated, and only nominal cameras are rendered"
            raise SceneError(f"{what}; simulate a profile without calibration, such as franka_dual")
        _add_camera(spec, camera)
    taken = {body.name for body in spec.bodies} | {"table", *(f"{arm.name}_hand" for arm in cell.arms)}
    for thing in scene.objects:
        if thing.name in taken:
            raise SceneError(f"object '{thing.name}': the name is already taken; give every object its own")
        taken.add(thing.name)
        _add_object(spec, thing)
    return spec


# Room ---------------------------------------------------------------------------------------------------------------


def _add_room(spec: mujoco.MjSpec, look: Appearance) -> None:
    visual = spec.visual
    # A shadow map costs its area; a cone just wider than the table keeps it sharp at this size. No multisampling: models see
    # area-resized pictures, and videos are rendered larger than they are shown.
    visual.quality.shadowsize = 512
    visual.map.shadowscale = 0.4
    visual.quality.offsamples = 0
    visual.quality.numslices, visual.quality.numstacks = 18, 10  # round things: smooth enough, and vertices cost time
    # As a camera's exposure would, keep a lit horizontal surface from clipping.
    exposure = min(1.0, 1.0 / (look.ambient + 0.95 * look.light_intensity + 0.6 * HEADLIGHT))
    visual.headlight.ambient[:] = exposure * look.ambient
    visual.headlight.diffuse[:] = exposure * HEADLIGHT
    visual.headlight.specular[:] = 0.0
    # The extent scales clipping planes and shadows: fixed, so that pictures do not depend on what stands on the table.
    spec.stat.extent = 2.0
    spec.stat.center[:] = (0.4, 0.0, 0.0)
    visual.map.znear, visual.map.zfar = 0.006, 10.0

    target = np.array([0.45, 0.0, 0.0])
    spec.worldbody.add_light(
        name="ceiling",
        type=mujoco.mjtLightType.mjLIGHT_SPOT,
        pos=look.light_position,
        dir=(target - look.light_position) / np.linalg.norm(target - look.light_position),
        diffuse=[exposure * look.light_intensity] * 3,
        ambient=[0.0] * 3,
        specular=[0.15] * 3,
        cutoff=60.0,
        exponent=0.0,
        castshadow=True,
    )
    _add_table_material(spec, look)
    world = spec.worldbody
    table = {"contype": WORLD_BIT, "conaffinity": _everything(), "condim": 4, "friction": (0.8, 0.005, 0.0005)}
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, pos=(TABLE_LOWER + TABLE_UPPER) / 2, size=(TABLE_UPPER - TABLE_LOWER) / 2,
        material="table", solref=CONTACT_SOLREF, solimp=CONTACT_SOLIMP, **table,
    )  # fmt: skip
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=(0.5, 0.0, FLOOR_Z_M - 0.01),
        size=(2.5, 2.5, 0.01),
        rgba=(*look.floor_rgb, 1.0),
        **table,
    )
    world.add_geom(
        name="wall", type=mujoco.mjtGeom.mjGEOM_BOX, pos=(WALL_X_M - 0.01, 0.0, 0.5), size=(0.01, 2.5, 1.25), rgba=(*look.wall_rgb, 1.0),
        contype=0, conaffinity=0,
    )  # fmt: skip


def _add_table_material(spec: mujoco.MjSpec, look: Appearance) -> None:
    material = spec.add_material(name="table", specular=0.1, shininess=0.2, rgba=(*look.table_rgb, 1.0))
    if look.table_texture is None:
        return
    if look.table_texture not in ("checker", "stripes"):
        raise SceneError(f"table_texture is '{look.table_texture}'; it can be None, 'checker' or 'stripes'")
    cells = np.indices((256, 256)) // 32 % 2
    second = cells[0] ^ cells[1] if look.table_texture == "checker" else cells[0]
    pixels = np.where(second[..., None], np.array(look.table_rgb_2), np.array(look.table_rgb))  # (256, 256, 3)
    texture = spec.add_texture(name="table", type=mujoco.mjtTexture.mjTEXTURE_2D, width=256, height=256, nchannel=3)
    texture.data = (pixels * 255).astype(np.uint8).tobytes()
    material.rgba = (1.0, 1.0, 1.0, 1.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "table"
    material.texuniform = True
    material.texrepeat[:] = (1.6, 1.6)  # pattern fields of some 8 cm


def _everything() -> int:
    return 0b1111111


# Arms ---------------------------------------------------------------------------------------------------------------


def _read_urdf(cell: Cell) -> list[_Link]:
    """The chain of links from the base to the flange."""
    root = ET.parse(resolve_urdf(cell.urdf)).getroot()
    links = {link.attrib["name"]: link for link in root.findall("link")}
    by_child = {child.attrib["link"]: joint for joint in root.findall("joint") if (child := joint.find("child")) is not None}
    chain: list[_Link] = []
    name = cell.tool.flange
    while name in by_child:
        joint = by_child[name]
        chain.insert(0, _read_link(links[name], joint))
        name = joint.find("parent").attrib["link"]  # type: ignore[union-attr]
    return chain


def _read_link(link: ET.Element, joint: ET.Element) -> _Link:
    position, quaternion = _read_origin(joint.find("origin"))
    inertial, limit = link.find("inertial"), joint.find("limit")
    mass, centre = 0.0, np.zeros(3)
    inertia: tuple[float, ...] = (0.0,) * 6
    if inertial is not None:
        mass = float(inertial.find("mass").attrib["value"])  # type: ignore[union-attr]
        centre, _ = _read_origin(inertial.find("origin"))
        tensor = inertial.find("inertia").attrib  # type: ignore[union-attr]
        inertia = tuple(float(tensor[key]) for key in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz"))
    effort = float(limit.attrib["effort"]) if limit is not None else 0.0
    return _Link(link.attrib["name"], position, quaternion, mass, centre, inertia, effort)


def _read_origin(origin: ET.Element | None) -> tuple[Float64, Float64]:
    values = {} if origin is None else origin.attrib
    quaternion = np.zeros(4)
    # URDF's roll, pitch, yaw turn about fixed axes: capitals in MuJoCo.
    mujoco.mju_euler2Quat(quaternion, np.array(values.get("rpy", "0 0 0").split(), dtype=np.float64), "XYZ")
    return np.array(values.get("xyz", "0 0 0").split(), dtype=np.float64), quaternion


def _add_arms(spec: mujoco.MjSpec, cell: Cell) -> None:
    meshes = franka_meshes()
    for kind, rgba in RGBA.items():
        spec.add_material(name=kind, rgba=rgba, specular=0.3, shininess=0.4)
    for mesh in meshes:
        asset = spec.add_mesh(name=mesh.name, file=str(mesh.path))
        asset.smoothnormal = True
        asset.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL  # never used, but must exist for open shells
    chain = _read_urdf(cell)
    for index in range(len(cell.arms)):
        _add_arm(spec, cell, index, chain, meshes)
    for arm in cell.arms:
        for joint, name in enumerate(cell.joints):
            _add_servo(spec, f"{arm.name}_{name}", mujoco.mjtTrn.mjTRN_JOINT, ARM_KP[joint], ARM_KD[joint], chain[joint + 1].effort)
    for arm in cell.arms:
        # The tendon's length is the fingers' mean position; each finger gets half of its force.
        _add_servo(spec, f"{arm.name}_gripper", mujoco.mjtTrn.mjTRN_TENDON, 2 * GRIP_FORCE_N / GRIP_FULL_FORCE_M, 0.0, 2 * GRIP_FORCE_N)


def _add_servo(spec: mujoco.MjSpec, target: str, transmission: mujoco.mjtTrn, kp: float, kd: float, force: float) -> None:
    servo = spec.add_actuator(name=target, target=target, trntype=transmission)
    servo.gaintype, servo.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    servo.gainprm[0] = kp
    servo.biasprm[1], servo.biasprm[2] = -kp, -kd
    servo.forcelimited, servo.forcerange = True, (-force, force)


def _add_arm(spec: mujoco.MjSpec, cell: Cell, index: int, chain: list[_Link], meshes: tuple[VisualMesh, ...]) -> None:
    arm, prefix = cell.arms[index], f"{cell.arms[index].name}_"
    bit = WORLD_BIT << (index + 1)
    solid = {
        "contype": bit, "conaffinity": _everything() & ~bit, "group": COLLISION_GROUP,
        "solref": CONTACT_SOLREF, "solimp": CONTACT_SOLIMP, "mass": 0.0,
    }  # fmt: skip
    body = spec.worldbody.add_body(name=f"{prefix}{chain[0].name}", pos=arm.base_position, quat=wxyz(arm.base_orientation))
    _add_meshes(body, chain[0].name, meshes)
    for link, joint_name, lower, upper in zip(
        chain[1:-1], cell.joints, cell.limits.position_lower, cell.limits.position_upper, strict=True
    ):
        body = body.add_body(name=f"{prefix}{link.name}", pos=link.position, quat=link.quaternion_wxyz, gravcomp=1.0)
        body.explicitinertial, body.mass, body.ipos, body.fullinertia = True, link.mass, link.centre, link.inertia
        body.add_joint(name=f"{prefix}{joint_name}", axis=(0, 0, 1), range=(lower, upper), limited=True, armature=ARM_ARMATURE)
        _add_meshes(body, link.name, meshes)
        for geom in LINK_SOLIDS.get(link.name, ()):
            _add_solid(body, geom, solid)
    _add_hand(spec, body, prefix, chain[-1], cell, meshes, solid)


def _add_hand(
    spec: mujoco.MjSpec,
    link7: mujoco.MjsBody,
    prefix: str,
    flange: _Link,
    cell: Cell,
    meshes: tuple[VisualMesh, ...],
    solid: dict[str, Any],
) -> None:
    x, y, z, w = cell.tool.orientation
    turn = np.array([w, x, y, z])
    hand = link7.add_body(name=f"{prefix}hand", pos=flange.position, quat=turn, gravcomp=1.0)
    hand.explicitinertial, hand.mass, hand.ipos, hand.inertia = True, 0.73, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017)
    _add_meshes(hand, "hand", meshes)
    _add_solid(hand, Geom("box", (0.03, 0.1, 0.033), (0.0, 0.0, 0.033)), solid)
    hand.add_body(name=f"{prefix}tcp", pos=(0, 0, cell.tool.position[2])).add_site(name=f"{prefix}tcp", group=COLLISION_GROUP)
    joints = [f"{prefix}{cell.finger_joint}", f"{prefix}{cell.finger_joint}_mirrored"]
    for number, joint in enumerate(joints, start=1):
        finger = hand.add_body(
            name=f"{prefix}finger{number}", pos=(0, 0, 0.0584), quat=(1, 0, 0, 0) if number == 1 else (0, 0, 0, 1), gravcomp=1.0
        )
        finger.explicitinertial, finger.mass, finger.ipos, finger.inertia = True, 0.015, (0, 0.01, 0.03), (3e-6, 3e-6, 1e-6)
        finger.add_joint(
            name=joint, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(0, 1, 0), range=(0.0, cell.finger_travel), limited=True,
            armature=0.1, damping=FINGER_DAMPING, solref_limit=CONTACT_SOLREF, solimp_limit=CONTACT_SOLIMP,
        )  # fmt: skip
        _add_meshes(finger, "finger", meshes)
        _add_solid(finger, Geom("box", (0.0095, 0.006, 0.018), (0.0, 0.010, 0.018)), solid)
        # The pad closes exactly at the tool's centre; soft rubber grips with friction in all directions.
        pad = solid | {"condim": 6, "friction": (1.5, 0.02, 0.002)}
        _add_solid(finger, Geom("box", (0.0095, 0.0055, 0.009), (0.0, 0.0055, 0.045)), pad)
    tendon = spec.add_tendon(name=f"{prefix}gripper")
    for joint in joints:
        tendon.wrap_joint(joint, 0.5)
    coupling = spec.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, name1=joints[0], name2=joints[1], objtype=mujoco.mjtObj.mjOBJ_JOINT)
    coupling.data[:2] = (0.0, 1.0)
    coupling.solref, coupling.solimp = (0.005, 1.0), CONTACT_SOLIMP


# The forearm and wrist as capsules and boxes: what can touch things on the table or the other arm.
LINK_SOLIDS = {
    "link5": (Geom("capsule", (0.055, 0.06), (0.0, 0.0, -0.18)), Geom("capsule", (0.045, 0.08), (0.0, 0.075, -0.06))),
    "link6": (Geom("sphere", (0.055,), (0.0, 0.0, 0.0)), Geom("sphere", (0.05,), (0.088, 0.02, 0.0))),
    "link7": (Geom("cylinder", (0.045, 0.02), (0.0, 0.0, 0.085)),),
}


def _add_meshes(body: mujoco.MjsBody, part: str, meshes: tuple[VisualMesh, ...]) -> None:
    for mesh in meshes:
        if mesh.part == part:
            kind = mesh.name.rpartition("_")[2]
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_MESH, meshname=mesh.name, material=kind, group=VISUAL_GROUP, contype=0, conaffinity=0, mass=0.0
            )


def _add_solid(body: mujoco.MjsBody, geom: Geom, properties: dict[str, Any]) -> None:
    size = np.zeros(3)
    size[: len(geom.size)] = geom.size
    body.add_geom(type=GEOM_TYPES[geom.kind][0], size=size, pos=geom.position, quat=wxyz(geom.orientation), **properties)


def _add_camera(spec: mujoco.MjSpec, camera: Camera) -> None:
    parent = spec.worldbody if camera.mounted_on is None else spec.body(f"{camera.mounted_on}_tcp")
    # MuJoCo looks along -z with y up; the optical frame looks along z with y down.
    rotation = camera.rotation @ np.diag([1.0, -1.0, -1.0])
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
    parent.add_camera(
        name=camera.name, pos=camera.position, quat=quaternion, fovy=np.degrees(camera.fovy), resolution=(camera.width, camera.height)
    )


# Objects ------------------------------------------------------------------------------------------------------------


def _add_object(spec: mujoco.MjSpec, thing: SceneObject) -> None:
    if not thing.geoms:
        raise SceneError(f"object '{thing.name}' has no geoms")
    if not thing.fixed and not thing.mass_kg > 0:
        raise SceneError(f"object '{thing.name}': mass_kg is {thing.mass_kg}, expected > 0")
    body = spec.worldbody.add_body(name=thing.name, pos=thing.position, quat=wxyz(thing.orientation))
    if not thing.fixed:
        body.add_freejoint(name=thing.name)
    density = thing.mass_kg / sum(_volume(thing, geom) for geom in thing.geoms)
    for geom in thing.geoms:
        # Round things get rolling friction, or they would never come to rest.
        flat = geom.kind == "box"
        _add_solid(
            body, geom,
            {
                "rgba": geom.rgba, "density": density, "contype": WORLD_BIT, "conaffinity": _everything(), "condim": 4 if flat else 6,
                "friction": (thing.friction, 0.005, 0.0005), "solref": CONTACT_SOLREF, "solimp": CONTACT_SOLIMP,
            },
        )  # fmt: skip


def _volume(thing: SceneObject, geom: Geom) -> float:
    if geom.kind not in GEOM_TYPES:
        raise SceneError(f"object '{thing.name}': geom kind '{geom.kind}' is unknown; use one of {sorted(GEOM_TYPES)}")
    count = GEOM_TYPES[geom.kind][1]
    if len(geom.size) != count or not min(geom.size) > 0:
        raise SceneError(f"object '{thing.name}': a {geom.kind} needs {count} positive sizes, got {geom.size}")
    r = geom.size
    if geom.kind == "box":
        return 8 * r[0] * r[1] * r[2]
    if geom.kind == "sphere":
        return 4 / 3 * np.pi * r[0] ** 3
    if geom.kind == "ellipsoid":
        return 4 / 3 * np.pi * r[0] * r[1] * r[2]
    cylinder = 2 * np.pi * r[0] ** 2 * r[1]
    return cylinder if geom.kind == "cylinder" else cylinder + 4 / 3 * np.pi * r[0] ** 3
