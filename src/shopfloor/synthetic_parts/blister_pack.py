"""A blister pack of twelve tablets in clear cavities on embossed foil: nine white ones, three red ones.

Structural defects: ``cracked_pill``, ``foil_tear``. Logical defects: ``missing_pill``, ``swapped_pills`` (a
white and a red one have changed places). Lengths are in the units of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

DEFECTS = ("cracked_pill", "foil_tear", "missing_pill", "swapped_pills")

COLUMNS, ROWS, PITCH = 4, 3, 72.0
HALF_WIDTH, HALF_HEIGHT, CORNER = 150.0, 114.0, 14.0
CAVITY, FLANGE, PILL = 29.0, 32.5, 21.5
_LIGHT = np.array([-0.6, -0.8])  # towards the light, to the upper left
_FOIL = (0.97, 0.99, 1.0)
_BELT = (0.75, 0.95, 1.1)
_WHITE, _RED, _NO_PILL = 0, 1, 2
_PILL_COLOURS = np.array([(0.93, 0.91, 0.86), (0.80, 0.27, 0.22), (0.0, 0.0, 0.0)], dtype=np.float32)


@dataclass(frozen=True)
class _Pack:
    """How the pack lies and what is in it.

    Attributes:
        centre: Position in units (2,).
        rotation: Radians.
        shift: Position of each pill in its cavity (12, 2).
        turn: Direction of each pill's score line (12,).
        shade: Brightness of each pill (12,).
        kind: White, red or no pill (12,).
    """

    centre: NDArray[np.float64]
    rotation: float
    shift: NDArray[np.float64]
    turn: NDArray[np.float64]
    shade: NDArray[np.float64]
    kind: NDArray[np.int64]

    def place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (N, 2) of the pack's own frame in the frame of the image."""
        c, s = np.cos(self.rotation), np.sin(self.rotation)
        return points @ np.array([[c, s], [-s, c]]) + self.centre

    def pill(self, cell: int) -> NDArray[np.float64]:
        """Centre of a pill in the pack's own frame (2,)."""
        return _cell_centres()[cell] + self.shift[cell]


def draw(part: np.random.Generator, damage: np.random.Generator, defect: str, size: int) -> tuple[Field, Field]:
    """Draw one pack; ``part`` is the randomness of the pack, its position and its foil."""
    cells = COLUMNS * ROWS
    pack = _Pack(
        centre=FRAME / 2 + part.normal(0, 1.8, 2),
        rotation=part.normal(0, np.radians(1.0)),
        shift=np.clip(part.normal(0, 1.3, (cells, 2)), -3, 3),
        turn=part.uniform(0, np.pi, cells),
        shade=part.normal(1, 0.02, cells),
        kind=np.where(np.arange(cells) % COLUMNS == COLUMNS - 1, _RED, _WHITE),
    )
    changed = _rearrange(pack.kind, damage, defect)
    x, y = pixel_centres(size)
    c, s = np.float32(np.cos(pack.rotation)), np.float32(np.sin(pack.rotation))
    dx, dy = x - np.float32(pack.centre[0]), y - np.float32(pack.centre[1])
    u, v = c * dx + s * dy, c * dy - s * dx

    belt = _belt(part, u, v)
    foil = _foil(part, u, v)
    footprint = np.zeros_like(u)
    scene = colour(foil, _FOIL)
    if defect == "foil_tear":
        scene, footprint = _tear(scene, damage, pack)

    cell, du, dv = _nearest_cell(u, v)
    scene = _fill_cavities(scene, part, pack, cell, du, dv)
    for pill in changed:
        touched = _pill_coverage(pack, cell, du, dv)
        if defect == "missing_pill":  # its shadow is missing too
            touched = np.maximum(touched, _shadow(pack, cell, du, dv))
        footprint = np.maximum(footprint, touched * (cell == pill))
    if defect == "cracked_pill":
        scene, footprint = _crack(scene, damage, pack, cell, du, dv)
    scene = _cover(scene, du, dv)

    outline = coverage(_pack_distance(u, v))[..., None]
    return colour(belt, _BELT) * (1 - outline) + scene * outline, footprint


def _rearrange(kind: NDArray[np.int64], damage: np.random.Generator, defect: str) -> list[int]:
    """Apply a logical defect to the pills and name the cells concerned."""
    if defect == "missing_pill":
        cell = int(damage.integers(kind.size))
        kind[cell] = _NO_PILL
        return [cell]
    if defect == "swapped_pills":
        white, red = (int(damage.choice(np.flatnonzero(kind == which))) for which in (_WHITE, _RED))
        kind[white], kind[red] = _RED, _WHITE
        return [white, red]
    return []


# --- the sound pack


def _cell_centres() -> NDArray[np.float64]:
    """Centres of the cavities in the pack's own frame (12, 2), row by row."""
    rows, columns = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    return np.stack([columns - (COLUMNS - 1) / 2, rows - (ROWS - 1) / 2], axis=1) * PITCH


def _nearest_cell(u: Field, v: Field) -> tuple[NDArray[np.intp], Field, Field]:
    """Index of the nearest cavity and the position relative to its centre."""
    column = np.clip(np.round(u / PITCH + (COLUMNS - 1) / 2), 0, COLUMNS - 1)
    row = np.clip(np.round(v / PITCH + (ROWS - 1) / 2), 0, ROWS - 1)
    du = u - (column - (COLUMNS - 1) / 2) * PITCH
    dv = v - (row - (ROWS - 1) / 2) * PITCH
    return (row * COLUMNS + column).astype(np.intp), du.astype(np.float32), dv.astype(np.float32)


def _pack_distance(u: Field, v: Field) -> Field:
    """Signed distance to the rounded outline."""
    along = np.maximum(np.abs(u) - np.float32(HALF_WIDTH - CORNER), 0)
    across = np.maximum(np.abs(v) - np.float32(HALF_HEIGHT - CORNER), 0)
    return np.sqrt(along * along + across * across) - np.float32(CORNER)


def _belt(part: np.random.Generator, u: Field, v: Field) -> Field:
    """Dark conveyor belt with the shadow of the pack."""
    weave = part.standard_normal(u.shape, dtype=np.float32)
    belt = 0.10 + 0.006 * weave + 0.008 * smooth_noise(part, len(u), 4)
    return belt * (1 - 0.6 * soft_step(12, -6, _pack_distance(u - 4, v - 6)))


def _foil(part: np.random.Generator, u: Field, v: Field) -> Field:
    """Aluminium foil: embossed diamonds, slight creases, a sheen that drifts over the pack."""
    size = len(u)
    emboss = np.sin((u + v) * np.float32(2 * np.pi / 9)) * np.sin((u - v) * np.float32(2 * np.pi / 9))
    creases = smooth_noise(part, size, 9)
    slope = np.gradient(creases, axis=0) + np.gradient(creases, axis=1)
    sheen = 0.05 * (u * np.float32(_LIGHT[0]) + v * np.float32(_LIGHT[1])) / HALF_WIDTH
    brushed = 0.012 * part.standard_normal(u.shape, dtype=np.float32)
    edge = 0.10 * soft_step(-4, -1, _pack_distance(u, v))
    foil = 0.60 + part.normal(0, 0.01) + sheen + 0.045 * emboss + 0.6 * slope * size / FRAME + brushed + edge
    return foil.astype(np.float32)


def _fill_cavities(
    scene: Field, part: np.random.Generator, pack: _Pack, cell: NDArray[np.intp], du: Field, dv: Field
) -> Field:
    """Floor of the cavities, the shadow of each pill on it, and the pills."""
    centre = np.sqrt(du * du + dv * dv)
    toward = (du * np.float32(_LIGHT[0]) + dv * np.float32(_LIGHT[1])) / np.maximum(centre, 1e-3)
    floor = scene * (0.80 - 0.22 * soft_step(CAVITY - 12, CAVITY, centre) * (0.6 + 0.4 * toward))[..., None]
    scene = mix(scene, floor, coverage(centre - CAVITY)[..., None])
    present = (pack.kind != _NO_PILL).astype(np.float32)[cell]
    scene = scene * (1 - 0.6 * _shadow(pack, cell, du, dv) * present)[..., None]

    pu, pv = _from_pill(pack, cell, du, dv)
    radius = np.sqrt(pu * pu + pv * pv)
    slope = 0.25 * radius / PILL + 1.3 * soft_step(PILL - 4.0, PILL, radius)  # a flat dome with a bevelled edge
    facing = (pu * np.float32(_LIGHT[0]) + pv * np.float32(_LIGHT[1])) / np.maximum(radius, 1e-3)
    speckle = part.standard_normal(du.shape, dtype=np.float32)
    light = 0.90 + 0.16 * slope * facing - 0.10 * soft_step(PILL - 3.0, PILL, radius) + 0.008 * speckle

    turn = pack.turn.astype(np.float32)[cell]
    across = pv * np.cos(turn) - pu * np.sin(turn)
    scored = soft_step(PILL - 3, PILL - 5, radius)
    light = light - scored * (
        0.20 * soft_step(1.5, 0.4, np.abs(across)) - 0.07 * soft_step(1.2, 0.3, np.abs(across - 1.7))
    )
    light = light * pack.shade.astype(np.float32)[cell]
    pills = _PILL_COLOURS[pack.kind[cell]] * light[..., None]
    return mix(scene, pills, (coverage(radius - PILL) * present)[..., None])


def _from_pill(pack: _Pack, cell: NDArray[np.intp], du: Field, dv: Field) -> tuple[Field, Field]:
    """Position relative to the centre of the nearest pill."""
    shift = pack.shift.astype(np.float32)[cell]
    return du - shift[..., 0], dv - shift[..., 1]


def _shadow(pack: _Pack, cell: NDArray[np.intp], du: Field, dv: Field) -> Field:
    """Soft shadow of the pill, within the cavity, 0..1."""
    pu, pv = _from_pill(pack, cell, du, dv)
    distance = np.hypot(pu + np.float32(4 * _LIGHT[0]), pv + np.float32(4 * _LIGHT[1]))
    inside = coverage(np.sqrt(du * du + dv * dv) - CAVITY)
    return soft_step(PILL + 5, PILL - 3, distance) * inside


def _pill_coverage(pack: _Pack, cell: NDArray[np.intp], du: Field, dv: Field) -> Field:
    """Where the pills are, 0..1."""
    return coverage(np.hypot(*_from_pill(pack, cell, du, dv)) - PILL)


def _cover(scene: Field, du: Field, dv: Field) -> Field:
    """The clear plastic above: flange around the cavity, the reflected lamp, a thin rim light opposite."""
    centre = np.sqrt(du * du + dv * dv)
    toward = (du * np.float32(_LIGHT[0]) + dv * np.float32(_LIGHT[1])) / np.maximum(centre, 1e-3)
    middle = (CAVITY + FLANGE) / 2
    flange = soft_step((FLANGE - CAVITY) / 2 + 0.8, 0.4, np.abs(centre - np.float32(middle)))
    scene = mix(scene, (0.56 + 0.42 * toward)[..., None], (0.62 * flange)[..., None])
    along = du * np.float32(_LIGHT[0]) + dv * np.float32(_LIGHT[1])
    across = dv * np.float32(_LIGHT[0]) - du * np.float32(_LIGHT[1])
    bent = along - 18.5 + across * across * np.float32(0.016)  # a straight lamp is bent by the dome
    lamp = soft_step(3.4, 1.6, np.abs(bent)) * soft_step(11.0, 8.5, np.abs(across))
    rim = soft_step(1.8, 0.3, np.abs(centre - np.float32(CAVITY - 2.5))) * soft_step(0.55, 0.95, -toward)
    return mix(scene, np.float32(1.0), (0.55 * lamp + 0.40 * rim)[..., None])


# --- structural defects


def _tear(scene: Field, damage: np.random.Generator, pack: _Pack) -> tuple[Field, Field]:
    """A jagged slit between four cavities: dark inside, one lip of foil curled up into the light."""
    size = len(scene)
    column, row = damage.integers(COLUMNS - 1), damage.integers(ROWS - 1)
    middle = np.array([column - (COLUMNS - 2) / 2, row - (ROWS - 2) / 2]) * PITCH + damage.normal(0, 1.5, 2)
    heading = damage.uniform(0, np.pi)
    length, width = damage.uniform(22, 32), damage.uniform(4.5, 7.5)
    along = np.linspace(-0.5, 0.5, 13)
    opening = np.sqrt(np.maximum(1 - (2 * along) ** 2, 0)) * width / 2
    wander = np.cumsum(damage.normal(0, 0.7, along.size))
    upper = wander + opening * damage.uniform(0.6, 1.4, along.size)
    lower = wander - opening * damage.uniform(0.6, 1.4, along.size)

    def placed(across: NDArray[np.float64]) -> NDArray[np.float64]:
        direction = np.array([np.cos(heading), np.sin(heading)])
        normal = np.array([-direction[1], direction[0]])
        return pack.place(middle + along[:, None] * length * direction + across[:, None] * normal)

    slit = polygon(np.concatenate([placed(upper), placed(lower)[::-1]]), size)
    lip = polygon(np.concatenate([placed(upper), placed(upper + opening * 0.9 + 0.4)[::-1]]), size)
    fray = stroke(placed(lower), 1.4, size)
    scene = mix(scene, np.float32(0.40), fray[..., None])
    scene = mix(scene, np.float32(1.0), (0.9 * lip)[..., None])
    scene = mix(scene, colour(np.full(slit.shape, 0.07, dtype=np.float32), _BELT), slit[..., None])
    return scene, np.maximum(np.maximum(slit, lip), fray)


def _crack(
    scene: Field, damage: np.random.Generator, pack: _Pack, cell: NDArray[np.intp], du: Field, dv: Field
) -> tuple[Field, Field]:
    """A jagged crack through a pill, with a chip broken out where it meets the edge."""
    size = len(scene)
    broken = int(damage.integers(COLUMNS * ROWS))
    heading = damage.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(heading), np.sin(heading)])
    normal = np.array([-direction[1], direction[0]])
    along = np.linspace(-1.05, 1.05, 15) * PILL
    across = np.cumsum(damage.normal(0, 1.6, along.size))
    across -= across.mean() + damage.uniform(-5, 5)
    path = pack.place(pack.pill(broken) + along[:, None] * direction + across[:, None] * normal)
    pill = _pill_coverage(pack, cell, du, dv) * (cell == broken)

    corners = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    reach = damage.uniform(4.5, 8.0) * damage.uniform(0.7, 1.3, corners.size)
    chip_at = pack.pill(broken) + direction * (PILL - 1) + across[-1] * normal
    ring = np.stack([np.cos(corners), np.sin(corners)], axis=1) * reach[:, None]
    chip = polygon(pack.place(chip_at + ring), size) * pill
    crack = stroke(path, damage.uniform(1.3, 2.0), size) * pill
    edge = stroke(path + 1.2, 1.0, size) * pill
    scene = mix(scene, scene * 1.15, edge[..., None])
    scene = mix(scene, scene * 0.30, (0.9 * crack)[..., None])
    scene = mix(scene, colour(np.full(chip.shape, 0.30, dtype=np.float32), _FOIL), chip[..., None])
    return scene, np.maximum(np.maximum(crack, edge), chip)
