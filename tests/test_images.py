import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.images import Range, image_files, read_raster, read_rgb, resize, to_rgb


def _noise(width: int = 24, height: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_images_of_any_kind_become_rgb_bytes() -> None:
    levels = np.array([[0, 32768, 65535]], np.uint16)
    full = Range(0, 65535)
    assert np.asarray(to_rgb(Image.fromarray(levels), full))[0, :, 0].tolist() == [0, 128, 255]
    assert np.asarray(to_rgb(Image.fromarray(levels.astype(np.int32)), full))[0, :, 2].tolist() == [0, 128, 255]
    for mode in ("1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV"):
        assert to_rgb(Image.new(mode, (2, 3))).mode == "RGB"
    for mode in ("RGBA", "LA", "PA"):
        image = Image.new(mode, (2, 1), 0)
        assert to_rgb(image).getpixel((0, 0)) == (0, 0, 0), mode  # a channel of nothing but 0 is no transparency
        image.putalpha(Image.fromarray(np.array([[0, 255]], np.uint8)))
        pixels = [to_rgb(image).getpixel((x, 0)) for x in (0, 1)]
        assert pixels == [(255, 255, 255), (0, 0, 0)], mode  # nothing, on white
    half = Image.new("RGBA", (1, 1), (255, 0, 0, 128))
    assert to_rgb(half).getpixel((0, 0)) == (255, 127, 127)


def test_levels_of_unknown_range_are_not_guessed() -> None:
    """Never from one image: its neighbour would get another range."""
    for levels in (
        np.array([[0, 200, 4000]], np.uint16),
        np.array([[0, 70000]], np.int32),
        np.ones((1, 1), np.float32),
    ):
        with pytest.raises(ValueError, match=r"levels from \d to \d+, and which of them .* \(--levels LO HI\)"):
            to_rgb(Image.fromarray(levels))
    rgb = np.asarray(to_rgb(Image.fromarray(np.array([[-1000, 0, 1000, 3000]], np.float32)), Range(-1000, 1000)))
    assert rgb[0, :, 0].tolist() == [0, 128, 255, 255]
    for ends in ((1, 1), (2, 1), (0, np.nan), (0, np.inf)):
        with pytest.raises(ValueError, match="are no range: expected LO below HI"):
            Range(*ends)


def test_resize_keeps_what_has_the_size() -> None:
    image = np.zeros((7, 7, 3), np.uint8)
    assert resize(image, 7) is image
    assert resize(np.zeros((9, 4), np.uint8), 7).shape == (7, 7)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff", "bmp", "gif", "jp2", "ppm", "tga", "ico"])
def test_formats_are_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"image.{ending}"
    _noise(16, 16).save(path)
    image = read_rgb(path)
    assert (image.mode, image.size) == ("RGB", (16, 16))


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_plain_tiffs_are_turned_upright_too(tmp_path: Path, mode: str, orientation: int) -> None:
    """Scanners write them; pillow maps such files into memory in a way of its own."""
    upright = np.random.default_rng(0).integers(0, 256, (24, 16), np.uint8)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # numbers of pillow's transpositions that undo the turning
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    pixels = np.asarray(stored)
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else stored.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "scan.tiff", exif=exif)
    raster = read_raster(tmp_path / "scan.tiff")
    assert np.array_equal(raster.rgb(Range(0, 65535))[..., 0], upright)
    assert raster.orientation == orientation
    assert np.array_equal(raster.as_stored().rgb(Range(0, 65535))[..., 0], np.asarray(stored))


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_photographs_are_turned_upright(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    upright = Image.fromarray(np.repeat(np.arange(24, dtype=np.uint8)[:, None, None] * 10, 16, 1).repeat(3, 2))
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / f"turned.{ending}", exif=exif)
    image = np.asarray(read_rgb(tmp_path / f"turned.{ending}")).astype(int)
    assert image.shape == (24, 16, 3)
    assert np.abs(image - np.asarray(upright)).max() < 12  # two of the formats are lossy


def test_a_phones_photograph_with_a_preview_is_one_image(tmp_path: Path) -> None:
    _noise().save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[_noise()])
    assert read_rgb(tmp_path / "phone.jpg").size == (24, 16)


def test_a_psd_is_one_image_of_layers(tmp_path: Path) -> None:
    header = struct.pack(">4sH6sHIIHH", b"8BPS", 1, b"", 3, 16, 24, 8, 3)
    (tmp_path / "flat.psd").write_bytes(header + bytes(12 + 2) + bytes(3 * 16 * 24))
    assert read_rgb(tmp_path / "flat.psd").size == (24, 16)


def test_several_images_in_a_file_are_refused(tmp_path: Path) -> None:
    for name in ("moving.gif", "pages.tiff"):
        others = [Image.new("RGB", (24, 16), colour) for colour in ("red", "blue")]
        _noise().save(tmp_path / name, save_all=True, append_images=others)
        with pytest.raises(ValueError, match=rf"{name} cannot be read as an image: it holds 3 images, expected one"):
            read_rgb(tmp_path / name)


def test_what_is_no_image_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a directory, expected a directory of images"):
        image_files(tmp_path / "absent")
    with pytest.raises(ValueError, match="has no files: expected images"):
        image_files(tmp_path)
    said = dict.fromkeys(("c.txt", "d", "g.csv"), "is not an image: expected an ending such as .png")
    said |= {"a.mp4": "is not read: it is a video: save its frames", "b.mpg": "is not read: it is a video"}
    said |= {"e.pdf": "is not read: it is a drawing: export it as .png", "f.eps": "is not read: it is a drawing"}
    for name, sentence in said.items():
        path = tmp_path / name
        path.write_bytes(b"")
        with pytest.raises(ValueError, match=f"{name} {sentence}"):
            image_files(tmp_path)
        path.unlink()
    (tmp_path / "h.png").mkdir()
    with pytest.raises(ValueError, match=r"h.png is a directory, expected an image"):
        image_files(tmp_path)
    (tmp_path / "h.png").rmdir()
    os.mkfifo(tmp_path / "i.png")
    with pytest.raises(ValueError, match=r"i.png is a device or a pipe, expected an image"):
        image_files(tmp_path)


def test_images_come_by_name_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in image_files(tmp_path)] == ["a.jpg", "b.PNG"]


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"<html></html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        (tmp_path / "image.png").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"image.png cannot be read as an image: its content is of no known format"
        ):
            read_rgb(tmp_path / "image.png")


@pytest.mark.parametrize(
    "ending", ["png", "jpg", "webp", "tiff", "bmp", "gif", "jp2", "ppm", "tga", "ico", "dds", "psd", "avif"]
)
@pytest.mark.filterwarnings("ignore")  # pillow's, of what it reads in spite of the damage
def test_damaged_files_are_refused_or_read_but_nothing_else(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"image.{ending}"
    if ending == "psd":
        path.write_bytes(struct.pack(">4sH6sHIIHH", b"8BPS", 1, b"", 3, 16, 16, 8, 3) + bytes(12 + 2) + bytes(768))
    else:
        _noise(16, 16).save(path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(120):
        damaged = bytearray(whole[: random.integers(1, len(whole))] if random.random() < 0.5 else whole)
        for place in random.integers(0, len(damaged), 4):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        with suppress(ValueError):
            assert read_rgb(path).mode == "RGB"
