"""The process in which an export is written, and classes of the user's in it."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import pytest
from exporting import (
    own_model,
)
from marks import once

import kvae
from kvae.exports import export, worker

EXPORT = sys.modules["kvae.exports.export"]  # of which the package shows the function


@pytest.fixture
def process(in_folder, monkeypatch):
    """Lets Python code be the process that does the work; what it is asked for comes back."""
    monkeypatch.setattr(kvae.exports.formats.Format, "check_installed", lambda _: None)
    start, asked = subprocess.Popen, []
    temporary = in_folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def let(code):
        def popen(command, **settings):
            asked.append((command, settings["env"], json.loads(task_of(command).read_text())))
            return start([sys.executable, "-S", "-c", code, command[-1]], **settings)

        monkeypatch.setattr(EXPORT.subprocess, "Popen", popen)
        return asked

    yield let
    assert not list(temporary.iterdir())
    temporary.rmdir()
    assert not list(in_folder.iterdir())


def task_of(command):
    return pathlib.Path(command[-1], "task.json")


RESULT = "import sys; open(sys.argv[1] + '/result.json', 'w').write('%s')"
ENDS = {
    "print('INFO: hi'); raise RuntimeError('no way')": (ValueError, "1: RuntimeError: no way"),
    "raise SystemExit(3)": (ValueError, "the process ended with 3: it said nothing"),
    "import os; os.kill(os.getpid(), 9)": (ValueError, "perhaps because memory was short"),
    RESULT % '{"error": "disk full", "kind": "OSError"}': (OSError, "was written: disk full"),
    RESULT % '{"error": "no onnx", "kind": "ImportError"}': (ImportError, "written: no onnx"),
    RESULT % '{"error": "it differs", "kind": "ValueError"}': (ValueError, "written: it differs"),
}


@once
@pytest.mark.parametrize("code", ENDS, ids=lambda code: code[:20])
def test_nothing_is_left_where_a_process_fails(fixed_vae, process, code):
    process(code)
    kind, what = ENDS[code]
    with pytest.raises(kind, match=what):
        export(fixed_vae, "new/a.onnx")


@once
def test_a_shipped_model_is_meant_where_a_folder_has_its_name(process, in_folder):
    asked = process("raise SystemExit(1)")
    (in_folder / "mnist").mkdir()
    with pytest.raises(ValueError, match="ended with 1"):
        export("mnist", "a.onnx")
    (in_folder / "mnist").rmdir()
    ((command, settings, task),) = asked
    assert task["model"] == str(kvae.shipped.path_of("mnist")) and task["safe_mode"]
    assert settings["KERAS_BACKEND"] == "tensorflow" and "-P" in command


def test_a_model_with_a_lambda_layer_is_handed_over_with_its_optimizer(in_folder, monkeypatch):
    latents = keras.Input((3,))
    x = keras.layers.Lambda(lambda x: 2 * x)(keras.layers.Dense(64)(latents))
    decoder = keras.Model(latents, keras.layers.Reshape((8, 8, 1))(x))
    vae = kvae.VAE(kvae.build_encoder((8, 8, 1), 3, width=16, depth=1), decoder)
    EXPORT.save(vae, in_folder / "vae.keras", {})
    with pytest.raises(ValueError, match="Lambda"):
        kvae.load("vae.keras")
    assert kvae.load("vae.keras", safe_mode=False).latent_dim == 3


def test_classes_of_the_users_are_found_or_refused_in_a_line(in_folder, monkeypatch, request):
    request.addfinalizer(lambda: sys.modules.pop("my_own_parts", None))
    vae, own = own_model(in_folder, monkeypatch)
    places = EXPORT.places_of(vae, {"tripled": own.tripled})
    assert places == {
        "Scaled": ["my_own_parts", "Scaled"],
        "mine>Moved": ["my_own_parts", "Moved"],
        "mine>bent": ["my_own_parts", "bent"],
        "tripled": ["my_own_parts", "tripled"],
    }
    assert worker.located("my_own_parts", "Scaled.call") is own.Scaled.call
    assert EXPORT.places_of("mnist", {}) == {}
    for thing in (lambda x: x, type("Mine", (), {"__module__": "__main__"})):
        with pytest.raises(ValueError, match="cannot import 'mine', which is made in a script, a"):
            export(vae, "a.onnx", custom_objects={"mine": thing})


@once
@pytest.mark.slow
def test_a_model_of_the_users_own_classes_is_exported(in_folder, monkeypatch, request):
    request.addfinalizer(lambda: sys.modules.pop("my_own_parts", None))
    vae, own = own_model(in_folder, monkeypatch)
    vae.compile("adam")
    exported = export(vae, "a", "saved-model", custom_objects={"tripled": own.tripled})
    assert exported.difference["images"] <= 1e-4


@once
@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/cmdline").exists(), reason="there is no /proc")
def test_where_the_parent_is_killed_the_process_ends_and_nothing_stays(in_folder):
    temporary = in_folder / "temporary"
    temporary.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", "import kvae; kvae.export('mnist', 'a', 'saved-model')"],
        env={**os.environ, "TMPDIR": str(temporary)},
    )

    def at_work():
        for line in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(temporary).encode() in line.read_bytes():
                    return True
            except OSError:  # it has ended meanwhile
                pass
        return False

    wait_until(at_work)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not at_work())
    assert not list(temporary.iterdir()) and list(in_folder.iterdir()) == [temporary]


def wait_until(true, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
