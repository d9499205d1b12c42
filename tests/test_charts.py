import numpy as np
import pytest

import kvae
from kvae.drawing import charts

HISTORY = {"loss": [3.0, 2.0], "kl": [1.0, 1.5], "reconstruction": [2.0, 0.5]}
FULL = {
    "epoch": [1, 2],
    "updates": [10, 20],
    **HISTORY,
    **{f"val_{name}": values for name, values in HISTORY.items()},
}
LATENTS = {"epoch": [1, 2], "1": [0.5, 1.4], "2": [0.2, 0.05]}


def panels(chart):
    return [axes.get_title() for axes in chart.axes]


def lines(axes):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def test_all_curves_say_what_they_are_how_many_and_in_what_unit():
    chart = kvae.curves(FULL, LATENTS)
    assert panels(chart) == [
        "The two terms of −ELBO, 2 epochs",
        "Loss, 2 epochs",
        "Reconstruction log-likelihood, 2 epochs",
        "KL of each latent: 1 of 2 in use (over 0.1 nats)",
    ]
    assert all("nats" in axes.get_ylabel() for axes in chart.axes)


def test_the_terms_stand_against_weight_updates():
    (axes,) = kvae.curves(FULL, show="terms").axes
    assert axes.get_xlabel() == "weight updates"
    assert lines(axes)["train"] == ([10, 20], [2.0, 0.5])
    assert [list(line.get_ydata()) for line in axes.lines[2:]] == [[1.0, 1.5]] * 2


def test_the_log_likelihood_is_minus_the_reconstruction_term():
    (axes,) = kvae.curves(FULL, show="reconstruction").axes
    assert lines(axes) == {"train": ([1, 2], [-2.0, -0.5]), "validation": ([1, 2], [-2.0, -0.5])}


def test_histories_without_some_columns_are_drawn_as_far_as_they_go():
    assert len(kvae.curves(HISTORY).axes) == 3
    (axes,) = kvae.curves(HISTORY, show="terms").axes
    assert axes.get_xlabel() == "epoch"
    assert panels(kvae.curves({"loss": [1.0]})) == ["Loss, 1 epoch"]


def test_an_epoch_that_was_not_finite_is_left_out(tmp_path):
    broken = {name: [*values[:-1], float("nan")] for name, values in FULL.items()}
    chart = kvae.curves({**broken, "epoch": [1, 2]}, {**LATENTS, "1": [0.5, float("nan")]})
    kvae.plots.save_picture(chart, tmp_path / "curves.png")


@pytest.mark.parametrize("history, show", [({}, "all"), ({"kl": [1.0]}, "loss"), (FULL, "latents")])
def test_what_is_not_there_is_named(history, show):
    with pytest.raises(ValueError, match=f"nothing to draw for '{show}'"):
        kvae.curves(history, show=show)


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="one of terms, loss, reconstruction, latents or all"):
        kvae.curves(FULL, show="everything")


def test_a_folder_without_a_history_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no history at"):
        kvae.curves(tmp_path)


@pytest.mark.parametrize("text", ["epoch,loss\n1,2\n3\n", "epoch,loss\n1,two\n", ""])
def test_a_damaged_history_is_refused(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match="history"):
        kvae.curves(tmp_path)


def test_a_scatter_has_every_point_and_a_legend_of_all_classes():
    labels = np.arange(60) % 12
    points = np.random.default_rng(0).normal(size=(60, 2))
    chart = charts.scatter(points, labels, ["zero", "one"], "60 points")
    (axes,) = chart.axes
    assert sum(len(group.get_offsets()) for group in axes.collections) == 60
    names = [text.get_text() for text in chart.legends[0].get_texts()]
    assert names == ["zero", "one", *map(str, range(2, 12))]


def test_fifty_classes_differ_in_colour_or_marker():
    labels = np.arange(50)
    (axes,) = charts.scatter(np.zeros((50, 2)), labels, [], "50 points").axes
    looks = {
        (tuple(group.get_facecolor()[0]), group.get_paths()[0].vertices.tobytes())
        for group in axes.collections
    }
    assert len(looks) == 50


def test_points_without_labels_have_no_legend():
    chart = charts.scatter(np.zeros((5, 2)), None, [], "5 points", ("latent 1", "latent 2"))
    assert not chart.legends and chart.axes[0].get_xlabel() == "latent 1"


def test_names_of_classes_are_drawn_as_they_are(tmp_path):
    names = ["$\\frac{", "_private"]
    chart = charts.scatter(np.zeros((5, 2)), np.arange(5) % 2, names, "5 points of $x_")
    assert [text.get_text().strip() for text in chart.legends[0].get_texts()] == names
    kvae.plots.save_picture(chart, tmp_path / "points.png")
    framed = kvae.plots.framed(np.zeros((20, 20, 3), "uint8"), "$^$ of $_$", names, names)
    kvae.plots.save_picture(framed, tmp_path / "framed.png")


NAMES = "epoch,loss\n"


@pytest.mark.parametrize("file", ["history.csv", "latents.csv"])
@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "the names of no column"),
        (b"\0\0\0", "Found: the names \ufffd\ufffd\ufffd"),
        (b"loss\n1\n", "Found: the names loss"),
        (NAMES.encode("utf-16"), "utf-8"),
        (NAMES, "no numbers"),
        (NAMES + "1,\0\n", "could not convert"),
        (NAMES + "1,two\n", "'two'"),
        (NAMES + "1," + "two" * 40_000 + "\n", "twotwo"),
        (NAMES + "1," + "1" * 200_000 + "\n", "field larger"),
        (NAMES + "1,-1e200\n", "-1e200, which no float32"),
        (NAMES + "1,2,3\n", "3 values in line 2 of 2"),
        (NAMES + "1,2\n3\n", "1 values in line 3 of 2"),
        (NAMES + "nan,2\n", "not finite under epoch"),
        ("updates,epoch\ninf,2\n", "not finite under updates"),
        ("epoch,loss,loss\n1,2,3\n", "Found twice: loss"),
        ("epoch" + ",".join(map(str, range(5_001))), "the names epoch0, 1, 2"),
        ("epoch," + ",".join(map(str, range(5_000))), "5,001 columns"),
        ("epoch,\x1b[31m\n1,2\n" * 2, "'epoch'"),
    ],
    ids=range(18),
)
def test_a_file_of_another_kind_is_named_in_one_line(tmp_path, file, content, said):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,2\n")
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as caught:
        kvae.curves(tmp_path)
    message = str(caught.value)
    assert str(tmp_path / file) in message and "numbers only. Take it away" in message
    assert said in message and message.isprintable() and len(message) < 800


def test_a_history_that_is_too_large_or_no_file_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "history.csv").mkdir()
    with pytest.raises(ValueError, match="history.csv must be a regular file, and is a folder"):
        kvae.curves(tmp_path)
    (tmp_path / "history.csv").rmdir()
    (tmp_path / "history.csv").write_text("epoch,loss\n1,2\n")
    monkeypatch.setattr(charts, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="history.csv must have at most 10 bytes"):
        kvae.curves(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(charts, "MOST_NUMBERS", 1)
    with pytest.raises(ValueError, match="Found: over 1 numbers, which cannot be drawn"):
        kvae.curves(tmp_path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "3e38"])
def test_a_history_is_drawn_around_what_is_not_finite(tmp_path, value):
    """With a mark of the order of bytes, as spreadsheets write it, and an empty line."""
    head = "epoch,updates,loss,reconstruction,kl,val_loss"
    (tmp_path / "history.csv").write_text(
        f"\ufeff{head}\n1,10,3,2,1,3\n2,20{4 * f',{value}'}\n\n", encoding="utf-8"
    )
    (tmp_path / "latents.csv").write_text(f"epoch,1\n1,0.5\n2,{value}\n")
    chart = kvae.curves(tmp_path)
    assert len(chart.axes) == 4
    kvae.plots.save_picture(chart, tmp_path / "curves.png")
