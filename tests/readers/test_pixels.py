from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shopfloor.readers.pixels import ImageError, read_image, read_mask, resize_image, resize_mask


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_colour_is_read_as_rgb(tmp_path: Path, colours: np.ndarray) -> None:
    Image.fromarray(colours).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, colours)


@pytest.mark.parametrize("image_format", ["BMP", "PNG", "TIFF"])
def test_content_decides_not_the_extension(tmp_path: Path, colours: np.ndarray, image_format: str) -> None:
    Image.fromarray(colours).save(tmp_path / "a.jpg", image_format)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), colours)


def test_lossy_formats_are_read(tmp_path: Path) -> None:
    smooth = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    for image_format in ("JPEG", "WEBP"):
        Image.fromarray(smooth).save(tmp_path / "a.png", image_format)
        assert np.abs(read_image(tmp_path / "a.png").astype(int) - smooth).max() < 10


def test_grey_is_repeated_alpha_dropped_palette_resolved(tmp_path: Path, colours: np.ndarray) -> None:
    grey = colours[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))

    transparent = np.concatenate([colours, np.zeros_like(colours[..., :1])], axis=2)
    Image.fromarray(transparent).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), colours)

    palette = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), mode="L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "palette.png")
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    assert read_image(tmp_path / "palette.png").tolist() == expected


def test_orientation_tag_is_not_applied(tmp_path: Path, colours: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colours)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_eight_bits_are_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.ones((40, 40), dtype=dtype)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif: (16|32) bits per channel"):
        read_image(tmp_path / "a.tif")


def test_damage_and_bombs_are_image_errors(
    tmp_path: Path, colours: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(colours).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for content in (b"", b"GIF89a" + bytes(100), data[:-100], data[:20]):
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises(ImageError, match=r"b\.png"):
            read_image(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ImageError, match="exceeds limit"):
        read_image(tmp_path / "a.png")


def test_mask_is_the_union_of_everything_above_zero(tmp_path: Path) -> None:
    expected = np.zeros((30, 20), dtype=np.uint8)
    for number, value in enumerate((1, 236, 255)):
        mask = np.zeros((30, 20), dtype=np.uint8)
        mask[number : number + 2, 5:8] = value
        expected[number : number + 2, 5:8] = 1
        Image.fromarray(mask).save(tmp_path / f"{number}.png")
    union = read_mask([tmp_path / f"{number}.png" for number in range(3)], (30, 20))
    assert union.dtype == np.uint8
    np.testing.assert_array_equal(union, expected)
    assert read_mask([], (30, 20)).shape == (30, 20)
    assert not read_mask([], (30, 20)).any()


def test_mask_in_unusual_modes(tmp_path: Path) -> None:
    mask = np.zeros((30, 20), dtype=np.uint8)
    mask[4:9, 2:12] = 1
    coloured = np.stack([0 * mask, 0 * mask, mask, np.full_like(mask, 255)], axis=2)  # blue defect, full alpha
    Image.fromarray(coloured).save(tmp_path / "rgba.png")
    Image.fromarray(mask.astype(bool)).save(tmp_path / "bits.png")
    Image.fromarray(mask.astype(np.uint16) * 300).save(tmp_path / "deep.png")
    for name in ("rgba", "bits", "deep"):
        np.testing.assert_array_equal(read_mask([tmp_path / f"{name}.png"], (30, 20)), mask)


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((30, 21), dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=r"m\.png: the mask is 21 x 30 pixels, its image is 20 x 30"):
        read_mask([tmp_path / "m.png"], (30, 20))


def test_resize_image_keeps_means_and_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255  # finer than the reduced grid: an aliasing resize would turn black or white
    small = resize_image(stripes, 128)
    assert small.shape == (128, 128, 3)
    assert abs(float(small[:, 2:-2].mean()) - 127.5) < 2
    assert small[:, 2:-2].std() < 3


def test_resize_image_agrees_with_torchvision() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    image = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for size in (64, 256):
        expected = functional.resize(tensor, [size, size], antialias=True).permute(1, 2, 0).numpy()
        assert np.abs(resize_image(image, size).astype(int) - expected).max() <= 1


def test_resize_leaves_the_right_size_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_image(image, 64), image)
    np.testing.assert_array_equal(resize_mask(image[..., 0], 64), image[..., 0])


def test_resize_mask_by_hand() -> None:
    mask = np.array([[0, 1, 2, 3, 4, 5]] * 3, dtype=np.uint8)
    assert resize_mask(mask, 3).tolist() == [[0, 2, 4]] * 3
    assert resize_mask(mask[:, :2], 4).tolist() == [[0, 0, 1, 1]] * 4


@pytest.mark.parametrize("side", [(1024, 1024), (700, 900), (1600, 600), (219, 274), (300, 300), (64, 50)])
@pytest.mark.parametrize("size", [128, 224, 256, 512])
def test_resize_mask_samples_as_torch_does(side: tuple[int, int], size: int) -> None:
    torch = pytest.importorskip("torch")
    mask = np.random.default_rng(0).integers(0, 2, side, dtype=np.uint8)
    tensor = torch.from_numpy(mask)[None, None].float()
    expected = torch.nn.functional.interpolate(tensor, size=(size, size), mode="nearest")[0, 0].numpy()
    np.testing.assert_array_equal(resize_mask(mask, size), expected)
