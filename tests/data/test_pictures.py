import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from memjax.data import pictures
from memjax.errors import UserError

_RNG = np.random.default_rng(0)
_GREY = _RNG.integers(0, 256, (6, 5), np.uint8)
_COLOUR = _RNG.integers(0, 256, (6, 5, 3), np.uint8)
_GREY_PICTURE, _COLOUR_PICTURE = PIL.Image.fromarray(_GREY), PIL.Image.fromarray(_COLOUR)


def read(*paths):
    return pictures.read([path.name for path in paths], list(paths))


def saved(path, picture, **fields):
    picture.save(path, **fields)
    return path


def refusal(*paths):
    """The one line with which pictures are refused."""
    with pytest.raises(UserError) as error:
        read(*paths)
    assert "\n" not in str(error.value)
    return str(error.value)


_FEW_COLOURS = _COLOUR_PICTURE.quantize(20)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("picture", "fields", "channels"),
    [
        (_GREY_PICTURE, {}, 1),
        (_GREY_PICTURE.convert("1"), {}, 1),
        (_GREY_PICTURE.convert("LA"), {}, 1),
        (_GREY_PICTURE.convert("P"), {}, 1),
        (_COLOUR_PICTURE, {}, 3),
        (_COLOUR_PICTURE.convert("RGBA"), {}, 3),
        (_FEW_COLOURS, {}, 3),
        (_FEW_COLOURS, {"transparency": bytes([255] * 20)}, 3),  # which is opaque
    ],
)
def test_what_a_picture_shows_counts_not_how_its_file_says_it(tmp_path, picture, fields, channels):
    path = saved(tmp_path / "a.png", picture, **fields)
    expected = np.asarray(picture.convert("RGB"))[..., :channels]
    np.testing.assert_array_equal(read(path), expected[None])
    np.testing.assert_array_equal(pictures.read(["a"], [path.read_bytes()]), expected[None])


def test_a_picture_taken_sideways_is_turned_upright(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # its right side is its top
    path = saved(tmp_path / "a.png", _GREY_PICTURE, exif=exif)
    np.testing.assert_array_equal(read(path)[0, ..., 0], np.rot90(_GREY, -1))


def test_grey_ones_among_colours_are_read_as_colour(tmp_path):
    grey, colour = (
        saved(tmp_path / "grey.png", _GREY_PICTURE),
        saved(tmp_path / "colour.png", _COLOUR_PICTURE),
    )
    images = read(grey, colour, grey)
    np.testing.assert_array_equal(images[0], np.repeat(_GREY[..., None], 3, axis=-1))
    np.testing.assert_array_equal(images[1], _COLOUR)
    np.testing.assert_array_equal(images[2], images[0])


def test_pictures_of_two_sizes_are_named_with_their_sizes(tmp_path):
    first = saved(tmp_path / "a.png", _GREY_PICTURE)
    other = saved(tmp_path / "b.png", _GREY_PICTURE.resize((7, 4)))
    told = "b.png is 7 wide and 4 high, a.png 5 wide and 6 high: make all pictures the same size"
    assert refusal(first, first, other) == told


def see_through(picture):
    """The same with one pixel that is not quite opaque."""
    picture = picture.copy()
    picture.putpixel((2, 3), (*picture.getpixel((2, 3))[:-1], 254))
    return picture


def deep_colour(path):
    """A PNG of 16 bits a channel and one pixel, which PIL reads but does not write."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(7))),
        (b"IEND", b""),
    ]
    file = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        check = zlib.crc32(kind + content)
        file += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
    path.write_bytes(file)


def cut(path):
    _COLOUR_PICTURE.save(path)
    path.write_bytes(path.read_bytes()[:60])


_PALETTE = _GREY_PICTURE.convert("P")

_BAD = {
    "a.png": (
        see_through(_COLOUR_PICTURE.convert("RGBA")).save,
        "is transparent (RGBA): save it wi",
    ),
    "b.png": (
        see_through(_GREY_PICTURE.convert("LA")).save,
        "is transparent (LA): save it without",
    ),
    "c.gif": (
        lambda p: _PALETTE.save(p, transparency=int(_GREY[0, 0])),
        "is transparent (P): sa",
    ),
    "d.png": (
        lambda p: _GREY_PICTURE.save(p, transparency=int(_GREY[0, 0])),
        "is transparent (L): ",
    ),
    "e.png": (
        PIL.Image.fromarray(_GREY.astype(np.uint16) * 257).save,
        "is of 16 bits: save it with",
    ),
    "f.png": (deep_colour, "is of 16 bits: save it with 8, grey or RGB"),
    "g.jpg": (_COLOUR_PICTURE.convert("CMYK").save, "is of the mode CMYK: save it as grey or RGB"),
    "h.gif": (
        lambda p: _GREY_PICTURE.save(p, save_all=True, append_images=[_GREY_PICTURE.rotate(180)]),
        "is animated: save one frame",
    ),
    "i.png": (lambda p: p.write_text("hello"), "cannot be read as a picture ("),
    "j.jpg": (lambda p: p.write_bytes(b""), "cannot be read as a picture ("),
    "k.png": (lambda p: p.symlink_to("gone"), "cannot be read as a picture ("),
    "l.png": (cut, "cannot be read as a picture ("),
}


@pytest.mark.parametrize("name", list(_BAD))
def test_a_bad_picture_among_good_ones_is_named(tmp_path, name):
    make, told = _BAD[name]
    good = saved(tmp_path / "good.png", _GREY_PICTURE)
    make(tmp_path / name)
    assert refusal(good, tmp_path / name, good).startswith(f"{name} {told}")
