"""Sizes, modes, transparency: what becomes of pictures of any kind."""

import re

import numpy as np
import pytest
from odd_pictures import BLUE, GREEN, RED, coded, fill, noise, plain, see_through, three_bands
from PIL import Image

import kvae
from kvae.data import Fitting, fitted, from_arrays, load, read_pictures, refitted
from kvae.data.decoding import decoded
from kvae.data.fitting import Look, boxes, fitted_pixels, resolved

# Values


@pytest.mark.parametrize("value, size", [(64, (64, 64)), ((48, 64), (48, 64)), ([3, 5], (3, 5))])
def test_a_size_is_a_side_or_height_and_width(value, size):
    assert Fitting(image_size=value).image_size == size


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "64", (1, 2, 3), (64, 0), 2**20])
def test_what_is_no_size_is_refused(value):
    with pytest.raises(ValueError, match="`image_size` must be a side in pixels"):
        Fitting(image_size=value)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"fit": "zoom"}, "`fit` must be one of 'crop', 'pad', 'stretch'"),
        ({"channels": "cmyk"}, "`channels` must be one of 'grey', 'rgb', 'rgba'"),
        ({"background": "pink"}, "`background` must be 'white', 'black' or a colour"),
        ({"background": "#12345"}, "such as '#ff8800'"),
    ],
)
def test_what_is_no_way_of_fitting_is_refused(values, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Fitting(**values)


# Sizes


@pytest.mark.parametrize(
    "size, target, source",
    [
        ((100, 200), (10, 10), (50, 0, 150, 100)),
        ((200, 100), (10, 10), (0, 50, 100, 150)),
        ((100, 100), (10, 20), (0, 25, 100, 75)),
        ((5, 7), (5, 7), (0, 0, 7, 5)),
    ],
)
def test_cropping_takes_the_middle(size, target, source):
    assert boxes(size, target, "crop") == (source, (0, 0, target[1], target[0]))


def test_padding_keeps_all_and_stretching_fills_all():
    assert boxes((100, 200), (10, 10), "pad") == ((0, 0, 200, 100), (0, 2, 10, 7))
    assert boxes((200, 100), (10, 10), "pad") == ((0, 0, 100, 200), (2, 0, 7, 10))
    assert boxes((1, 1000), (8, 8), "pad")[1] == (0, 3, 8, 4)
    assert boxes((100, 200), (10, 10), "stretch") == ((0, 0, 200, 100), (0, 0, 10, 10))


def test_a_crop_of_bands_is_the_middle_one():
    image = fitted_pixels(three_bands(), Fitting(image_size=10))
    assert abs(image[:, 1:-1].astype(int) - GREEN).max() <= 1


def test_padded_bands_have_the_background_above_and_below():
    fitting = Fitting(image_size=30, fit="pad", background="#102030")
    image = fitted_pixels(three_bands(), fitting)
    np.testing.assert_array_equal(image[:10], np.broadcast_to((16, 32, 48), (10, 30, 3)))
    np.testing.assert_array_equal(image[-10:], image[:10])
    np.testing.assert_array_equal(image[15, [2, 15, 27]], [RED, GREEN, BLUE])


def test_stretched_bands_are_all_there():
    image = fitted_pixels(three_bands(), Fitting(image_size=30, fit="stretch"))
    np.testing.assert_array_equal(image[15, [2, 15, 27]], [RED, GREEN, BLUE])


def test_shrinking_is_antialiased():
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    small = fitted_pixels(checks[..., np.newaxis].astype("uint8"), Fitting(image_size=8))
    assert abs(small.astype(int) - 127).max() <= 3


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_each_channel_is_fitted_as_it_would_be_alone(channels, dtype):
    image = noise((12, 18), channels=channels)
    image = image if dtype == "uint8" else (image / 255).astype("float32")
    if channels == 4 and dtype == "uint8":
        image[..., 3] = 255  # else colours have a say by how opaque they are
    whole = fitted_pixels(image, Fitting(image_size=6))
    assert whole.dtype == dtype and whole.shape == (6, 6, channels)
    for i in range(channels):
        alone = fitted_pixels(image[..., i : i + 1], Fitting(image_size=6))
        np.testing.assert_array_equal(whole[..., i : i + 1], alone)


def look(*size, grey=False, transparent=False):
    return Look(size, grey, transparent)


@pytest.mark.parametrize(
    "sizes, chosen",
    [
        ([(48, 64)] * 3, (48, 64)),
        ([(64, 64)] * 9 + [(65, 64)], (64, 64)),
        ([(128, 128)] * 3, (128, 128)),
        ([(480, 640), (3024, 4032), (100, 4000)], (64, 64)),
        ([(300, 300)] * 3, (64, 64)),
        ([(40, 50), (33, 70), (20, 32)], (32, 32)),
        ([(5, 6), (6, 5), (5, 7)], (5, 5)),
    ],
)
def test_the_size_is_the_common_one_or_a_sensible_square(sizes, chosen):
    fitting, _ = resolved(Fitting(), [look(*size) for size in sizes])
    assert fitting.image_size == chosen


def test_what_is_done_with_sizes_is_said_width_first():
    looks = [look(640, 480), look(4032, 3024)]
    assert resolved(Fitting(), looks)[1] == [
        "Images from 480×640 to 3024×4032 pixels are cropped to 64×64; --image-size for another."
    ]
    said = resolved(Fitting(image_size=(24, 32), fit="pad"), looks)[1]
    assert said == ["Images from 480×640 to 3024×4032 pixels are padded to 32×24."]
    assert "resized" in resolved(Fitting(image_size=32), [look(64, 64)] * 2)[1][0]
    assert resolved(Fitting(), [look(64, 64)] * 2)[1] == []
    some = [look(64, 64)] * 9 + [look(64, 32)]
    assert resolved(Fitting(), some)[1][0].startswith("1 of 10 images, from 32×64 pixels")


@pytest.mark.parametrize(
    "brightness, background", [(None, "white"), (0.3, "white"), (0.95, "black")]
)
def test_nearly_white_drawings_are_laid_over_black(brightness, background):
    looks = [look(8, 8, transparent=True), look(8, 8)]
    fitting, said = resolved(Fitting(), looks, brightness)
    assert fitting.background == background
    assert f"Transparency of 1 image is laid over {background}" in said[0]
    assert resolved(Fitting(background="#808080"), looks, brightness)[0].background == "#808080"


def test_channels_are_grey_where_all_are():
    assert resolved(Fitting(), [look(8, 8, grey=True)] * 2)[0].channels == "grey"
    fitting, said = resolved(Fitting(), [look(8, 8, grey=True), look(8, 8)])
    assert fitting.channels == "rgb" and said == ["1 of 2 images are grey and become RGB."]
    assert resolved(Fitting(channels="rgba"), [look(8, 8)])[0].channels == "rgba"


# Folders


def test_a_folder_of_odd_files_is_read_and_each_choice_is_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    fill(
        tmp_path,
        {
            "a.png": plain((70, 90)),
            "b.jpg": plain((300, 200), BLUE),
            "c.webp": plain((64, 64), GREEN),
            "d.gif": plain((80, 80)).convert("P"),
            "e.bmp": plain((99, 65)),
            "f.tif": plain((70, 70), (0, 255, 255, 0), "CMYK"),
            "g.png": see_through(size=(128, 64)),
            "h.png": plain((64, 64), 40_000, "I;16"),
            "i.png": plain((64, 64), 1, "1"),
            "j.avif": plain((64, 96)),
        },
    )
    plain((100, 50)).save(tmp_path / "k.jpeg", exif=exif)
    (tmp_path / "broken.png").write_bytes(coded(plain((64, 64)))[:50])
    (tmp_path / "phone.heic").write_bytes(b"...")
    (tmp_path / "Thumbs.db").write_bytes(b"...")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read.*--skip-bad"):
        load(tmp_path)
    dataset = load(tmp_path, skip_bad=True)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 11
    assert dataset.image_shape == (64, 64, 3)
    for said in (
        "8 of 12 images, from 70×70 to 200×300 pixels are cropped to 64×64; --image-size",
        "2 of 12 images are grey and become RGB.",
        "Transparency of 1 image is laid over white",
        "1 file that cannot be read is left out: broken.png.",
        "1 .heic, which kvae does not read",
    ):
        assert said in dataset.notice, dataset.notice


def test_a_picture_becomes_what_it_became_in_training(tmp_path):
    fill(tmp_path, {f"{i}.png": see_through(opacity=50 * i, size=(20, 30)) for i in range(4)})
    settings = {"image_size": 8, "fit": "pad", "background": "#102030"}
    dataset = load(tmp_path, **settings)
    vae = kvae.train(dataset, "mlp-400", epochs=1, out=tmp_path / "vae.keras", verbose=0)
    assert (vae.fitting.fit, vae.fitting.background) == ("pad", "#102030")
    recipe = kvae.Recipe.from_card(vae.card)
    assert recipe.image_size == (8, 8) and recipe.channels == "rgb"
    images = read_pictures(sorted(tmp_path.glob("*.png")), vae.fitting)
    everyone = np.concatenate([dataset.train, dataset.validation, dataset.test])
    assert {image.tobytes() for image in images} == {image.tobytes() for image in everyone}


# Arrays


def test_arrays_take_any_size_and_channels():
    dataset = from_arrays(noise((10, 12), channels=3)[np.newaxis].repeat(5, axis=0))
    done = refitted(dataset, Fitting(image_size=6, channels="grey"))
    assert done.image_shape == (6, 6, 1) and len(done.test) == 1
    assert "cropped to 6×6" in done.notice
    assert refitted(dataset, Fitting()).train is dataset.train


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_channels_of_arrays_are_converted_as_those_of_pictures(dtype):
    pixels = noise((8, 8), channels=4)
    images = pixels[np.newaxis] if dtype == "uint8" else (pixels[np.newaxis] / 255).astype(dtype)
    picture = coded(Image.fromarray(pixels))
    for channels, kind in ((1, "grey"), (3, "rgb")):
        found = fitted(images, (8, 8, channels)) if channels == 3 else None
        dataset = from_arrays(images.repeat(3, axis=0))
        found = refitted(dataset, Fitting(channels=kind)).train[0]
        expected = decoded(picture, Fitting(channels=kind)).astype(int)
        found = found if dtype == "uint8" else 255 * found
        assert abs(found.astype(float) - expected).max() <= 2


def test_channels_that_are_no_colours_stay_as_they_are():
    dataset = from_arrays(noise((6, 6), channels=7)[np.newaxis].repeat(3, axis=0))
    assert dataset.image_shape == (6, 6, 7)
    with pytest.raises(ValueError, match="Images of 7 channels cannot become"):
        refitted(dataset, Fitting(channels="rgb"))


@pytest.mark.parametrize("shape", [(20, 3, 100, 75), (20, 4, 64, 64), (20, 1, 28, 28)])
def test_channels_first_is_refused_whatever_the_shape(shape):
    with pytest.raises(ValueError, match=r"channels last: numpy.moveaxis\(images, 1, -1\)"):
        from_arrays(np.zeros(shape, "uint8"))


@pytest.mark.parametrize(
    "low, high, cure",
    [
        (-1, 1, "(images + 1) / 2"),
        (-2.1, 2.6, "images * std + mean"),
        (0, 255, "Divide them by 255"),
    ],
)
def test_floats_of_another_range_are_refused_with_the_cure(low, high, cure):
    images = np.linspace(low, high, 4 * 16, dtype="float32").reshape(4, 4, 4, 1)
    with pytest.raises(ValueError, match=re.escape(cure)):
        from_arrays(images)
