"""A turned steel flange on a dark mat: bore with keyway, six countersunk bolt holes, chamfered edges.

Structural defects: ``scratch``, ``nick`` (material broken out of the outer edge), ``stain``. Logical defects:
``missing_hole``, ``extra_hole``. Lengths are in the units of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from shopfloor.synthetic_parts.drawing import (
    FRAME,
    Field,
    colour,
    coverage,
    mix,
    pixel_centres,
    polygon,
    smooth_noise,
    soft_step,
    stroke,
)

DEFECTS = ("scratch", "nick", "stain", "missing_hole", "extra_hole")

OUTER, BORE, LAND = 128.0, 50.0, 66.0
CHAMFER = 5.0
HOLES, HOLE_CIRCLE, HOLE, COUNTERSINK = 6, 97.0, 9.5, 13.5
KEYWAY_HALF_WIDTH, KEYWAY_DEPTH = 9.0, 64.0
_STEEL = (1.0, 0.985, 0.96)
_MAT = (0.92, 0.98, 1.08)
_OIL = (0.80, 0.66, 0.46)


@dataclass(frozen=True)
class _Pose:
    """How the part lies and how it is lit: centre in units, angles in radians."""

    x: float
    y: float
    rotation: float
    light: float


def draw(part: np.random.Generator, damage: np.random.Generator, defect: str, size: int) -> tuple[Field, Field]:
    """Draw one ring; ``part`` is the randomness of the ring, its position and its light."""
    pose = _Pose(
        x=FRAME / 2 + part.normal(0, 2.0),
        y=FRAME / 2 + part.normal(0, 2.0),
        rotation=part.normal(0, np.radians(3.5)),
        light=np.radians(-125) + part.normal(0, np.radians(4)),
    )
    x, y = pixel_centres(size)
    dx, dy = x - np.float32(pose.x), y - np.float32(pose.y)
    radius = np.sqrt(dx * dx + dy * dy)
    angle = np.arctan2(dy, dx)

    mat = _mat(part, pose, size)
    steel = _turned_face(part, pose, radius, angle, size)
    footprint = np.zeros_like(radius)

    holes = [pose.rotation + 2 * np.pi * (k + 0.5) / HOLES for k in range(HOLES)]
    if defect == "missing_hole":
        missing = holes.pop(damage.integers(HOLES))
        footprint = coverage(_hole_distance(pose, missing, size) - COUNTERSINK)
    if defect == "extra_hole":
        extra = holes[damage.integers(HOLES)] + np.pi / HOLES
        footprint = coverage(_hole_distance(pose, extra, size) - COUNTERSINK)
        holes.append(extra)
    ring = coverage(_ring_distance(pose, dx, dy, radius))
    metal = ring
    for hole in holes:
        steel = _bore_hole(steel, pose, hole, size)
        metal = metal * (1 - coverage(_hole_distance(pose, hole, size) - HOLE))
    scene = colour(mat, _MAT) * (1 - ring)[..., None] + colour(steel * ring, _STEEL)
    if defect in ("scratch", "nick", "stain"):
        paint = {"scratch": _scratch, "nick": _nick, "stain": _stain}[defect]
        scene, footprint = paint(scene, damage, pose, metal, colour(mat, _MAT))
    return scene, footprint


# --- the sound part


def _ring_distance(pose: _Pose, dx: Field, dy: Field, radius: Field) -> Field:
    """Signed distance to the outline: disc less bore less keyway."""
    c, s = np.float32(np.cos(pose.rotation)), np.float32(np.sin(pose.rotation))
    along, across = -(c * dy - s * dx), c * dx + s * dy  # the keyway points up
    keyway = np.maximum(np.abs(across) - np.float32(KEYWAY_HALF_WIDTH), np.abs(along - 32) - (KEYWAY_DEPTH - 32))
    return np.maximum(np.maximum(radius - OUTER, BORE - radius), -keyway).astype(np.float32)


def _mat(part: np.random.Generator, pose: _Pose, size: int) -> Field:
    """Dark mat with the soft shadow of the ring, which falls away from the light."""
    x, y = pixel_centres(size)
    weave = part.standard_normal((size, size), dtype=np.float32)
    fabric = cv2.GaussianBlur(weave, (0, 0), 0.8 * size / FRAME)
    mat = 0.13 + 0.012 * smooth_noise(part, size, 3) + 0.018 * fabric
    dx = x - np.float32(pose.x - 7 * np.cos(pose.light))
    dy = y - np.float32(pose.y - 7 * np.sin(pose.light))
    radius = np.sqrt(dx * dx + dy * dy)
    shadow = soft_step(10, -10, _ring_distance(pose, dx, dy, radius))
    return mat * (1 - 0.7 * shadow)


def _turned_face(part: np.random.Generator, pose: _Pose, radius: Field, angle: Field, size: int) -> Field:
    """Face of a lathe: concentric marks, two bright sectors across the light, a raised land, chamfers."""
    across_light = np.cos(2 * (angle - np.float32(pose.light)))
    sectors = (0.5 + 0.5 * across_light) ** 4 + 0.35 * (0.5 - 0.5 * across_light) ** 8
    tone = 0.44 + part.normal(0, 0.008)

    steps = 1024  # a groove is a sample of this profile of the radius
    grooves = part.standard_normal(steps).astype(np.float32)
    grooves = grooves + 1.5 * cv2.GaussianBlur(grooves[:, None], (1, 0), 0, sigmaY=3.0)[:, 0] * 2
    feed = np.sin(np.arange(steps, dtype=np.float32) * np.float32(2 * np.pi / 13.5))  # feed of the cutting tool
    profile = 0.5 * grooves + 0.9 * feed
    streaks = cv2.GaussianBlur(part.standard_normal((steps, 96), dtype=np.float32), (0, 0), sigmaX=1.5, sigmaY=1.0)
    row = radius * np.float32(steps / 160)
    column = (angle + np.float32(np.pi)) * np.float32(95 / (2 * np.pi))
    marks = cv2.remap(profile[:, None] * 0.22 + 2.2 * streaks, column, row, cv2.INTER_LINEAR)
    marks = marks * min(1.0, size / FRAME)  # finer than a pixel, marks average out

    face = tone + 0.34 * sectors + (0.018 + 0.03 * sectors) * marks
    face = face + 0.03 * smooth_noise(part, size, 2)
    face = mix(face, face * 1.10 + 0.02, soft_step(LAND + 0.8, LAND - 0.8, radius))
    lit = np.cos(angle - np.float32(pose.light))
    groove = soft_step(1.6, 0.2, np.abs(radius - LAND))
    face = mix(face, 0.24 + 0.16 * lit, 0.75 * groove)
    face = mix(
        face,
        0.50 + 0.42 * lit + 0.01 * marks,
        soft_step(OUTER - CHAMFER - 0.7, OUTER - CHAMFER + 0.7, radius),
    )
    return mix(face, 0.48 - 0.36 * lit, soft_step(BORE + 3.7, BORE + 2.3, radius)).astype(np.float32)


def _hole_distance(pose: _Pose, hole: float, size: int) -> Field:
    """Distance to the axis of a bolt hole."""
    dx, dy = _from_hole(pose, hole, *pixel_centres(size))
    return np.sqrt(dx * dx + dy * dy)


def _from_hole(pose: _Pose, hole: float, x: Field, y: Field) -> tuple[Field, Field]:
    return (
        x - np.float32(pose.x + HOLE_CIRCLE * np.cos(hole)),
        y - np.float32(pose.y + HOLE_CIRCLE * np.sin(hole)),
    )


def _bore_hole(steel: Field, pose: _Pose, hole: float, size: int) -> Field:
    """Countersink, lit on the side away from the light, and the dark hole with a glimpse of its wall."""
    x, y = pixel_centres(size)
    reach = slice_around(pose.x + HOLE_CIRCLE * np.cos(hole), pose.y + HOLE_CIRCLE * np.sin(hole), 18, size)
    dx, dy = _from_hole(pose, hole, x[reach], y[reach])
    distance = np.hypot(dx, dy)
    lit = (dx * np.float32(np.cos(pose.light)) + dy * np.float32(np.sin(pose.light))) / np.maximum(distance, 1e-3)
    pixel = FRAME / size
    sink = np.clip(0.5 - (distance - COUNTERSINK) / pixel, 0, 1)
    inside = np.clip(0.5 - (distance - HOLE) / pixel, 0, 1)
    wall = 0.05 + 0.20 * soft_step(0.55, 1.0, -lit * distance / np.float32(HOLE))
    steel = steel.copy()
    bored = mix(steel[reach], 0.46 - 0.36 * lit, sink)
    steel[reach] = mix(bored, wall, inside)
    return steel


def slice_around(x: float, y: float, reach: float, size: int) -> tuple[slice, slice]:
    """Rows and columns of the pixels within ``reach`` units of a point."""
    scale = size / FRAME
    rows = slice(max(0, int((y - reach) * scale)), min(size, int((y + reach) * scale) + 1))
    columns = slice(max(0, int((x - reach) * scale)), min(size, int((x + reach) * scale) + 1))
    return rows, columns


# --- defects on the surface


def _on_face(damage: np.random.Generator, pose: _Pose, low: float, high: float) -> tuple[float, float, float]:
    """A point on the ring between two radii and between two bolt holes, with its angle."""
    angle = pose.rotation + 2 * np.pi * (damage.integers(HOLES) + damage.uniform(-0.3, 0.3)) / HOLES
    radius = damage.uniform(low, high)
    return pose.x + radius * np.cos(angle), pose.y + radius * np.sin(angle), angle


def _scratch(
    scene: Field, damage: np.random.Generator, pose: _Pose, metal: Field, _mat_colour: Field
) -> tuple[Field, Field]:
    """A curved score: bright metal thrown up on one side of a dark groove, thin at both ends."""
    size = len(scene)
    x, y, angle = _on_face(damage, pose, 82, 104)
    heading = angle + damage.uniform(-1.1, 1.1)
    length, bend = damage.uniform(34, 62), damage.uniform(-0.9, 0.9)
    along = np.linspace(-0.5, 0.5, 24)
    turn = heading + bend * along
    path = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], axis=1) * length / len(along), axis=0)
    path = path - path.mean(axis=0) + (x, y) + damage.normal(0, 0.15, path.shape)
    width = damage.uniform(1.6, 2.6)
    side = np.array([-np.sin(heading), np.cos(heading)]) * width * 0.55
    ends = slice(4, -4)
    groove = np.maximum(0.6 * stroke(path, width * 0.6, size), stroke(path[ends], width, size)) * metal
    burr = (
        np.maximum(0.6 * stroke(path + side, width * 0.4, size), stroke((path + side)[ends], width * 0.7, size)) * metal
    )
    tone = damage.uniform(0.06, 0.14)
    scene = mix(scene, np.float32(1.05), (0.8 * burr)[..., None])
    scene = mix(scene, np.float32(tone), (0.8 * groove)[..., None])
    return scene, np.maximum(groove, burr)


def _nick(
    scene: Field, damage: np.random.Generator, pose: _Pose, metal: Field, mat_colour: Field
) -> tuple[Field, Field]:
    """A piece broken out of the outer edge: the mat shows, the break is a bright, uneven facet."""
    size = len(scene)
    angle = damage.uniform(0, 2 * np.pi)
    depth, half_width = damage.uniform(7, 13), damage.uniform(9, 16)
    across = np.linspace(-1, 1, 15)
    uneven = damage.normal(0, 0.9, across.size)
    cut = OUTER - depth * (1 - across**2) + uneven

    def outline(inset: float) -> np.ndarray:
        bend = angle + across * (half_width + inset) / OUTER
        inner = np.stack([np.cos(bend), np.sin(bend)], axis=1) * (cut - inset)[:, None]
        outer = np.stack([np.cos(bend), np.sin(bend)], axis=1)[::-1] * (OUTER + 12)
        return np.concatenate([inner, outer]) + np.array([pose.x, pose.y])

    solid = metal > 0  # not its coverage, which would leave a thin bright line along the old edge
    facet = polygon(outline(damage.uniform(2.5, 4.0)), size) * solid
    gone = polygon(outline(0.0), size) * solid
    lit = np.cos(angle - pose.light)
    rough = 0.62 + 0.25 * lit + 0.10 * smooth_noise(damage, size, 40)
    scene = mix(scene, colour(rough.astype(np.float32), _STEEL), facet[..., None])
    scene = mix(scene, 0.55 * mat_colour, gone[..., None])
    return scene, np.maximum(facet, gone)


def _stain(
    scene: Field, damage: np.random.Generator, pose: _Pose, metal: Field, _mat_colour: Field
) -> tuple[Field, Field]:
    """A dried drop of oil: an irregular brownish veil with a darker rim."""
    size = len(scene)
    px, py = pixel_centres(size)
    x, y, _ = _on_face(damage, pose, 78, 108)
    stretch, turn = damage.uniform(1.0, 1.6), damage.uniform(0, np.pi)
    dx, dy = px - np.float32(x), py - np.float32(y)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    distance = np.sqrt((c * dx + s * dy) ** 2 / np.float32(stretch) + (c * dy - s * dx) ** 2 * np.float32(stretch))
    edge = distance - np.float32(damage.uniform(11, 19)) + 3.2 * smooth_noise(damage, size, 14)
    veil = soft_step(1.6, -1.6, edge) * metal
    rim = soft_step(4.0, 0.5, np.abs(edge + 2.0))
    strength = np.float32(damage.uniform(0.55, 0.75)) + np.float32(0.25) * rim
    oil = scene * np.array(_OIL, dtype=np.float32) * 0.62
    return mix(scene, oil, (veil * strength)[..., None]), veil
