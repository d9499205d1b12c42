"""Data of strangers: damaged, or made to do harm, they are refused in one line that names them."""

import contextlib
import gzip
import io
import os
import pathlib
import socket
import struct
import tracemalloc
import types
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

import kvae
from kvae.data import decoding, from_arrays, guarded, load, numpy_files, read_pictures
from kvae.diagnosis import page

pytestmark = pytest.mark.skipif(os.name == "nt", reason="it makes pipes and symbolic links")

MB = 2**20
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 5), "uint8")
IDX = "train-images-idx3-ubyte"


@contextlib.contextmanager
def refuses(*parts, error=ValueError):
    """Expects an error of one line that has these parts, and little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            yield
        assert tracemalloc.get_traced_memory()[1] < 40 * MB
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.isprintable() and len(message) < 1000
    for part in parts:
        assert str(part) in message


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr("kvae.limits.available_memory", lambda: 1000)


def as_bytes(array=IMAGES, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def load_file(folder, name, content):
    """Loads a folder with this file, or the file where it is NumPy's."""
    (folder / name).write_bytes(content)
    if name == "x.png":
        for i in range(3):
            (folder / f"good{i}.png").write_bytes(as_bytes(IMAGES[i]))
    return load(folder / name if name.endswith(numpy_files.NUMPY) else folder)


# What is no regular file


def a_pipe(path):
    os.mkfifo(path)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)  # a whole path can be too long


def a_device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", ["x.png", IDX, f"{IDX}.gz", "x.npz", "x.npy"])
@pytest.mark.parametrize(
    "make, kind", [(a_pipe, "a named pipe"), (a_socket, "a socket"), (a_device, "a device")]
)
def test_what_is_no_regular_file_is_not_opened(tmp_path, name, make, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    with refuses(tmp_path / name, f"must be a regular file, and is {kind}", "Copy"):
        load(tmp_path / name if "np" in name else tmp_path)


def test_a_link_to_itself_is_named(tmp_path):
    (tmp_path / "x.png").symlink_to("x.png")
    with refuses(tmp_path / "x.png", "cannot be read", error=OSError):
        load(tmp_path)
    (tmp_path / "x.npz").symlink_to("x.npz")
    with refuses(tmp_path / "x.npz", "no file or folder", error=OSError):
        load(tmp_path / "x.npz")


def test_a_file_that_nobody_may_read_is_named(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.npz").touch()
    monkeypatch.setattr(pathlib.Path, "open", forbidden)
    with refuses(tmp_path / "x.npz", "cannot be read: Permission denied", error=PermissionError):
        load(tmp_path / "x.npz")
    monkeypatch.setattr(pathlib.Path, "iterdir", forbidden)
    with refuses(tmp_path, "cannot be listed: Permission denied", error=PermissionError):
        load(tmp_path)


def test_a_folder_with_the_name_of_an_image_is_a_class(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).mkdir()
        for i in range(5):
            (tmp_path / name / f"{i}.png").write_bytes(as_bytes(IMAGES[0]))
    assert load(tmp_path).class_names == ("a.png", "b.png")


def test_a_home_of_nobody_is_no_file():
    with refuses("no file or folder ~no-such-user/this.npz", error=FileNotFoundError):
        load("~no-such-user/this.npz")


# Images


@pytest.mark.parametrize("form", ["EPS", "PPM", "ICO", "PCX", "PDF", "TGA"])
def test_only_formats_that_are_named_are_opened(tmp_path, form, monkeypatch):
    """Of EPS, Pillow would have Ghostscript run the program that it is."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("It started a program"))
    with refuses(tmp_path / "x.png", "cannot be read", "of no such format"):
        load_file(tmp_path, "x.png", as_bytes(IMAGES[0], form))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
@pytest.mark.parametrize("suffix", decoding.PICTURES)
def test_the_formats_are_told_by_the_content(tmp_path, form, suffix):
    (tmp_path / f"x{suffix}").write_bytes(as_bytes(IMAGES[0], form))
    assert read_pictures([tmp_path / f"x{suffix}"]).shape == (1, 6, 5, 1)


def chunk(kind, content=b""):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(*chunks, width=4, height=4, bits=8, data=b"\0" * 20):
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    last = chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND")
    return b"".join((b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), *chunks, *last))


TEXT = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 900_000, 9))
EXIF = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\xff" + b"\xff" * 90)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "of no such format"),
        (png(width=10_000, height=10_000), "100000000"),
        (png(width=2**31 - 1, height=2**31 - 1), "4611686014132420609"),
        (png(width=0), "cannot be read"),
        (png(TEXT * 99), "MAX_TEXT_MEMORY"),
        (png(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 2 * MB))), "MAX_TEXT_CHUNK"),
        (png(chunk(b"tEXt", b"a\0" + b"x" * 900_000) * 80), "must have at most 32.0 MiB"),
        (png(data=b""), "truncated"),
        (png()[:-30], "cannot be read"),
        (png(bits=16, data=b""), "truncated"),
        (as_bytes(IMAGES[0], "BMP")[:60], "truncated"),
    ],
    ids=range(11),
)
def test_an_image_that_is_damaged_or_a_bomb_is_named(tmp_path, content, said):
    with refuses(tmp_path / "x.png", said):
        load_file(tmp_path, "x.png", content)


@pytest.mark.parametrize(
    "content", [png(TEXT * 30), png(chunk(b"teSt") * 5000), png(EXIF)], ids=range(3)
)
def test_what_an_image_says_beside_its_pixels_does_no_harm(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    assert read_pictures([tmp_path / "x.png"]).shape == (1, 4, 4, 1)


def test_of_an_animation_the_first_image_is_read(tmp_path):
    frames = [Image.fromarray(image) for image in IMAGES]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_pictures([tmp_path / "x.png"])[0, ..., 0], IMAGES[0])


def test_images_that_fit_neither_memory_nor_the_disk_are_not_read(
    tmp_path, little_memory, monkeypatch
):
    for i in range(12):
        (tmp_path / f"{i:02}.png").write_bytes(as_bytes(IMAGES[i]))
    monkeypatch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=99))
    with refuses("360 bytes of images", "99 bytes are free", "--cache-dir", error=OSError):
        load(tmp_path, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


# IDX


def idx(*shape, content=b"", magic=0x0803):
    return struct.pack(f">I{len(shape)}I", magic, *shape) + content


FULL = idx(*IMAGES.shape, content=IMAGES.tobytes())
HUGE = idx(2**32 - 1, 2**32 - 1, 2**32 - 1)


@pytest.mark.parametrize(
    "name, content, said",
    [
        (IDX, HUGE, "Found: 16 bytes"),
        (f"{IDX}.gz", gzip.compress(HUGE), "Found: at most"),
        (f"{IDX}.gz", gzip.compress(FULL + bytes(99 * MB), 1), "Found: more bytes"),
        (f"{IDX}.gz", gzip.compress(FULL[:-9]), "Found: 367 bytes"),
        (f"{IDX}.gz", gzip.compress(FULL)[:-4] + b"9999", "is damaged"),
        (f"{IDX}.gz", gzip.compress(FULL)[:-4], "is damaged"),
        (f"{IDX}.gz", gzip.compress(FULL) + b"more", "is damaged"),
        (f"{IDX}.gz", gzip.compress(b""), "Found: 0, in 0 bytes"),
        (f"{IDX}.gz", gzip.compress(gzip.compress(FULL)), "Found: 529205248"),
    ],
    ids=range(9),
)
def test_of_an_idx_file_only_what_its_header_promises_is_read(tmp_path, name, content, said):
    with refuses(tmp_path / name, said):
        load_file(tmp_path, name, content)


def test_labels_are_guarded_as_images_are(tmp_path):
    (tmp_path / IDX).write_bytes(FULL)
    labels = gzip.compress(idx(2**32 - 1, magic=0x0801))
    with refuses("train-labels-idx1-ubyte.gz", "4,294,967,303 bytes", "at most"):
        load_file(tmp_path, "train-labels-idx1-ubyte.gz", labels)


# NumPy's files


def npz(method=zipfile.ZIP_DEFLATED, **arrays):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", array if isinstance(array, bytes) else npy(array))
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def headed(text, version=1, length=None, content=b""):
    """An .npy file whose header is this text."""
    text = text.encode("latin1")
    kind, length = ("<H", "<I")[version - 1], len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(kind, length) + text + content


def described(shape="(2, 2, 2)", descr="'|u1'"):
    return headed(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n")


HEADERS = [
    headed("{'descr': (((\n"),  # tokenize.TokenError
    headed("{'descr': '|u1', 'shape': }\n"),  # SyntaxError
    headed("(" * 9000),  # MemoryError or SyntaxError
    headed("-" * 9000 + "1"),  # RecursionError or MemoryError
    headed("{[]: 1}"),  # TypeError
    headed("{}"),
    headed("'\\ud800'"),
    headed("{'descr': '|u1'}", version=2, length=2**32 - 1),
    b"\x93NUMPY\x03\x00\x02\x00\x00\x00\xff\xff",  # UnicodeDecodeError
    b"\x93NUMPY\x63\x00",
    b"\x93NUMPY",
    described(descr="'|O'"),
    described(descr="[('a', '|O')]"),
    described(descr="'|V0'"),
    described(descr="'nonsense'"),
    described(descr="'" + "i4," * 2000 + "'"),
    described(descr="'|V99999999999999999999'"),
    described(shape="(-1,)"),
    described(shape="(2**40,)"),
    described(shape=f"({2**62}, {2**62}, {2**62})"),
    described(shape=f"(0, {2**70}, {2**70})"),
    described(shape="(1,) * 9"),
    described(shape="(" + "1, " * 80 + ")") + b"x",
    described(shape="(2, 2, 2)") + b"1234567",
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("content", HEADERS, ids=range(len(HEADERS)))
def test_an_array_with_a_damaged_header_is_named(tmp_path, content, packed):
    name = "x.npz" if packed else "x.npy"
    with refuses(tmp_path / name, "must be a NumPy file", "Write it anew with numpy.savez"):
        load_file(tmp_path, name, npz(x_train=content) if packed else content)


def encrypted(content):
    """An archive that says of what is in it that it is encrypted."""
    changed = bytearray(content)
    changed[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def declared(content, size):
    """An archive that says that what is in it unpacks to so many bytes."""
    changed, start = bytearray(content), content.index(b"PK\x01\x02") + 24
    changed[start : start + 4] = struct.pack("<I", size)
    return bytes(changed)


def long_directory(size=2 * MB):
    """An archive whose list of what is in it is long."""
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, size, 4, 0)
    return b"PK\3\4" + bytes(size) + end


def twice():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for name in ("x_train", "x_test", "x_train"):
            archive.writestr(f"{name}.npy", npy(IMAGES))
    return file.getvalue()


@pytest.mark.parametrize(
    "content, said",
    [
        (lambda: encrypted(npz(x_train=IMAGES)), "It is encrypted"),
        (lambda: npz(zipfile.ZIP_LZMA, x_train=IMAGES), "another method than deflate"),
        (lambda: npz(zipfile.ZIP_BZIP2, x_train=IMAGES), "another method than deflate"),
        (lambda: declared(npz(x_train=IMAGES), 2**32 - 2), "to 4,294,967,294, as none do"),
        (lambda: declared(npz(x_train=IMAGES), 300), "it is damaged"),
        (long_directory, "list of what is in it is too long"),
        (twice, "is there twice"),
        (lambda: npz(x_train=IMAGES, x_val=IMAGES, x_validation=IMAGES), "is there twice"),
        (lambda: npz(**{f"layer/{i}\x1b[31m": IMAGES for i in range(999)}), "Found: layer/0\ufffd"),
        (lambda: npz(x_train=IMAGES, x_more=b""), "Found: x_train, x_more"),
    ],
    ids=range(10),
)
def test_an_archive_is_looked_at_before_it_is_read(tmp_path, content, said):
    content = content()
    with refuses(tmp_path / "x.npz", said):
        load_file(tmp_path, "x.npz", content)


@pytest.mark.parametrize(
    "name, content",
    [
        ("x.npz", npz(x_train=np.zeros((4, MB), "uint8"))),
        (f"{IDX}.gz", gzip.compress(idx(4, 1024, 1024, content=bytes(4 * MB)))),
    ],
    ids=["zip", "gzip"],
)
def test_what_unpacks_to_far_more_than_images_do_is_refused(tmp_path, name, content, monkeypatch):
    monkeypatch.setattr(guarded, "BOMB_SIZE", MB)
    with refuses(tmp_path / name, "would unpack", "to 4.0 MiB", "without compression"):
        load_file(tmp_path, name, content)


@pytest.mark.parametrize(
    "name, content, size",
    [
        (IDX, FULL, 1128),
        (f"{IDX}.gz", gzip.compress(FULL), 1128),
    ],
    ids=["idx", "idx.gz"],
)
def test_what_does_not_fit_memory_is_not_read(tmp_path, name, content, size, little_memory):
    with refuses(tmp_path / name, f"would need {size:,} bytes", "1,000 bytes are available", "Use"):
        load_file(tmp_path, name, content)


def test_arrays_stored_by_columns_or_by_an_old_python_are_read(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(IMAGES.astype(">f8") / 255))
    np.testing.assert_array_equal(
        load(tmp_path / "x.npy").train, from_arrays(IMAGES.astype("float64") / 255).train
    )
    old = headed("{'descr': '|u1', 'fortran_order': False, 'shape': (12L, 6L, 5L)}\n")
    assert load_file(tmp_path, "y.npy", old + IMAGES.tobytes()).image_shape == (6, 5, 1)


# TensorFlow Datasets


@pytest.mark.parametrize(
    "content, said",
    [
        ('{"pythonClassName": "evil.Feature"}', "Found: evil.Feature"),
        ('{"a": [{"t\\u0079pe": "evil.Feature"}], "type": "tensorflow_datasets.X"}', "Found: evil"),
        ('{"type": {"type": ', "is damaged"),
        ('{"a":' * 10_000, "is damaged"),
        ("\udcff", "is damaged"),
    ],
    ids=range(5),
)
def test_features_of_other_packages_are_not_imported(tmp_path, content, said):
    folder = tmp_path / "odd" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").touch()
    (folder / "features.json").write_text(content, errors="surrogateescape")
    with refuses(folder / "features.json", said):
        load("odd", tmp_path)


# Names


def test_names_reach_no_terminal_as_they_are(tmp_path):
    folder = tmp_path / "my\x1b[31m\u202edata"
    for name in ("cat\x07\x1b]0;x", "dog\u200b"):
        (folder / name).mkdir(parents=True)
        for i in range(5):
            (folder / name / f"{i}.png").write_bytes(as_bytes(IMAGES[i]))
    data = load(folder)
    assert data.class_names == ("cat\ufffd\ufffd]0;x", "dog\ufffd")
    assert data.name == "my\ufffd[31m\ufffddata" and data.source.isprintable()
    assert data.origin == str(folder.resolve())  # which is for the machine
    (folder / name / "0.png").write_bytes(b"")
    with refuses("my\ufffd[31m\ufffddata/dog\ufffd/0.png"):
        load(folder)


@pytest.mark.parametrize("name", ["no\x1b[31m.npz", "no\x1b[31m.csv"])
def test_a_name_that_is_wrong_is_quoted_as_it_can_be_shown(tmp_path, name):
    with refuses("no\ufffd[31m", error=OSError):
        load(tmp_path / name)
    (tmp_path / name).touch()
    with refuses("no\ufffd[31m"):
        load(tmp_path / name)


def test_classes_that_look_alike_are_refused(tmp_path):
    for name in ("cat\u200b", "cat\u200c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(as_bytes(IMAGES[0]))
    with refuses(tmp_path, "look different", "cat\ufffd"):
        load(tmp_path)


def test_validation_images_stand_in_one_folder(tmp_path):
    for name in ("train", "val", "validation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(as_bytes(IMAGES[0]))
    with refuses(tmp_path, "one folder of validation images", "val, validation"):
        load(tmp_path)


# The doctor's page


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("first", [1.0, None])
def test_the_doctors_page_is_drawn_around_what_is_not_finite(tmp_path, first, value):
    values = [value if first is None else first, value]
    chart = page.page(
        "A run",
        [],
        [
            lambda axes: page.draw_kl_over_time(axes, [1, 2], values),
            lambda axes: page.draw_best_epoch(axes, {"loss": values, "val_loss": values}),
        ],
    )
    kvae.plots.save_picture(chart, tmp_path / "page.png")
    title = chart.axes[1].get_title()
    assert ("best at epoch" in title) == bool(np.isfinite(values).any())
