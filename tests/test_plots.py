import numpy as np
import pytest
from marks import once
from matplotlib.image import imread
from PIL import Image, ImageSequence

from kvae.drawing import plots


def test_a_grid_holds_every_pixel_enlarged_by_a_whole_factor():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), "uint8")
    sheet = plots.grid(images, columns=3, scale=2)
    assert sheet.shape == (2 * (2 * 5 + 1), 2 * (3 * 6 + 1), 3)
    small = sheet[::2, ::2]
    np.testing.assert_array_equal(small[6:10, 7:12], images[4])
    np.testing.assert_array_equal(sheet, small.repeat(2, 0).repeat(2, 1))


def test_grey_and_colour_floats_and_bytes_look_the_same():
    grey = np.linspace(0, 1, 16, dtype="float32").reshape(1, 4, 4, 1)
    as_bytes = np.rint(grey * 255).astype("uint8")
    np.testing.assert_array_equal(plots.grid(grey), plots.grid(as_bytes))
    np.testing.assert_array_equal(plots.grid(grey), plots.grid(grey.repeat(3, -1)))


def test_cells_without_an_image_are_white():
    assert (plots.grid(np.zeros((3, 4, 4, 1)), columns=2, scale=1)[-5:-1, -5:-1] == 255).all()


@pytest.mark.parametrize("size", [8, 28, 128])
def test_grids_of_a_hundred_have_a_size_that_a_screen_shows(size):
    assert 500 <= max(plots.grid(np.zeros((100, size, size, 1))).shape) <= 1500


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (4, 4, 1)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        plots.grid(np.zeros(shape))


def test_stacked_pairs_put_each_image_over_its_partner():
    first = np.zeros((4, 2, 2, 1), "uint8")
    second = np.ones((4, 2, 2, 1), "float32")
    sheet = plots.stacked_pairs(first, second, columns=2, scale=1)
    rows = [sheet[1 + 3 * i, 1, 0] for i in range(4)]
    assert rows == [0, 255, 0, 255]


def test_an_incomplete_last_row_of_pairs_is_filled_with_white():
    images = np.zeros((5, 2, 2, 1), "uint8")
    sheet = plots.stacked_pairs(images, images, columns=3, scale=1)
    assert sheet.shape == (4 * 3 + 1, 3 * 3 + 1, 3)
    assert (sheet[7:, 7:] == 255).all() and (sheet[7, 4] == 0).all()


@pytest.mark.parametrize("channels, shown", [(2, [0, 0, 0]), (4, [0, 85, 170])])
def test_other_numbers_of_channels_show_what_can_be_seen(channels, shown):
    images = (np.arange(channels) * 85).astype("uint8").reshape(1, 1, 1, -1)
    assert plots.grid(images, scale=1)[1, 1].tolist() == shown


def test_a_saved_picture_is_the_array(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), "uint8")
    plots.save_picture(picture, tmp_path / "new" / "picture.png")
    read = np.rint(imread(tmp_path / "new" / "picture.png")[..., :3] * 255)
    np.testing.assert_array_equal(read, picture)


def test_a_picture_that_cannot_be_written_leaves_the_former_one_whole(tmp_path):
    path = tmp_path / "picture.png"
    plots.save_picture(np.zeros((2, 2, 3), "uint8"), path)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        plots.save_picture(np.zeros((2, 2, 7), "uint8"), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


def test_stacked_pairs_show_the_images_of_an_incomplete_row_too():
    first = np.zeros((5, 2, 2, 1), "uint8")
    sheet = plots.stacked_pairs(first, first, scale=1)
    assert (sheet[1::3, 1::3, 0] == [[0, 0, 0], [0, 0, 0], [0, 0, 255], [0, 0, 255]]).all()


@pytest.mark.parametrize(
    "size, count",
    [(8, 1), (8, 64), pytest.param(28, 15, marks=[pytest.mark.slow, once]), (128, 9)],
)
def test_a_framed_picture_keeps_every_pixel(tmp_path, size, count):
    rng = np.random.default_rng(0)
    picture = plots.grid(rng.integers(0, 256, (count, size, size, 3), "uint8"))
    chart = plots.framed(picture, "A title of some length, which says what, and how many", ["row"])
    plots.save_picture(chart, tmp_path / "framed.png")
    read = np.rint(imread(tmp_path / "framed.png")[..., :3] * 255)
    height, width, _ = picture.shape
    place = tuple(np.argwhere((picture != 255).all(-1))[0])  # white is everywhere
    starts = np.argwhere((read == picture[place]).all(-1)) - place
    assert any(
        np.array_equal(read[row : row + height, column : column + width], picture)
        for row, column in starts
        if row >= 0 and column >= 0
    )


@pytest.mark.parametrize("size", [8, 128])
def test_a_title_is_not_cut_off(size):
    picture = plots.grid(np.zeros((3, size, size, 1)), columns=1)
    chart = plots.framed(picture, "MMWW wide letters: " + "m" * 60 + " and many words" * 9, ["row"])
    (title,) = chart.texts
    box = title.get_window_extent()
    assert box.x0 >= 0 and box.y1 <= chart.bbox.height
    assert box.y0 > chart.axes[0].get_window_extent().y1


def test_a_notebook_shows_a_chart_without_pyplot():
    chart = plots.framed(np.zeros((9, 9, 3), "uint8"), "nine by nine")
    assert chart._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_image_is_the_image_a_pixel_for_a_pixel(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, channels), "uint8")
    plots.save_image(image, tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as opened:
        np.testing.assert_array_equal(np.atleast_3d(opened), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_its_frames_and_holds_the_last_one(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8, channels), "uint8")
    frames = [plots.grid(image, scale=2) for image in images]
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for frame, path in zip(frames, paths, strict=True):
        plots.save_picture(frame, path)
    for i, source in enumerate((frames, paths)):
        plots.save_animation(source, tmp_path / f"{i}.gif", seconds=0.2, last_seconds=1)
        with Image.open(tmp_path / f"{i}.gif") as opened:
            seen = [
                (np.asarray(frame.convert("RGB")), frame.info["duration"])
                for frame in ImageSequence.Iterator(opened)
            ]
        for (frame, _), expected in zip(seen, frames, strict=True):
            np.testing.assert_array_equal(frame, expected)
        assert [duration for _, duration in seen] == [200, 200, 1000]


def test_an_animation_needs_frames(tmp_path):
    with pytest.raises(ValueError, match="at least one frame"):
        plots.save_animation([], tmp_path / "none.gif")
    assert list(tmp_path.iterdir()) == []
