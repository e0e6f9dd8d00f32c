"""Folders of textures: which files count, in which order, and what is said of a folder that cannot serve."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from shopfloor.detectors.building import DetectorError
from shopfloor.detectors.textures import SUFFIXES, UsesTextures, list_textures, read_texture, stack_textures


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# Listing


def test_images_of_folder_and_sub_folders_come_in_the_order_of_their_paths(tmp_path):
    touch(tmp_path, "wood/2.png", "wood/10.png", "bark.jpg", "a/deep/er/x.tif", "wood/1.PNG")
    found = [path.relative_to(tmp_path).as_posix() for path in list_textures(tmp_path)]
    assert found == ["a/deep/er/x.tif", "bark.jpg", "wood/1.PNG", "wood/10.png", "wood/2.png"]


def test_order_does_not_depend_on_when_the_files_were_written(tmp_path):
    names = [f"{letter}.png" for letter in "qaxmb"]
    touch(tmp_path / "one", *names)
    touch(tmp_path / "two", *reversed(names))
    one, two = ([path.name for path in list_textures(tmp_path / folder)] for folder in ("one", "two"))
    assert one == two == sorted(names)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".JPG", ".Tiff"])
def test_suffix_counts_in_any_case(suffix, tmp_path):
    touch(tmp_path, f"texture{suffix}", "readme.txt", "texture.npy", "png", ".hidden")
    assert [path.name for path in list_textures(tmp_path)] == [f"texture{suffix}"]


def test_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    touch(outside, "far/away.png", "file.png")
    textures = tmp_path / "textures"
    touch(textures, "mine.png")
    (textures / "linked.png").symlink_to(outside / "file.png")
    (textures / "folder").symlink_to(outside / "far", target_is_directory=True)
    (textures / "again").symlink_to(textures, target_is_directory=True)  # a circle
    assert [path.name for path in list_textures(textures)] == ["mine.png"]


def test_folder_called_like_an_image_is_no_image(tmp_path):
    touch(tmp_path, "stone.png/inside.jpg")
    assert [path.name for path in list_textures(tmp_path)] == ["inside.jpg"]


# What cannot serve


@pytest.mark.parametrize("folder", [None, "", "no/such/folder"])
def test_missing_folder_is_named_with_its_entry(folder):
    with pytest.raises(
        DetectorError, match=r"TEXTURES_MISSING.*\(textures\.dtd\.folder\).*robots\.ox\.ac\.uk"
    ) as caught:
        list_textures(folder, "dtd")
    assert repr(folder) in caught.value.message


def test_file_in_place_of_a_folder_is_refused(tmp_path):
    touch(tmp_path, "texture.png")
    with pytest.raises(DetectorError, match="TEXTURES_MISSING"):
        list_textures(tmp_path / "texture.png", "dtd")


def test_folder_without_images_is_named_with_its_entry_and_the_suffixes(tmp_path):
    touch(tmp_path, "readme.txt", "empty/.gitkeep")
    with pytest.raises(
        DetectorError, match=r"TEXTURES_MISSING.*holds no image.*\.png.*textures\.own\.folder"
    ) as caught:
        list_textures(tmp_path, "own")
    assert str(tmp_path) in caught.value.message


def test_without_an_entry_none_is_named():
    with pytest.raises(DetectorError) as caught:
        list_textures(None)
    assert "textures." not in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_that_may_not_be_read_is_named(tmp_path):
    touch(tmp_path, "closed/texture.png")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(DetectorError, match="closed"):
            list_textures(tmp_path / "closed", "own")
    finally:
        (tmp_path / "closed").chmod(0o755)


def damaged(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n not really")


def cut_short(path):
    save(path, noise(64, 64, 3))
    path.write_bytes(path.read_bytes()[:2000])


def text(path):
    path.write_text("a text", encoding="utf-8")


@pytest.mark.parametrize("spoil", [damaged, cut_short, text])
def test_damaged_image_is_named(spoil, tmp_path):
    save(tmp_path / "good.png", noise(8, 8, 3))
    spoil(tmp_path / "spoilt.png")
    for read in (lambda: read_texture(tmp_path / "spoilt.png", 64), lambda: stack_textures(tmp_path, 64)):
        with pytest.raises(DetectorError, match=r"TEXTURE_UNREADABLE.*spoilt\.png"):
            read()


def test_image_that_is_far_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    save(tmp_path / "huge.png", noise(64, 64, 3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DetectorError, match=r"TEXTURE_UNREADABLE.*huge\.png"):
        read_texture(tmp_path / "huge.png", 64)


# Pixels


@pytest.mark.parametrize("shape", [(64, 64, 3), (100, 40, 3), (30, 200, 3)])
def test_resize_is_pillows_bilinear_one_and_ignores_the_aspect_ratio(shape, tmp_path):
    pixels = noise(*shape)
    read = read_texture(save(tmp_path / "texture.png", pixels), 64)
    assert read.shape == (64, 64, 3) and read.dtype == np.uint8
    assert np.array_equal(read, np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("shape", [(64, 64, 3), (100, 40, 3), (30, 201, 3), (77, 50), (97, 640, 3), (480, 640, 3)])
def test_crop_is_torchvisions_of_the_middle_of_the_resized_image(shape, tmp_path):
    """As the public code of GLASS prepares a texture."""
    file = save(tmp_path / "texture.png", noise(*shape))
    prepare = v2.Compose([v2.Resize(64), v2.CenterCrop(64)])
    assert np.array_equal(read_texture(file, 64, crop=True), np.asarray(prepare(Image.open(file).convert("RGB"))))
    assert np.array_equal(stack_textures(tmp_path, 64, crop=True)[0], read_texture(file, 64, crop=True))


def test_reduction_averages_instead_of_skipping_pixels(tmp_path):
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # a reduction that skips pixels would give pure black or pure white
    read = read_texture(save(tmp_path / "stripes.png", stripes), 32)
    assert np.abs(read.astype(int) - 127).max() <= 10


def test_grey_is_repeated(tmp_path):
    grey = noise(64, 64)
    assert np.array_equal(read_texture(save(tmp_path / "grey.png", grey), 64), np.stack([grey] * 3, axis=-1))


def test_alpha_is_dropped_and_not_blended(tmp_path):
    pixels = noise(64, 64, 4)
    assert np.array_equal(read_texture(save(tmp_path / "alpha.png", pixels), 64), pixels[..., :3])


def test_colours_of_a_palette_are_looked_up_before_the_resize(tmp_path):
    image = Image.new("P", (128, 64))
    image.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    image.paste(1, (64, 0, 128, 64))
    image.save(tmp_path / "palette.png")
    read = read_texture(tmp_path / "palette.png", 64)
    assert read[32, 4].tolist() == [255, 0, 0]
    assert read[32, 60].tolist() == [0, 0, 255]
    assert read[..., 1].max() == 0  # averaged numbers of colours would be those of other colours


def test_black_and_white_image_is_read(tmp_path):
    Image.fromarray(noise(64, 64) > 127).save(tmp_path / "bits.png")
    assert set(np.unique(read_texture(tmp_path / "bits.png", 64))) == {0, 255}


def test_image_of_16_bits_is_not_silently_white(tmp_path):
    Image.fromarray(np.linspace(5000, 65000, 64 * 64).reshape(64, 64).astype(np.uint16)).save(tmp_path / "deep.png")
    try:
        read = read_texture(tmp_path / "deep.png", 64)
    except DetectorError as error:
        assert "deep.png" in error.message  # refused or scaled: both would do
    else:
        assert len(np.unique(read)) > 100


def test_stack_holds_the_images_in_the_order_of_the_list(tmp_path):
    for number, name in enumerate(["b/x.png", "a.png", "c.png"]):
        save(tmp_path / name, np.full((20, 30, 3), 10 * number, np.uint8))
    stack = stack_textures(tmp_path, 16)
    assert stack.shape == (3, 16, 16, 3) and stack.dtype == np.uint8
    assert stack[:, 0, 0, 0].tolist() == [10, 0, 20]


def test_a_detector_is_told_by_its_method():
    class With:
        def use_textures(self, textures):
            """Takes them."""

    assert isinstance(With(), UsesTextures)
    assert not isinstance(object(), UsesTextures)
