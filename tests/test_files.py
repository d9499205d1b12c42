import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from kvae import files, plots
from kvae.files import whole

PICTURE = np.full((2, 2, 3), 128, "uint8")


def test_a_file_appears_only_when_all_is_written(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole(path) as partial:
        partial.write_text("all")
        assert not path.exists()
        assert partial.suffix == path.suffix
    assert path.read_text() == "all"


def test_a_failure_leaves_the_former_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("former")
    with pytest.raises(KeyboardInterrupt), whole(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_that_is_written_anew_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "a.png"
    path.touch()
    path.chmod(mode)
    plots.save_picture(PICTURE, path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.stat().st_size > 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write any file")
def test_a_read_only_file_is_not_replaced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("former")
    path.chmod(0o444)
    with pytest.raises(OSError, match="a.txt cannot be written: it is read-only"), whole(path) as p:
        p.write_text("new")
    assert path.read_text() == "former"


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "a.png", tmp_path / "link.png"
    link.symlink_to(target)
    for _ in range(2):  # it dangles, and then it does not
        plots.save_picture(PICTURE, link)
        assert link.is_symlink()
        assert target.is_file() and not target.is_symlink()
    assert list((tmp_path / "there").iterdir()) == [target]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_gets_the_bytes_and_stays_a_pipe(tmp_path):
    pipe, file = tmp_path / "pipe.png", tmp_path / "file.png"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    plots.save_picture(PICTURE, pipe)
    reader.join()
    plots.save_picture(PICTURE, file)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert read == [file.read_bytes()]
    assert set(tmp_path.iterdir()) == {pipe, file}


def test_a_device_stays_a_device(tmp_path):
    device, link = tmp_path / "null.png", tmp_path / "link.gif"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.open("wb").close()
    except (AttributeError, OSError):
        pytest.skip("this user may not make devices here")
    link.symlink_to(device)
    plots.save_picture(PICTURE, device)
    plots.save_animation([PICTURE], link)
    plots.save_image(PICTURE, device)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert set(tmp_path.iterdir()) == {device, link}


@pytest.mark.parametrize("name", ["folder", "file/a.txt", "loop"])
def test_where_nothing_can_be_written_one_line_names_the_file(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(OSError, match=f"{name} cannot be written: ") as caught:
        with whole(tmp_path / name) as partial:
            partial.write_text("new")
    assert "\n" not in str(caught.value) and "partial" not in str(caught.value)
    assert set(tmp_path.rglob("*")) == before


def test_a_link_to_a_name_without_a_suffix_is_written_as_what_it_is_called(tmp_path):
    link = tmp_path / "m.png"
    link.symlink_to(tmp_path / "blob")
    with whole(link) as partial:
        assert partial.suffix == ".png"
        partial.write_text("all")
    assert (tmp_path / "blob").read_text() == "all" and link.is_symlink()


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="this system has no /dev/fd")
def test_what_is_open_already_is_written_to(tmp_path):
    reading, writing = os.pipe()
    try:
        with whole(f"/dev/fd/{writing}") as partial:
            partial.write_text("all")
        assert os.read(reading, 100) == b"all"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("length", [249, 255])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path, length):
    path = tmp_path / ("ä" * 100 + "a" * (length - 204) + ".png")
    plots.save_picture(PICTURE, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_two_at_once_do_not_write_into_each_other(tmp_path):
    path = tmp_path / "a.txt"
    with whole(path) as first, whole(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"


def test_what_a_dead_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    left = tmp_path / f".partial-{files.MACHINE}-{int(dead.stdout)}-0123.png"
    other = tmp_path / f".partial-{files.MACHINE}-{os.getppid()}-0123.png"
    elsewhere = tmp_path / f".partial-00000000-{int(dead.stdout)}-0123.png"
    old = tmp_path / ".partial-00000000-1-0123.png"
    mine = tmp_path / ".partial-of-mine.png"
    for path in (left, other, elsewhere, old, mine):
        path.touch()
    (tmp_path / f".partial-{files.MACHINE}-{int(dead.stdout)}-4567" / "deep").mkdir(parents=True)
    os.utime(old, (0, 0))
    plots.save_picture(PICTURE, tmp_path / "a.png")
    assert set(tmp_path.iterdir()) == {other, elsewhere, mine, tmp_path / "a.png"}
