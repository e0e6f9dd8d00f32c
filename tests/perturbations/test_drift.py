"""Synthetic drift against the rules of protocol 4.3, and its transforms against direct computations."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats

from shopfloor.perturbations import drift
from shopfloor.perturbations.drift import parameters_of
from shopfloor.perturbations.drift_settings import DriftSettings
from shopfloor.planning.errors import GridError
from shopfloor.planning.settings import read_settings

SETTINGS: dict[str, Any] = {
    "transforms": {
        "camera_position": {
            "rotation": {"degrees": [-5, 5]},
            "crop": {"scale": [0.8, 1.0]},
            "perspective": {"distortion_scale": 0.2},
        },
        "lighting": {
            "colour_jitter": {"brightness": [0.5, 1.5], "contrast": [0.5, 1.5], "saturation": [0.5, 1.5]},
            "shadow": {"layers": 3, "factor": 0.0},
        },
        "quality": {
            "gaussian_blur": {"kernel_size": 7, "sigma": [0.1, 1.5]},
            "gaussian_noise": {"mean": 0.5, "standard_deviation": 1.0, "scale": [0.01, 0.05]},
        },
    },
    "categories_per_image": [1, 2],
    "order": ["camera_position", "lighting", "quality"],
    "fill": 0,
    "resolution": "source",
}
CATEGORIES = {name: category for category, names in SETTINGS["transforms"].items() for name in names}
GEOMETRY = list(SETTINGS["transforms"]["camera_position"])
OTHERS = [name for name in CATEGORIES if name not in GEOMETRY]
SIZES = [(64, 64), (200, 301), (701, 403)]
DRAWS = 3000


def check_drift(settings: dict[str, Any]) -> DriftSettings:
    """The settings as they are read while a grid is planned."""
    return read_settings(DriftSettings, "data_drift.drift", settings)


def draw_drift(test: pd.DataFrame, settings: dict[str, Any], dataset: str, category: str, seed: int) -> pd.DataFrame:
    return drift.draw_drift(test, check_drift(settings), dataset, category, seed)


def drift_image(image: NDArray[np.uint8], drawn: dict[str, Any], settings: dict[str, Any]) -> NDArray[np.uint8]:
    return drift.drift_image(image, drawn, check_drift(settings))


def drift_mask(mask: NDArray[np.uint8], drawn: dict[str, Any], settings: dict[str, Any]) -> NDArray[np.uint8]:
    return drift.drift_mask(mask, drawn, check_drift(settings))


def make_test(count: int) -> pd.DataFrame:
    return pd.DataFrame({"row": range(count), "image": [f"plate/test/{i % 2}/{i:04d}.png" for i in range(count)]})


def changed(path: str, value: Any) -> dict[str, Any]:
    """The settings with another value of one key, named by its path."""
    settings = copy.deepcopy(SETTINGS)
    *parents, key = path.split(".")
    entry = settings
    for parent in parents:
        entry = entry[parent]
    entry[key] = value
    return settings


def only(name: str) -> dict[str, Any]:
    """The settings with a single transform."""
    category = CATEGORIES[name]
    transforms = {category: {name: SETTINGS["transforms"][category][name]}}
    return {**SETTINGS, "transforms": transforms, "order": [category], "categories_per_image": [1]}


def draw_one(name: str, count: int = 1, **settings: Any) -> list[dict[str, Any]]:
    table = draw_drift(make_test(count), {**only(name), **settings}, "d", "c", seed=3341)
    return [parameters_of(line) for line in table.itertuples()]


def smooth_noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """An image with values away from 0 and 255, and no flat place."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = ndimage.gaussian_filter(noise, (2, 2, 0))
    return np.clip(128 + 35 * smooth / smooth.std(), 10, 245).astype(np.uint8)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return draw_drift(make_test(DRAWS), SETTINGS, "d", "c", seed=3341)


@pytest.fixture(scope="module")
def drawn(table: pd.DataFrame) -> pd.Series:
    """The parameters of every drawn transform, by its name."""
    drawn = [item for line in table.itertuples() for item in parameters_of(line).items()]
    return pd.Series([values for _, values in drawn], index=[name for name, _ in drawn])


# --- draws -----------------------------------------------------------------------------------------------------------


def test_one_line_per_image_in_the_order_of_the_test_set(table: pd.DataFrame) -> None:
    assert list(table) == ["image", "transforms", *SETTINGS["order"], "parameters"]
    assert list(table["image"]) == list(make_test(DRAWS)["image"])
    for line in table.itertuples():
        names = [str(name) for name in (line.camera_position, line.lighting, line.quality) if name]
        assert line.transforms == " + ".join(names) == " + ".join(parameters_of(line))
        assert [CATEGORIES[name] for name in names] == [key for key in SETTINGS["order"] if getattr(line, key)]


def test_an_empty_test_set_gives_an_empty_table() -> None:
    assert list(draw_drift(make_test(0), SETTINGS, "d", "c", 0)) == [
        "image",
        "transforms",
        *SETTINGS["order"],
        "parameters",
    ]


def test_one_or_two_categories_with_equal_probability(table: pd.DataFrame) -> None:
    chosen = table[SETTINGS["order"]] != ""
    count = chosen.sum(axis=1)
    assert set(count) == {1, 2}
    assert stats.binomtest(int((count == 1).sum()), DRAWS).pvalue > 0.001
    for k in (1, 2):  # three categories alone, three pairs
        combinations = chosen[count == k].value_counts()
        assert len(combinations) == 3 and stats.chisquare(combinations).pvalue > 0.001


@pytest.mark.parametrize("category", SETTINGS["order"])
def test_transforms_of_a_category_with_equal_probability(table: pd.DataFrame, category: str) -> None:
    counts = table.loc[table[category] != "", category].value_counts()
    assert set(counts.index) == set(SETTINGS["transforms"][category])
    assert stats.chisquare(counts).pvalue > 0.001


def test_parameters_are_uniform_over_their_ranges(drawn: pd.Series) -> None:
    def check(values: Any, low: float, high: float) -> None:
        values = np.ravel(values)
        assert low <= values.min() and values.max() <= high
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.001

    def of(name: str, key: str) -> list[Any]:
        return [values[key] for values in drawn[name]]

    check(of("rotation", "degrees"), -5, 5)
    side = np.array(of("crop", "height"))
    assert of("crop", "width") == of("crop", "height"), "the aspect ratio stays"
    check(side**2, 0.8, 1.0)
    check(np.array(of("crop", "top")) / (1 - side), 0, 1)
    check(np.array(of("crop", "left")) / (1 - side), 0, 1)
    check(of("perspective", "corner_offsets"), 0, 0.1)
    assert np.shape(of("perspective", "corner_offsets"))[1:] == (4, 2)
    for key in ("brightness", "contrast", "saturation"):
        check(of("colour_jitter", key), 0.5, 1.5)
    check(of("shadow", "polygons"), 0, 1)
    assert np.shape(of("shadow", "polygons"))[1:] == (3, 5, 2)
    check(of("gaussian_blur", "sigma"), 0.1, 1.5)
    check(of("gaussian_noise", "scale"), 0.01, 0.05)
    seeds = of("gaussian_noise", "seed")
    assert len(set(seeds)) == len(seeds)


def test_outlines_of_shadows_do_not_cross_themselves(drawn: pd.Series) -> None:
    def sides(a: Any, b: Any, c: Any) -> float:
        return float(np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])))

    def cross(p: Any, q: Any, r: Any, s: Any) -> bool:
        return sides(p, q, r) != sides(p, q, s) and sides(r, s, p) != sides(r, s, q)

    for values in drawn["shadow"][:100]:
        for corners in values["polygons"]:
            edges = [(corners[i - 1], corners[i]) for i in range(5)]
            assert not any(cross(*edges[i], *edges[j]) for i, j in [(0, 2), (0, 3), (1, 3), (1, 4), (2, 4)])


def test_the_draw_of_an_image_depends_on_no_other_image_and_on_no_order(table: pd.DataFrame) -> None:
    some = make_test(DRAWS).sample(n=200, random_state=0)
    again = draw_drift(some, SETTINGS, "d", "c", seed=3341)
    expected = table.set_index("image").loc[some["image"]].reset_index()
    pd.testing.assert_frame_equal(again, expected)
    longer = draw_drift(make_test(DRAWS + 10), SETTINGS, "d", "c", seed=3341)
    pd.testing.assert_frame_equal(longer[:DRAWS], table)


@pytest.mark.parametrize("other", [("e", "c", 3341), ("d", "e", 3341), ("d", "c", 1954)])
def test_another_seed_dataset_or_category_is_another_draw(table: pd.DataFrame, other: tuple[str, str, int]) -> None:
    again = draw_drift(make_test(DRAWS), SETTINGS, *other)
    assert not (again["parameters"] == table["parameters"]).any()
    same = (again["transforms"] == table["transforms"]).mean()
    by_chance = (table["transforms"].value_counts(normalize=True) ** 2).sum()
    assert abs(same - by_chance) < 4 * np.sqrt(by_chance / DRAWS)


def test_another_path_is_another_draw(table: pd.DataFrame) -> None:
    assert table["parameters"].is_unique


def test_the_draw_does_not_depend_on_the_order_of_keys_or_of_application(table: pd.DataFrame) -> None:
    turned = copy.deepcopy(SETTINGS)
    turned["transforms"] = {key: dict(reversed(names.items())) for key, names in reversed(turned["transforms"].items())}
    pd.testing.assert_frame_equal(draw_drift(make_test(DRAWS), turned, "d", "c", 3341), table)
    other_order = changed("order", ["quality", "camera_position", "lighting"])
    again = draw_drift(make_test(300), other_order, "d", "c", 3341)
    assert [json.loads(text) for text in again["parameters"]] == [
        json.loads(text) for text in table["parameters"][:300]
    ]
    assert again["transforms"].str.contains("gaussian_blur + shadow", regex=False).any()
    assert not table["transforms"].str.contains("gaussian_blur + shadow", regex=False).any()


def test_transforms_are_switched_on_and_off_by_the_settings() -> None:
    settings = changed("transforms.quality.gaussian_blur", None)
    settings["transforms"]["quality"]["salt_and_pepper"] = {"share": [0.0, 0.02]}
    settings["transforms"]["lighting"] = None
    settings["order"] = ["camera_position", "quality"]
    check_drift(settings)
    drawn = draw_drift(make_test(300), settings, "d", "c", 1)
    assert list(drawn) == ["image", "transforms", "camera_position", "quality", "parameters"]
    assert set(drawn["quality"]) == {"", "gaussian_noise", "salt_and_pepper"}


# --- reproducible pixels ---------------------------------------------------------------------------------------------


@pytest.fixture
def torch_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_pixels_do_not_depend_on_threads(torch_threads: None) -> None:
    settings = changed("transforms.quality.salt_and_pepper", {"share": [0.0, 0.02]})
    lines = [parameters_of(line) for line in draw_drift(make_test(40), settings, "d", "c", 5).itertuples()]
    images = [smooth_noise(151 + i, 203, seed=i) for i in range(len(lines))]
    results = []
    for workers, threads in [(1, 1), (4, 1), (4, 3)]:
        torch.set_num_threads(threads)
        with ThreadPoolExecutor(workers) as pool:
            results.append(list(pool.map(lambda image, drawn: drift_image(image, drawn, settings), images, lines)))
    assert {name for line in lines for name in line} == {*CATEGORIES, "salt_and_pepper"}
    for first, *others in zip(*results, strict=True):
        assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("shape", [(32, 32), (32, 57), (33, 1200)])
@pytest.mark.parametrize("name", CATEGORIES)
def test_any_size_and_the_arguments_stay_as_they_were(name: str, shape: tuple[int, int]) -> None:
    image, mask = smooth_noise(*shape), np.ones(shape, np.uint8)
    image_before, mask_before = image.copy(), mask.copy()
    image.flags.writeable = False  # as read from a file
    drawn = draw_one(name)[0]
    drifted, moved = drift_image(image, drawn, SETTINGS), drift_mask(mask, drawn, SETTINGS)
    assert drifted.shape == image.shape and moved.shape == shape
    assert drifted.dtype == np.uint8 and moved.dtype == np.uint8
    assert set(np.unique(moved)) <= {0, 1}
    assert np.array_equal(image, image_before) and np.array_equal(mask, mask_before)
    assert not np.array_equal(drifted, image)


@pytest.mark.parametrize("name", [name for name in CATEGORIES if name != "gaussian_noise"])
def test_grey_stays_grey(name: str) -> None:
    grey = np.repeat(smooth_noise(80, 90)[..., :1], 3, axis=2)
    drifted = drift_image(grey, draw_one(name)[0], SETTINGS)
    assert (drifted == drifted[..., :1]).all()


def test_transforms_are_applied_one_after_the_other() -> None:
    image = smooth_noise(90, 120)
    rotation, noise = draw_one("rotation")[0], draw_one("gaussian_noise")[0]
    both = drift_image(image, {**noise, **rotation}, SETTINGS)  # whatever the order of keys
    assert np.array_equal(both, drift_image(drift_image(image, rotation, SETTINGS), noise, SETTINGS))
    turned = changed("order", ["quality", "lighting", "camera_position"])
    both = drift_image(image, {**rotation, **noise}, turned)
    assert np.array_equal(both, drift_image(drift_image(image, noise, SETTINGS), rotation, SETTINGS))


@pytest.mark.parametrize(
    "neutral",
    [
        {"rotation": {"degrees": 0.0}},
        {"crop": {"top": 0.0, "left": 0.0, "height": 1.0, "width": 1.0}},
        {"perspective": {"corner_offsets": [[0.0, 0.0]] * 4}},
        {"colour_jitter": {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0}},
        {"gaussian_blur": {"sigma": 0.1}},  # neighbours weigh exp(-50)
        {"gaussian_noise": {"scale": 0.0, "seed": 1}},
        {"shadow": {"polygons": []}},
    ],
    ids=lambda neutral: next(iter(neutral)),
)
def test_neutral_parameters_change_nothing(neutral: dict[str, Any]) -> None:
    image, mask = smooth_noise(75, 110), (smooth_noise(75, 110)[..., 0] > 128).astype(np.uint8)
    if "shadow" in neutral:
        neutral = draw_one("shadow")[0]
        settings = changed("transforms.lighting.shadow.factor", 1.0)
    else:
        settings = SETTINGS
    assert np.array_equal(drift_image(image, neutral, settings), image)
    assert np.array_equal(drift_mask(mask, neutral, settings), mask)


# --- camera position -------------------------------------------------------------------------------------------------


def source_points(name: str, drawn: dict[str, Any], shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where in the image each pixel of the result lies: x and y, with (0, 0) at the image's outer corner."""
    height, width = shape
    y, x = np.mgrid[:height, :width] + 0.5
    if name == "rotation":
        angle = np.radians(drawn["degrees"])
        dx, dy = x - width / 2, y - height / 2
        return width / 2 + np.cos(angle) * dx - np.sin(angle) * dy, height / 2 + np.sin(angle) * dx + np.cos(angle) * dy
    if name == "crop":
        return drawn["left"] * width + x * drawn["width"], drawn["top"] * height + y * drawn["height"]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (width, height)
    moved = corners + inwards * drawn["corner_offsets"]
    # eight equations for the map from the moved corners to the corners
    rows = [
        row
        for (u, v), (p, q) in zip(moved, corners, strict=True)
        for row in ([u, v, 1, 0, 0, 0, -u * p, -v * p], [0, 0, 0, u, v, 1, -u * q, -v * q])
    ]
    a, b, c, d, e, f, g, h = np.linalg.solve(np.array(rows), corners.ravel())
    scale = g * x + h * y + 1
    return (a * x + b * y + c) / scale, (d * x + e * y + f) / scale


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("name", GEOMETRY)
def test_image_and_mask_move_to_the_same_place(name: str, shape: tuple[int, int]) -> None:
    height, width = shape
    mask = np.zeros(shape, np.uint8)
    top, bottom, left, right = height // 5, height // 2, width // 2, width * 4 // 5
    mask[top:bottom, left:right] = 1
    image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    overlaps = []
    for drawn in draw_one(name, count=5):
        x, y = source_points(name, drawn[name], shape)
        expected = (top <= y) & (y < bottom) & (left <= x) & (x < right)
        moved_image = drift_image(image, drawn, SETTINGS)[..., 1] > 127
        moved_mask = drift_mask(mask, drawn, SETTINGS) == 1
        assert overlap(moved_image, moved_mask) > 0.95
        assert overlap(moved_mask, expected) > 0.95
        overlaps.append(overlap(mask == 1, moved_mask))
    assert min(overlaps) < 0.95, "it did move"


@pytest.mark.parametrize("name", ["rotation", "perspective"])
def test_image_is_interpolated_bilinearly_and_becomes_no_darker(name: str) -> None:
    image = smooth_noise(211, 170)
    for drawn in draw_one(name, count=3):
        x, y = source_points(name, drawn[name], image.shape[:2])
        channels = [
            ndimage.map_coordinates(image[..., c].astype(float), [y - 0.5, x - 0.5], order=1, mode="nearest")
            for c in range(3)
        ]
        error = drift_image(image, drawn, SETTINGS) - np.stack(channels, axis=2)
        inside = (x > 1) & (x < 169) & (y > 1) & (y < 210)
        assert inside.mean() > 0.7
        assert np.abs(error[inside]).max() < 0.55, "rounded to the nearest value"
        assert abs(error[inside].mean()) < 0.02


@pytest.mark.parametrize(("degrees", "x", "y"), [(90, 100, 50), (30, 143.301, 75), (-5, 149.810, 104.358)])
def test_rotation_by_hand(degrees: float, x: float, y: float) -> None:
    """A dot 50 pixels to the right of the centre (100, 100) turns counter-clockwise."""
    image = np.zeros((201, 201, 3), np.uint8)
    image[98:103, 148:153] = 200
    moved = drift_image(image, {"rotation": {"degrees": degrees}}, SETTINGS)[..., 0]
    assert np.allclose(ndimage.center_of_mass(moved), (y, x), atol=0.05)


def test_crop_keeps_aspect_ratio_and_shows_its_share_of_the_area() -> None:
    height, width = 240, 400
    mask = np.zeros((height, width), np.uint8)
    mask[60:180, 100:300] = 1  # in the middle, so that no crop of 80 % cuts it
    for drawn in draw_one("crop", count=20):
        rows, columns = np.nonzero(drift_mask(mask, drawn, SETTINGS))
        seen_height, seen_width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert seen_width / seen_height == pytest.approx(200 / 120, rel=0.02)
        share = (120 * 200) / (seen_height * seen_width)  # of the area that is left
        assert share == pytest.approx(drawn["crop"]["height"] * drawn["crop"]["width"], rel=0.02)
        assert 0.78 < share < 1.01


@pytest.mark.parametrize("fill", [0, 77])
@pytest.mark.parametrize("name", ["rotation", "perspective"])
def test_what_is_uncovered_is_filled(name: str, fill: int) -> None:
    image, mask = np.full((120, 90, 3), 200, np.uint8), np.ones((120, 90), np.uint8)
    for drawn in draw_one(name, count=4):
        settings = changed("fill", fill)
        drifted, moved = drift_image(image, drawn, settings), drift_mask(mask, drawn, settings)
        x, y = source_points(name, drawn[name], mask.shape)
        distance = np.minimum.reduce([x, y, 90 - x, 120 - y])  # to the edge of the image, negative outside
        assert (distance < -0.1).any()
        assert (drifted[distance < -0.1] == fill).all() and (drifted[distance > 0.1] == 200).all()
        assert (moved[distance < -0.1] == 0).all() and (moved[distance > 0.1] == 1).all()


def test_a_defect_can_leave_the_picture() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[:4, :4] = 1
    drawn = {"crop": {"top": 0.1, "left": 0.1, "height": 0.9, "width": 0.9}}
    assert not drift_mask(mask, drawn, SETTINGS).any()


@pytest.mark.parametrize("name", OTHERS)
def test_lighting_and_quality_leave_the_mask_alone(name: str) -> None:
    mask = (smooth_noise(60, 80)[..., 0] > 128).astype(np.uint8)
    before = mask.copy()
    assert drift_mask(mask, draw_one(name)[0], SETTINGS) is mask
    assert np.array_equal(mask, before)


# --- lighting and quality --------------------------------------------------------------------------------------------


def test_colour_jitter_is_brightness_then_contrast_then_saturation() -> None:
    image = smooth_noise(120, 100)
    weights = np.array([0.299, 0.587, 0.114])

    def brightness(values: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
        return np.clip(values * factor, 0, 255)

    def contrast(values: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
        return np.clip(factor * values + (1 - factor) * (values @ weights).mean(), 0, 255)

    def saturation(values: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
        return np.clip(factor * values + (1 - factor) * (values @ weights)[..., None], 0, 255)

    for factors in [(1.5, 1.0, 1.0), (1.0, 0.5, 1.0), (1.0, 1.0, 1.5), (1.5, 0.5, 0.7), (0.6, 1.4, 1.3)]:
        drawn = dict(zip(("brightness", "contrast", "saturation"), factors, strict=True))
        drifted = drift_image(image, {"colour_jitter": drawn}, SETTINGS)
        expected = saturation(contrast(brightness(image.astype(float), factors[0]), factors[1]), factors[2])
        assert np.abs(drifted - expected).max() < 4, "each of the three steps cuts off fractions, as torchvision does"
        other_order = brightness(contrast(saturation(image.astype(float), factors[2]), factors[1]), factors[0])
        if 1.0 not in factors:
            assert np.abs(drifted - other_order).max() > 10


@pytest.mark.parametrize("factor", [0.0, 0.4])
def test_shadow_darkens_by_the_number_of_layers(factor: float) -> None:
    rows = np.arange(100)[:, None] * np.ones((1, 81), int)
    image = np.stack([rows, rows + 60, 255 - rows], axis=2).astype(np.uint8)
    # the layers reach from the left edge to columns 20, 40 and 60
    polygons = [[[0, 0], [end / 80, 0], [end / 80, 1], [0, 1]] for end in (20, 40, 60)]
    settings = changed("transforms.lighting.shadow.factor", factor)
    drifted = drift_image(image, {"shadow": {"polygons": polygons}}, settings)
    for covering, columns in {3: slice(0, 20), 2: slice(22, 40), 1: slice(42, 60), 0: slice(62, 81)}.items():
        expected = np.rint(image[:, columns] * (1 - (1 - factor) * covering / 3))
        assert np.array_equal(drifted[:, columns], expected)


def test_shadow_covers_the_drawn_polygons_at_any_size() -> None:
    drawn = draw_one("shadow")[0]
    shares = []
    for shape in [(100, 100), (300, 500)]:
        drifted = drift_image(np.full((*shape, 3), 240, np.uint8), drawn, SETTINGS)[..., 0]
        assert set(np.unique(drifted)) <= {0, 80, 160, 240}
        shares.append(1 - drifted.mean() / 240)
    corners = np.array(drawn["shadow"]["polygons"])
    x, y = corners[..., 0], corners[..., 1]
    area = np.abs((x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)) / 2
    assert np.allclose(shares, area.mean(), atol=0.02)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.5])
def test_blur_is_a_gaussian_convolution_of_kernel_seven(sigma: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 55, 3), dtype=np.uint8)
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * sigma**2))
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    expected = ndimage.convolve(image.astype(float), kernel[..., None], mode="mirror")
    error = drift_image(image, {"gaussian_blur": {"sigma": sigma}}, SETTINGS) - expected
    assert np.abs(error).max() < 0.501


@pytest.mark.parametrize("scale", [0.01, 0.05])
def test_noise_has_its_mean_and_standard_deviation(scale: float) -> None:
    image = np.full((400, 500, 3), 100, np.uint8)
    drawn = {"gaussian_noise": {"scale": scale, "seed": 7}}
    noise = (drift_image(image, drawn, SETTINGS).astype(float) - 100) / 255 / scale
    error = 1 / np.sqrt(noise.size)
    assert abs(noise.mean() - 0.5) < 5 * error
    rounding = (1 / 255 / scale) ** 2 / 12  # variance that rounding adds
    assert abs(noise.var() - 1 - rounding) < 5 * np.sqrt(2) * error
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.01, "every channel has its own"
    assert stats.kstest(noise[::40, ::40].ravel(), stats.norm(0.5, 1).cdf).statistic < 0.1


def test_noise_is_clipped() -> None:
    scale = 0.05
    drawn = {"gaussian_noise": {"scale": scale, "seed": 7}}
    white = drift_image(np.full((300, 300, 3), 255, np.uint8), drawn, SETTINGS)
    black = drift_image(np.zeros((300, 300, 3), np.uint8), drawn, SETTINGS)
    below = 0.5 * stats.norm.cdf(-0.5) - stats.norm.pdf(0.5)  # mean of min(n, 0)
    assert white.mean() == pytest.approx(255 * (1 + scale * below), abs=0.1)
    assert black.mean() == pytest.approx(255 * scale * (0.5 - below), abs=0.1)
    assert white.max() == 255 and black.min() == 0


def test_noise_is_that_of_its_seed() -> None:
    image = smooth_noise(50, 60)
    one, again, other = (
        drift_image(image, {"gaussian_noise": {"scale": 0.03, "seed": seed}}, SETTINGS) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_salt_and_pepper_in_equal_parts() -> None:
    settings = changed("transforms.quality.salt_and_pepper", {"share": [0.0, 0.02]})
    image = np.full((500, 400, 3), 90, np.uint8)
    drifted = drift_image(image, {"salt_and_pepper": {"share": 0.02, "seed": 3}}, settings)
    assert (drifted == drifted[..., :1]).all()
    for value in (0, 255):
        assert stats.binomtest(int((drifted[..., 0] == value).sum()), 500 * 400, 0.01).pvalue > 0.001
    assert set(np.unique(drifted)) == {0, 90, 255}
    assert (image == 90).all(), "the argument stays as it was"


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_settings_of_the_protocol_are_fine() -> None:
    check_drift(SETTINGS)
    check_drift(changed("transforms.quality.salt_and_pepper", {"share": [0.0, 0.02]}))
    for name in CATEGORIES:
        check_drift(only(name))


CAMERA, LIGHTING, QUALITY = ("transforms." + category for category in SETTINGS["order"])
RANGE = "expected a list of a lowest and a highest number from"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("drift", 1, "drift: unknown key drift. Known keys: categories_per_image, fill, order, resolution, transforms"),
        ("transforms", None, "drift.transforms: expected keys and values, found None."),
        ("transforms.rain", {}, "drift.transforms: unknown key rain. Known keys: camera_position, lighting, quality."),
        (f"{LIGHTING}.glare", {}, "drift.transforms.lighting: unknown key glare. Known keys: colour_jitter, shadow."),
        (f"{LIGHTING}.shadow.depth", 1, "transforms.lighting.shadow: unknown key depth. Known keys: factor, layers."),
        (f"{LIGHTING}.shadow", {"layers": 3}, "lighting.shadow.factor: expected a number from 0 to 1, found nothing."),
        (f"{LIGHTING}.shadow", 3, "drift.transforms.lighting.shadow: expected keys and values, found 3."),
        (f"{LIGHTING}.shadow.layers", 0, "shadow.layers: expected a whole number from 1 to 20, found 0."),
        (f"{LIGHTING}.shadow.layers", True, "shadow.layers: expected a whole number from 1 to 20, found True."),
        (f"{LIGHTING}.shadow.factor", 1.5, "shadow.factor: expected a number from 0 to 1, found 1.5."),
        (f"{LIGHTING}.colour_jitter.contrast", [-1, 1], f"contrast: {RANGE} 0 to 10, found [-1, 1]."),
        (f"{CAMERA}.rotation.degrees", 5, f"rotation.degrees: {RANGE} -180 to 180, found 5."),
        (f"{CAMERA}.rotation.degrees", [5, -5], f"rotation.degrees: {RANGE} -180 to 180, found [5, -5]."),
        (f"{CAMERA}.rotation.degrees", [0, float("nan")], f"rotation.degrees: {RANGE} -180 to 180"),
        (f"{CAMERA}.rotation.degrees", [0, 1, 2], f"rotation.degrees: {RANGE} -180 to 180"),
        (f"{CAMERA}.crop.scale", [0.8, 1.2], f"crop.scale: {RANGE} 0.01 to 1, found [0.8, 1.2]."),
        (f"{CAMERA}.perspective.distortion_scale", "0.2", "expected a number from 0 to 0.6, found '0.2'."),
        (f"{QUALITY}.gaussian_blur.kernel_size", 6, "kernel_size: expected an odd number from 3 to 63, found 6."),
        (f"{QUALITY}.gaussian_blur.sigma", [0, 1], f"gaussian_blur.sigma: {RANGE} 0.01 to 100"),
        (f"{QUALITY}.gaussian_noise.standard_deviation", -1, "standard_deviation: expected a number from 0 to 10"),
        (f"{QUALITY}.salt_and_pepper", {"share": 0.1}, f"salt_and_pepper.share: {RANGE} 0 to 1, found 0.1."),
        ("transforms", {}, "drift.transforms: no transform is on."),
        ("categories_per_image", [1, 4], "expected a list, each entry a whole number from 1 to 3, found [1, 4]."),
        ("categories_per_image", [], "drift.categories_per_image: expected a list"),
        ("categories_per_image", 2, "drift.categories_per_image: expected a list"),
        ("order", ["quality"], "expected each of camera_position, lighting, quality once, found ['quality']."),
        ("order", ["lighting", "lighting", "quality"], "drift.order: expected each of"),
        (LIGHTING, None, "drift.order: expected each of camera_position, quality once"),
        ("fill", 256, "drift.fill: expected a whole number from 0 to 255, found 256."),
        ("resolution", "both", "drift.resolution: expected source or input, found 'both'."),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(GridError) as error:
        check_drift(changed(path, value))
    assert message in error.value.message
    assert error.value.message.startswith("data_drift.drift")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(GridError, match=r"drift\.fill: expected .*, found nothing\.\n.*resolution: .* found nothing\."):
        check_drift({key: value for key, value in SETTINGS.items() if key not in ("fill", "resolution")})


def test_checking_imports_nothing_that_takes_time() -> None:
    heavy = ("numpy", "pandas", "PIL", "cv2", "torch", "torchvision", "kornia")
    code = (
        "import sys; from shopfloor.perturbations.drift import DriftSettings; "
        f"DriftSettings.model_validate({SETTINGS!r}); "
        f"sys.exit(str([name for name in {heavy!r} if name in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.stderr.strip() == "[]"
