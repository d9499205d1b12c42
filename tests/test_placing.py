"""What lies where an export is to go: a former export is replaced, and all else stays."""

import os
import pathlib
import stat

import pytest
from marks import once

from kvae.exports.formats import FORMATS
from kvae.exports.placing import MARK, check_place, place, staged

pytestmark = once
NAMES = ["onnx", "openvino", "saved-model"]  # one file, two, and a folder
SEVERAL = NAMES[1:]


def export_of(name, folder, text):
    """What stands for an export of a format: its path. Each of its files holds the text."""
    kind = FORMATS[name]
    path = folder / f"a{kind.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    content = MARK + text.encode()
    if kind.suffix:
        for one in (path, *map(path.with_suffix, kind.beside)):
            one.write_bytes(content)
        return path
    for inside in ("saved_model.pb", "variables/variables.index", "assets.extra/kvae.json"):
        (path / inside).parent.mkdir(parents=True, exist_ok=True)
        (path / inside).write_bytes(content)
    return path


def tree(folder):
    """All that is in a folder: contents by path, None of folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def places(tmp_path):
    """Where a new export lies, and where it is to go."""
    return tmp_path / "made", tmp_path / "out"


@pytest.mark.parametrize("name", NAMES)
def test_a_new_export_goes_to_a_folder_that_is_made(name, places):
    made, out = places
    export_of(name, made, "new")
    out = out / "not there" / ("ünd [1]" if FORMATS[name].suffix else "ünd (1)")
    place(FORMATS[name], made, out / f"a{FORMATS[name].suffix}")
    export_of(name, out.parent / "wanted", "new")
    assert tree(out) == tree(out.parent / "wanted")


@pytest.mark.parametrize("name", NAMES)
def test_a_former_export_is_replaced_and_its_permissions_stay(name, places):
    made, out = places
    export_of(name, made, "new")
    target = export_of(name, out, "former")
    target.chmod(0o750)
    (out / "mine.txt").write_text("a neighbour")
    place(FORMATS[name], made, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    (made / "mine.txt").write_text("a neighbour")
    export_of(name, made, "new")  # what was moved away
    assert tree(out) == tree(made)


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("name", SEVERAL)
def test_a_failure_at_any_step_leaves_the_former_export(name, number, places, monkeypatch):
    made, out = places
    export_of(name, made, "new")
    target = export_of(name, out, "former")
    before, rename, steps = tree(out), pathlib.Path.rename, []

    def failing(self, other):
        steps.append(other)
        if len(steps) == number:
            raise OSError(28, "No space left on device")
        return rename(self, other)

    monkeypatch.setattr(pathlib.Path, "rename", failing)
    if name == "saved-model" and number > 2:  # the third is that of the former one, to remove it
        place(FORMATS[name], made, target)
        assert target.is_dir() and (target / "saved_model.pb").read_bytes() == MARK + b"new"
        return
    with pytest.raises(OSError, match=f"{target.name} cannot be written: No space left"):
        place(FORMATS[name], made, target)
    assert tree(out) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("name", SEVERAL)
def test_a_kill_at_any_step_loses_nothing_and_leaves_no_half(name, number, places):
    made, out = places
    export_of(name, made, "new")
    target = export_of(name, out, "former")
    child = os.fork()
    if not child:
        rename, steps = pathlib.Path.rename, []

        def killed(self, other):
            steps.append(other)
            if len(steps) == number:
                os._exit(0)
            return rename(self, other)

        pathlib.Path.rename = killed
        place(FORMATS[name], made, target)
        os._exit(0)
    os.waitpid(child, 0)
    found = {path: text for path, text in tree(out).items() if text}
    under = {path: text for path, text in found.items() if path.split("/")[0] in names_of(name)}
    assert len(set(under.values())) <= 1, "an export of two halves"
    is_new = {path.split("/")[0] for path, text in under.items() if text == MARK + b"new"}
    is_new = is_new == names_of(name)
    for one in names_of(name):
        kept = [*out.glob(one), *out.glob(f"{one}.former-*")]
        assert is_new or kept, f"{one} is lost"


def names_of(name):
    path = pathlib.Path(f"a{FORMATS[name].suffix}")
    return {path.name, *(path.with_suffix(one).name for one in FORMATS[name].beside)}


def strangers(name):
    """What may lie there and is not kvae's, each by a function of the target."""

    def file(target):
        target.write_text("mine")

    def folder(target):
        (target / "inside").mkdir(parents=True)

    def serving(target):  # a SavedModel of somebody else's, or a project around one
        export_of(name, target.parent, "former")
        (target / "variables" / "notes.txt").write_text("mine")

    def weights(target):
        target.with_suffix(".bin").write_text("mine")

    def folder_of_weights(target):
        target.with_suffix(".bin").mkdir()

    def link(target):
        there = export_of(name, target.parent / "there", "former")
        target.symlink_to(there)

    return {
        "onnx": [file, folder],
        "openvino": [file, folder, weights, folder_of_weights, link],
        "saved-model": [file, folder, serving, link],
    }[name]


STRANGERS = [(name, one) for name in NAMES for one in strangers(name)]


@pytest.mark.parametrize("name, stranger", STRANGERS, ids=lambda one: getattr(one, "__name__", one))
def test_what_is_not_kvaes_is_refused_and_stays(name, stranger, places):
    made, out = places
    export_of(name, made, "new")
    out.mkdir()
    target = out / f"a{FORMATS[name].suffix}"
    stranger(target)
    before = tree(out)
    for refused in (
        lambda: check_place(FORMATS[name], target),
        lambda: place(FORMATS[name], made, target),  # it may have come meanwhile
    ):
        with pytest.raises(ValueError, match="exists, and|is a link"):
            refused()
        assert tree(out) == before


def test_an_empty_file_or_folder_may_be_filled(tmp_path):
    (tmp_path / "a.onnx").touch()
    (tmp_path / "a").mkdir()
    check_place(FORMATS["onnx"], tmp_path / "a.onnx")
    check_place(FORMATS["saved-model"], tmp_path / "a")


def test_the_name_must_be_one_of_the_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"ends in \.onnx: a\.bin"):
        check_place(FORMATS["onnx"], pathlib.Path("a.bin"))
    for name in ("a[1]", "a*", "b?/c"):
        with pytest.raises(ValueError, match="TensorFlow cannot read a folder with any of"):
            check_place(FORMATS["saved-model"], pathlib.Path(name))
    for name in (".", "..", "a/.."):
        with pytest.raises(ValueError, match="must have a name of its own"):
            check_place(FORMATS["saved-model"], pathlib.Path(name))


def test_a_link_to_a_file_is_followed(places):
    made, out = places
    export_of("onnx", made, "new")
    there = export_of("onnx", out / "there", "former")
    (out / "link.onnx").symlink_to(there)
    (made / "link.onnx").write_bytes((made / "a.onnx").read_bytes())
    place(FORMATS["onnx"], made, out / "link.onnx")
    assert (out / "link.onnx").is_symlink() and there.read_bytes() == MARK + b"new"


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_can_be_written_is_said_before_the_work(name, tmp_path):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "new" / f"a{FORMATS[name].suffix}"
    with pytest.raises(OSError, match=f"{target.name} cannot be written: "):
        check_place(FORMATS[name], target)


def test_the_folder_of_work_goes_and_so_does_that_of_a_process_that_died(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = os.fork() if hasattr(os, "fork") else 0
    if hasattr(os, "fork") and not child:
        with staged() as folder:
            (folder / "model.keras").touch()
            os._exit(0)
    if child:
        os.waitpid(child, 0)
        assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(KeyboardInterrupt), staged() as folder:
        (folder / "a").touch()
        raise KeyboardInterrupt
    # The folder was swept before, in this process: once is enough.
    from kvae.files import sweep

    sweep.cache_clear()
    with staged():
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())
