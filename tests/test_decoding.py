"""Pictures of every format and mode: the colours that people see."""

import io
import re

import numpy as np
import pytest
from odd_pictures import GREEN, RED, WHITE, coded, plain, see_through, three_bands
from PIL import Image

from kvae.data import Fitting
from kvae.data.decoding import FORMATS, decoded, looked_at
from kvae.data.fitting import fitted_pixels


@pytest.mark.parametrize(
    "background, expected",
    [(None, (255, 127, 127)), ("black", (128, 0, 0)), ("#0000ff", (128, 0, 127))],
)
def test_transparency_is_laid_over_the_background(background, expected):
    image = decoded(coded(see_through()), Fitting(background=background))
    assert abs(image.astype(int) - expected).max() <= 1


def test_transparency_can_be_kept():
    image = decoded(coded(see_through()), Fitting(channels="rgba"))
    assert (image == (*RED, 128)).all()
    opaque = decoded(coded(plain((4, 4))), Fitting(channels="rgba"))
    assert (opaque == (*RED, 255)).all()


def test_colours_hidden_under_transparency_do_not_bleed_in():
    pixels = np.zeros((16, 16, 4), "uint8")
    pixels[:, :8] = (*RED, 255)
    pixels[:, 8:] = (*GREEN, 0)  # green, but nobody sees it
    content = coded(Image.fromarray(pixels))
    image = decoded(content, Fitting(image_size=4, channels="rgb"))
    assert image[:, 0].tolist() == [list(RED)] * 4
    assert (image[..., 1] == image[..., 2]).all(), "green bled in"


def palette(transparent):
    picture = plain((8, 8)).convert("P", palette=Image.Palette.ADAPTIVE)
    if transparent:
        picture.info["transparency"] = 0
    return picture


@pytest.mark.parametrize(
    "picture, expected",
    [
        (plain((4, 4), 1, "1"), [WHITE]),
        (plain((4, 4), 100, "L"), [(100,) * 3]),
        (plain((4, 4), (100, 0), "LA"), [WHITE]),
        (plain((4, 4), (100, 255), "LA"), [(100,) * 3]),
        (palette(False), [RED]),
        (palette(True), [WHITE]),
        (plain((4, 4), 257 * 100, "I;16"), [(100,) * 3]),
    ],
    ids=["1", "L", "LA-clear", "LA", "P", "P-clear", "I;16"],
)
def test_png_of_every_mode_has_the_colours_that_people_see(picture, expected):
    image = decoded(coded(picture), Fitting(channels="rgb"))
    assert np.unique(image.reshape(-1, 3), axis=0).tolist() == [list(one) for one in expected]


@pytest.mark.parametrize("mode, colour", [("CMYK", (0, 255, 255, 0)), ("F", 1.0), ("YCbCr", None)])
def test_tiff_of_other_modes(mode, colour):
    picture = plain((4, 4), colour, mode) if colour else plain((4, 4)).convert(mode)
    image = decoded(coded(picture, "TIFF"), Fitting(channels="rgb"))
    expected = WHITE if mode == "F" else RED
    assert abs(image.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("value, said", [(3.5, "floats from 3.5"), (-1.0, "not in [0, 1]")])
def test_floats_of_another_range_are_refused(value, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        decoded(coded(plain((4, 4), value, "F"), "TIFF"), Fitting())


def test_sixteen_bits_keep_their_order_and_their_ends():
    values = np.linspace(0, 65535, 64).round().astype("uint16").reshape(8, 8)
    image = decoded(coded(Image.fromarray(values)), Fitting())
    assert image.shape == (8, 8, 1) and image.min() == 0 and image.max() == 255
    assert (np.diff(image.reshape(-1).astype(int)) >= 0).all()


@pytest.mark.parametrize("form", sorted(set(FORMATS.values())))
def test_every_format_is_read(form):
    content = coded(plain((16, 24)), form)
    assert looked_at(io.BytesIO(content)).size == (16, 24)
    image = decoded(content, Fitting(channels="rgb"))
    assert image.shape == (16, 24, 3)
    assert abs(image.astype(int) - RED).max() <= 4


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation, turned", [(1, False), (3, False), (6, True), (8, True)])
def test_exif_turns_a_picture_before_it_is_fitted(form, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = coded(Image.fromarray(three_bands()), form, exif=exif)
    size = (90, 30) if turned else (30, 90)
    assert looked_at(io.BytesIO(content)).size == size
    image = decoded(content, Fitting(image_size=size))
    assert image.shape == (*size, 3)
    ends = image[[5, -5], 15] if turned else image[15, [5, -5]]
    reds = ends[:, 0].astype(int) > 200
    assert reds.tolist() == ([True, False] if orientation in (1, 6) else [False, True])


def test_of_an_animation_the_first_image_is_read():
    frames = [plain((4, 4), colour) for colour in (RED, GREEN)]
    content = coded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decoded(content, Fitting(channels="rgb")) == RED).all()


def test_a_large_jpeg_is_the_same_picture_when_it_is_decoded_small():
    large = Image.fromarray(three_bands(600, 600))
    image = decoded(coded(large, "JPEG", quality=95), Fitting(image_size=6))
    expected = fitted_pixels(np.asarray(large), Fitting(image_size=6))
    assert abs(image.astype(int) - expected).max() <= 8
