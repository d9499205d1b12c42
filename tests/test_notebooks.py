"""The notebooks run from the first cell to the last, and show what they are there to show."""

import base64
import io
import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "kvae" / "notebooks"
NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
# What each has to show, in this order: the kinds of what cells end in, and of a table words.
SHOWN = {
    "conditional_generation_and_export.ipynb": [
        ("text/html", "mnist"),
        *[("image/png", "")] * 3,
        ("text/plain", "array([7, 3,"),
        ("text/html", "noise (batch, 40)"),
        ("text/plain", "(10, 28, 28, 1)"),
        ("image/png", ""),
    ],
    "scores_and_outliers.ipynb": [
        ("image/png", ""),
        ("text/html", "5 draws of z"),
        ("image/png", ""),
        ("text/html", "9 of 49 images, the least likely first"),
        ("image/png", ""),
        ("text/plain", ""),
        ("image/png", ""),
    ],
    "your_own_images.ipynb": [
        *[("image/png", "")] * 4,
        ("text/html", "validation images of faces"),
        ("text/html", "faces"),
        ("text/plain", "(1, 20)"),
    ],
}


def read(name):
    """A notebook, as its file has it."""
    return json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))


def text_of(cell):
    """The text of a cell."""
    return "".join(cell["source"])


def test_there_are_three():
    assert sorted(SHOWN) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_without_what_it_showed(name):
    notebook = read(name)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, text_of(cell)
        assert not cell["metadata"], text_of(cell)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}  # and no version of one


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_begins_with_a_title_and_ends_with_where_to_go(name):
    cells = read(name)["cells"]
    assert text_of(cells[0]).startswith("# ") and "two CPU cores" in text_of(cells[0])
    assert cells[-1]["cell_type"] == "markdown" and "## Where to go next" in text_of(cells[-1])
    assert max(text_of(cell).count("\n") for cell in cells) < 30


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_notebook_lead_to_files(name):
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(map(text_of, read(name)["cells"])))
    assert len(links) >= 2
    for link in links:
        assert (NOTEBOOKS / link).is_file(), link


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Runs a notebook in a kernel of this interpreter, with no data and no network at hand."""
    word = "pip install nbclient ipykernel"
    nbclient = pytest.importorskip("nbclient", reason=word)
    nbformat = pytest.importorskip("nbformat", reason=word)
    kernelspec = pytest.importorskip("ipykernel.kernelspec", reason=word)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    kernelspec.write_kernel_spec(tmp_path / "jupyter" / "kernels" / "this-python")
    folder = tmp_path / "work"
    folder.mkdir()

    def execute(name):
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        nbclient.NotebookClient(
            notebook,
            timeout=3600,
            kernel_name="this-python",
            resources={"metadata": {"path": str(folder)}},
        ).execute()
        nbformat.write(notebook, tmp_path / name)
        return notebook

    return execute


def picture_of(data):
    """A PNG that a cell has shown: (height, width, 3), uint8."""
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.every_backend] * (name == "your_own_images.ipynb"))
        for name in NAMES
    ],
)
def test_a_notebook_runs_and_shows_its_results(name, executed):
    outputs = [
        output
        for cell in executed(name).cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    assert not [output for output in outputs if output.output_type == "error"]
    results = [output.data for output in outputs if output.output_type == "execute_result"]
    for result, (kind, words) in zip(results, SHOWN[name], strict=True):
        assert kind in result, (kind, list(result))
        if kind == "image/png":
            picture = picture_of(result[kind])
            assert min(picture.shape[:2]) > 50 and picture.std() > 10
        else:
            assert words in result[kind]
    said = "".join(output.text for output in outputs if output.get("name") == "stdout")
    if name == "your_own_images.ipynb":
        assert "(1215, 28, 28, 1) ('happy', 'sad')" in said and "True\n" in said
    if name == "scores_and_outliers.ipynb":
        share = float(results[5]["text/plain"])
        assert share > 0.8
