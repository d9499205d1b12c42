"""Folders, archives and tables as people keep them: the split and the class of each picture."""

import csv
import io
import json
import re
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from kvae.data import load
from kvae.data.listing import split_of

SEED = iter(range(10**9))


def picture():
    """A PNG file of 4×4 pixels in colour, each another one."""
    file = io.BytesIO()
    pixels = np.random.default_rng(next(SEED)).integers(0, 256, (4, 4, 3)).astype("uint8")
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def files(*names, count=4):
    """Pictures by name; "a/*" stands for some in a."""
    return {
        name.replace("*", f"{i}.png"): picture()
        for name in names
        for i in range(count if "*" in name else 1)
    }


def in_folder(path, contents):
    for name, content in contents.items():
        (path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "data" / name).write_bytes(content)
    return path / "data"


def in_zip(path, contents, top=""):
    with zipfile.ZipFile(path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(top + name, content)
    return path / "data.zip"


def in_tar(path, contents, kind="", top=""):
    suffix = f".tar.{kind}" if kind else ".tar"
    with tarfile.open(path / f"data{suffix}", f"w:{kind}") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path / f"data{suffix}"


PLACES = {
    "folder": in_folder,
    "zip": in_zip,
    "zip of a folder": lambda path, contents: in_zip(path, contents, "photos/"),
    "tar": in_tar,
    "tar of a folder": lambda path, contents: in_tar(path, contents, top="./photos/"),
    "tar.gz": lambda path, contents: in_tar(path, contents, "gz"),
    "tar.bz2": lambda path, contents: in_tar(path, contents, "bz2"),
    "tar.xz": lambda path, contents: in_tar(path, contents, "xz"),
}


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    """Puts files into a folder or an archive."""
    return lambda contents: PLACES[request.param](tmp_path, contents)


def counts(dataset):
    return tuple(len(getattr(dataset, split)) for split in ("train", "validation", "test"))


def named(dataset, split="train"):
    labels = getattr(dataset, f"{split}_labels")
    return None if labels is None else [dataset.class_names[label] for label in labels]


# Splits


@pytest.mark.parametrize(
    "split, names",
    [
        ("train", "train Train TRAINING trn train_set train-images trainset train2017"),
        ("validation", "val valid Validation VAL dev val_images validation_set val2017"),
        ("test", "test Test testing tst test_data test-set"),
        (None, "cats tests trainer value invalid testament deviant train_station 1 a"),
    ],
)
def test_common_spellings_of_splits_are_known(split, names):
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "validation", "test"),
        ("train", "valid", "test"),
        ("Train", "Val", "Test"),
        ("training", "dev", "testing"),
    ],
)
def test_folders_of_splits_are_no_classes(place, names):
    train, validation, test = names
    contents = files(f"{train}/b/*", f"{train}/a/*", f"{validation}/a/*", f"{test}/b/*")
    contents["__MACOSX/train/a/._0.png"] = contents[".DS_Store"] = b"..."
    dataset = load(place(contents))
    assert counts(dataset) == (8, 4, 4) and dataset.class_names == ("a", "b")
    assert named(dataset) == ["a"] * 4 + ["b"] * 4
    assert named(dataset, "validation") == ["a"] * 4 and named(dataset, "test") == ["b"] * 4


def test_splits_in_each_class_are_splits_too(place):
    dataset = load(place(files("cat/train/*", "cat/test/*", "dog/train/*", "dog/test/*")))
    assert counts(dataset) == (7, 1, 8) and dataset.class_names == ("cat", "dog")
    assert sorted(named(dataset, "test")) == ["cat"] * 4 + ["dog"] * 4


@pytest.mark.parametrize(
    "names",
    [
        ("train/*", "test/*", "cats/*"),
        ("train/*", "test/*", "lost.png"),
        ("test/*", "val/*"),
        ("test/*", "dogs/*"),
        ("cat/train/*", "cat/test/*", "dog/*"),
        ("cat/test/*", "dog/test/*"),
    ],
)
def test_where_some_folders_look_like_splits_it_asks(tmp_path, names):
    folder = in_folder(tmp_path, files(*names))
    with pytest.raises(ValueError, match="cannot be told which images are for training.*--flat"):
        load(folder)
    dataset = load(folder, flat=True)
    assert sum(counts(dataset)) == len(list(folder.rglob("*.png")))
    assert dataset.train_labels is None and dataset.class_names == ()


@pytest.mark.parametrize(
    "names", [("train/*", "val/*", "valid/*"), ("train/*", "Train/*"), ("a/train/*", "a/Train/*")]
)
def test_two_folders_of_one_split_are_refused(tmp_path, names):
    with pytest.raises(ValueError, match="must have one folder of"):
        load(in_folder(tmp_path, files(*names)))


# Classes


def test_the_top_folder_is_the_class(place):
    dataset = load(place(files("cat/2019/*", "cat/2020/may/*", "dog/*")))
    assert sorted(set(named(dataset))) == ["cat", "dog"]
    assert sum(counts(dataset)) == 12


def test_what_is_hidden_or_put_there_by_a_system_is_passed_over(place):
    litter = ("__MACOSX/0.png", ".thumbs/0.png", "a/.hidden.png", "a/@eaDir/0.png", "a/._0.png")
    contents = files("a/*", "b/*") | dict.fromkeys(litter, b"no image")
    contents |= {"a/Thumbs.db": b"...", "desktop.ini": b"...", "notes.txt": b"..."}
    assert sum(counts(load(place(contents)))) == 8


def test_images_beside_classes_are_refused_and_flat_takes_them(tmp_path):
    folder = in_folder(tmp_path, files("a/*", "0.png"))
    with pytest.raises(ValueError, match=r"or pass --flat.*1 in it, 4 in sub-folders"):
        load(folder)
    assert sum(counts(load(folder, flat=True))) == 5


def test_a_link_that_leads_back_is_followed_once(tmp_path):
    folder = in_folder(tmp_path, files("a/*"))
    (folder / "a" / "back").symlink_to(folder, target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    for name, content in files("*").items():
        (tmp_path / "elsewhere" / name).write_bytes(content)
    (folder / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    dataset = load(folder)
    assert sum(counts(dataset)) == 8 and dataset.class_names == ("a", "b")


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    dataset = load(in_folder(tmp_path, files(*(f"{i}/*" for i in range(12)), count=1)))
    assert dataset.class_names == tuple(map(str, range(12)))


# Tables


def table(name, rows):
    """A table of these rows, as its suffix says."""
    if name.endswith(".jsonl"):
        return {name: "\n".join(map(json.dumps, rows)).encode()}
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return {name: b"\xef\xbb\xbf" + file.getvalue().encode()}


@pytest.mark.parametrize("name", ["labels.csv", "metadata.jsonl"])
@pytest.mark.parametrize("key", ["file", "file_name", "Filename", "image", "path"])
def test_a_table_names_files_and_labels(place, name, key):
    contents = files("images/*", count=6)
    names = sorted(contents)
    rows = [{key: one, "label": i % 2} for i, one in enumerate(names[:5])]
    dataset = load(place(contents | table(name, rows)))
    assert sum(counts(dataset)) == 5 and dataset.class_names == ("0", "1")
    assert "1 image that no table lists is left out" in dataset.notice


def test_a_table_can_be_named_itself_and_have_splits(tmp_path):
    contents = files("*", count=9)
    splits = ["Train"] * 5 + ["valid"] * 2 + ["test"] * 2
    rows = [
        {"split": split, "class": "xy"[i % 2], "file": name}
        for i, (name, split) in enumerate(zip(sorted(contents), splits, strict=True))
    ]
    folder = in_folder(tmp_path, contents | table("mine.csv", rows) | {"other.csv": b"file\nno"})
    dataset = load(folder / "mine.csv")
    assert counts(dataset) == (5, 2, 2)
    assert named(dataset) == list("xyxyx") and named(dataset, "test") == list("yx")
    with pytest.raises(ValueError, match=r"one table of images.*mine\.csv, other\.csv"):
        load(folder)


def test_a_table_for_each_split(place):
    contents = files("*", count=6)
    names = sorted(contents)
    for split, some in (("train", names[:3]), ("val", names[3:4]), ("test", names[4:])):
        contents |= table(f"{split}.csv", [{"file": one} for one in some])
    dataset = load(place(contents))
    assert counts(dataset) == (3, 1, 2) and dataset.train_labels is None


@pytest.mark.parametrize(
    "rows, said",
    [
        ([{"file": "0.png"}, {"file": "no.png"}], "Row 2 of {} names an image that is not there"),
        ([{"file": "../0.png"}], "Row 1 of {} names an image that is not there: ../0.png"),
        ([{"file": "0.png", "split": "later"}], "Row 1 of {} must be of train, validation or test"),
        ([{"file": "0.png"}, {"file": "./0.png"}], "must list an image once"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_the_row(tmp_path, rows, said):
    folder = in_folder(tmp_path, files("*") | table("rows.csv", rows))
    said = said.replace("{}", str(folder / "rows.csv"))
    with pytest.raises(ValueError, match=re.escape(said)):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\0", b'"' * 99, b"file\n"])
@pytest.mark.parametrize("name", ["notes.csv", "notes.jsonl"])
def test_what_is_no_table_of_images_has_no_say(tmp_path, name, content):
    folder = in_folder(tmp_path, files("*") | {name: content})
    assert sum(counts(load(folder))) == 4
    with pytest.raises(ValueError, match="must be a table with a column file"):
        load(folder / name)


# Archives


def test_an_archive_gives_the_images_of_its_folder(tmp_path):
    contents = files("a/*", "b/*")
    expected = load(in_folder(tmp_path, contents))
    for make in PLACES.values():
        dataset = load(make(tmp_path, contents))
        np.testing.assert_array_equal(dataset.train, expected.train)
        np.testing.assert_array_equal(dataset.test_labels, expected.test_labels)
        assert dataset.name == "data" and dataset.class_names == ("a", "b")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz"])
@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\3\4" + bytes(50), b"\x1f\x8b\x08"])
def test_a_damaged_archive_is_named(tmp_path, suffix, content):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.(zip|tar)"):
        load(path)


@pytest.mark.parametrize("kind", ["zip", "gz", "xz", "tar"])
def test_an_archive_that_ends_early_is_refused_in_one_line(tmp_path, kind):
    contents = files("*", count=9)
    path = (
        in_zip(tmp_path, contents)
        if kind == "zip"
        else in_tar(tmp_path, contents, "" if kind == "tar" else kind)
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((ValueError, OSError), match="data") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_names_that_lead_out_of_an_archive_write_nothing(tmp_path):
    contents = files("a/*") | {"../../out.png": picture(), "/abs.png": picture()}
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for make in (in_zip, in_tar):
        load(make(tmp_path / "deep" / "er", contents), flat=True)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "data.tar",
        "data.zip",
    ]


def test_links_in_a_tar_are_not_followed(tmp_path):
    path = in_tar(tmp_path, files("*"))
    with tarfile.open(path, "a") as archive:
        for name, kind in (("link.png", tarfile.SYMTYPE), ("pipe.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert sum(counts(load(path))) == 4


def test_a_bomb_in_an_archive_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"{i}.png", bytes(2**26))
    with pytest.raises(ValueError, match=r"0\.png must have at most 32.0 MiB. Found: 64.0 MiB"):
        load(tmp_path / "x.zip")


def test_a_packed_tar_of_another_bomb_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("kvae.data.sources.BOMB_SIZE", 2**20)
    path = in_tar(tmp_path, {"0.png": bytes(2**22)}, "gz")
    with pytest.raises(ValueError, match="unpacks to more than"):
        load(path)


def test_an_encrypted_member_is_named(tmp_path):
    path = in_zip(tmp_path, files("*"))
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\1\2")
    content[start + 8] |= 1  # the flag in the directory, for the first one
    path.write_bytes(content)
    with pytest.raises(ValueError, match="0.png is encrypted"):
        load(path)
