"""Charts: figures of numbers, in colours for colour-blind readers too."""

import csv
import io
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kvae.data.guarded import opened, shown
from kvae.drawing.plots import Chart
from kvae.printable import printable

__all__ = ["PANELS", "curves", "scatter"]

# Okabe and Ito (2008), "Color universal design".
SPLITS = {"train": "#0072B2", "validation": "#D55E00"}
# Tol (2021), "Colour schemes", SRON/EPS/TN/09-002: muted, and black. Each class has its own pair of
# colour and marker, up to 50 classes.
COLORS = (
    "#332288", "#CC6677", "#117733", "#88CCEE", "#DDCC77",
    "#882255", "#44AA99", "#999933", "#AA4499", "#000000",
)  # fmt: skip
MARKERS = ("o", "^", "s", "D", "v")
IN_USE = 0.1  # nats; a latent below it says next to nothing
LEGEND_ROWS = 25
MOST_BYTES, MOST_COLUMNS, MOST_NUMBERS = 2**26, 5_000, 2**21  # of a CSV file; more takes minutes
LARGEST = 3.5e38  # that a float32 can be; beyond it matplotlib's own arithmetic ends


def scatter(
    points: np.ndarray,
    labels: np.ndarray | None,
    class_names: Sequence[str],
    title: str,
    axis_names: tuple[str, str] | None = None,
) -> Chart:
    """Draws points of the plane, coloured by class.

    Args:
        points: (count, 2).
        labels: (count,), integers. None: all points look alike.
        class_names: Names of label 0, label 1, …. A label without a name is shown as its number.
        title: Title: what is shown, and how many.
        axis_names: Names of the axes. None: the axes have no meaning and are left out.
    """
    classes = [None] if labels is None else [int(label) for label in np.unique(labels)]
    columns = math.ceil(len(classes) / LEGEND_ROWS)
    legend = 0 if labels is None else 0.8 * columns
    chart = Chart(figsize=(7 + legend, 7), layout="constrained", dpi=120)
    axes = chart.add_subplot(aspect="equal", adjustable="datalim")
    axes.set_title(title, parse_math=False)
    for i, label in enumerate(classes):
        x, y = points[slice(None) if label is None else labels == label].T
        axes.scatter(
            x,
            y,
            s=min(40, max(5, 30_000 / len(points))),
            color=COLORS[i % len(COLORS)],
            marker=MARKERS[(i + i // len(COLORS)) % len(MARKERS)],
            linewidths=0,
            alpha=0.8,
            label=re.sub("^_", " _", named(label, class_names)),  # or a legend leaves it out
        )
    if labels is not None:
        style: Any = {"frameon": False, "markerscale": 2, "ncols": columns}
        for text in chart.legend(loc="outside right center", **style).get_texts():
            text.set_parse_math(False)
    if axis_names is None:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    else:
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
        axes.spines[["top", "right"]].set_visible(False)
    return chart


def named(label: int | None, class_names: Sequence[str]) -> str:
    """The name of a class."""
    if label is not None and label < 0:
        return "not known"
    if label is None:
        return ""
    return class_names[label] if label < len(class_names) else str(label)


def curves(
    run: str | os.PathLike | Mapping[str, Sequence[float]],
    latents: Mapping[str, Sequence[float]] | None = None,
    show: str = "all",
) -> Chart:
    """Draws the training curves of a run.

    Args:
        run: The folder that `kvae train` left beside the model, with `history.csv` and optionally
            `latents.csv`. Or columns by name with one value per epoch, as in `fit(...).history`:
            `epoch`, `updates`, `loss`, `reconstruction`, `kl`, and the last three with the prefix
            `val_`. Missing columns are left out; without `updates`, epochs are used.
        latents: `epoch`, and the KL of each latent by its number, as in the history of
            `kvae.LatentKL`. If `run` is a folder, it is read from there.
        show: "terms": reconstruction and KL against the number of weight updates; "loss";
            "reconstruction": its log-likelihood; "latents": the KL of each latent over time; or
            "all" of these that can be drawn.

    Raises:
        FileNotFoundError: If the folder has no `history.csv`.
        ValueError: If the data for `show` are missing.
    """
    if show not in (*PANELS, "all"):
        raise ValueError(f"`show` must be one of {', '.join(PANELS)} or all. Received: {show!r}")
    if isinstance(run, Mapping):
        history = run
    else:
        history, latents = read_run(pathlib.Path(run))
    data = {"epoch": range(1, 1 + len(next(iter(history.values()), ()))), **history}
    there = {
        "terms": {"reconstruction", "kl"} <= data.keys(),
        "loss": "loss" in data,
        "reconstruction": "reconstruction" in data,
        "latents": bool(latents),
    }
    wanted = [name for name in PANELS if there[name] and show in (name, "all")]
    if not wanted or not len(data["epoch"]):
        found = [*history, *(["the KL of each latent"] if latents else [])]
        raise ValueError(
            f"The history has nothing to draw for {show!r}. "
            f"Found: {printable(', '.join(found)) or 'nothing'}"
        )
    columns = len(wanted) if len(wanted) < 4 else 2
    rows = math.ceil(len(wanted) / columns)
    chart = Chart(figsize=(5.2 * columns, 3.6 * rows), layout="constrained", dpi=120)
    for position, name in enumerate(wanted):
        axes = chart.add_subplot(rows, columns, position + 1)
        PANELS[name](axes, latents if latents and name == "latents" else data)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.spines[["top", "right"]].set_visible(False)
    return chart


def draw_terms(axes: Axes, data: Mapping[str, Sequence[float]]) -> None:
    """Draws reconstruction and KL against weight updates, solid and dashed, with labels."""
    along = "updates" if "updates" in data else "epoch"
    for name, style, text in (("reconstruction", "-", "−log p(x|z)"), ("kl", "--", "KL")):
        for split, column in columns_of(name, data):
            line(axes, data[along], data[column], color=SPLITS[split], linestyle=style,
                 label=split if name == "reconstruction" else None)  # fmt: skip
        axes.annotate(
            text, (data[along][-1], data[name][-1]), (0, 6), textcoords="offset points", ha="right"
        )
    axes.set(
        title=f"The two terms of −ELBO, {epochs_of(data)}",
        xlabel="weight updates" if along == "updates" else "epoch",
        ylabel="nats per image",
    )
    if not any(value < 0 for name in ("reconstruction", "kl") for value in data[name]):
        axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", frameon=False)


def draw_loss(axes: Axes, data: Mapping[str, Sequence[float]]) -> None:
    """Draws the loss against epochs."""
    for split, column in columns_of("loss", data):
        line(axes, data["epoch"], data[column], color=SPLITS[split], label=split)
    axes.set(title=f"Loss, {epochs_of(data)}", xlabel="epoch", ylabel="nats per image")
    axes.legend(loc="upper right", frameon=False)


def draw_reconstruction(axes: Axes, data: Mapping[str, Sequence[float]]) -> None:
    """Draws the log-likelihood of the reconstruction against epochs."""
    for split, column in columns_of("reconstruction", data):
        line(axes, data["epoch"], [-y for y in data[column]], color=SPLITS[split], label=split)
    axes.set(
        title=f"Reconstruction log-likelihood, {epochs_of(data)}",
        xlabel="epoch",
        ylabel="log p(x|z), nats per image",
    )
    axes.legend(loc="lower right", frameon=False)


def draw_latents(axes: Axes, data: Mapping[str, Sequence[float]]) -> None:
    """Draws the KL of each latent, or of each group, against epochs; used ones in colour."""
    names = [name for name in data if name != "epoch"]
    if names and names[0].startswith("group "):
        draw_groups(axes, data)
        return
    used = [name for name in names if data[name][-1] >= IN_USE]
    for name in names:
        color = SPLITS["validation"] if name in used else "#999999"
        line(axes, data["epoch"], data[name], color=color, linewidth=0.8, markersize=3)
    axes.set(
        title=f"KL of each latent: {len(used)} of {len(names)} in use (over {IN_USE:g} nats)",
        xlabel="epoch",
        ylabel="nats, mean over validation",
    )
    axes.set_ylim(bottom=0)


def draw_groups(axes: Axes, data: Mapping[str, Sequence[float]]) -> None:
    """Draws the KL of each group of latents against epochs, from dark to light."""
    names = [name for name in data if name != "epoch"]
    for i, name in enumerate(names):
        color = colormaps["viridis"](i / len(names))
        line(axes, data["epoch"], data[name], color=color, label=name)
    axes.set(
        title=f"KL of each of {len(names)} groups of latents",
        xlabel="epoch",
        ylabel="nats, mean over validation",
    )
    # The KL of the last group is often a hundred times that of the first.
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.legend(loc="best", frameon=False)


PANELS = {
    "terms": draw_terms,
    "loss": draw_loss,
    "reconstruction": draw_reconstruction,
    "latents": draw_latents,
}


def columns_of(name: str, data: Mapping[str, Sequence[float]]) -> list[tuple[str, str]]:
    """The splits that have this column, each with the name of the column."""
    both = (("train", name), ("validation", f"val_{name}"))
    return [(split, column) for split, column in both if column in data]


def epochs_of(data: Mapping[str, Sequence[float]]) -> str:
    """The number of epochs, in words."""
    count = len(data["epoch"])
    return f"{count:,} epoch{'s' * (count != 1)}"


def line(axes: Axes, x: Sequence[float], y: Sequence[float], **style: Any) -> None:
    """Draws a line, or a dot if there is only one point."""
    axes.plot(x, y, marker="o" if len(x) == 1 else None, **style)


def read_run(folder: pathlib.Path) -> tuple[dict[str, list[float]], dict[str, list[float]] | None]:
    """Reads the history of a run, and the KL of each latent if there is a file of it."""
    history, latents = folder / "history.csv", folder / "latents.csv"
    if not history.exists():
        raise FileNotFoundError(f"There is no history at {shown(history)}. `kvae train` writes it.")
    return read_columns(history), read_columns(latents) if latents.exists() else None


def read_columns(path: pathlib.Path) -> dict[str, list[float]]:
    """Reads the columns of a CSV file of numbers, by name.

    Raises:
        ValueError: If the file is damaged, or of another kind.
        OSError: If the file cannot be read.
    """
    with opened(path, MOST_BYTES) as file:
        try:
            with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
                return columns_in(csv.reader(text))
        except (ValueError, csv.Error) as error:
            raise ValueError(
                f"{shown(path)} must have a line of names, one of them epoch, and below it numbers "
                "only. Take it away, or put back what `kvae train` wrote. "
                f"({printable(error)})"
            ) from None


def columns_in(rows: Any) -> dict[str, list[float]]:
    """The columns of rows from `csv.reader`; a ValueError says what is wrong with them."""
    names: list[str] = next(rows, [])
    if "epoch" not in names:
        raise ValueError(f"Found: the names {', '.join(names) or 'of no column'}")
    if len(names) > MOST_COLUMNS:
        raise ValueError(f"Found: {len(names):,} columns, and {MOST_COLUMNS:,} can be drawn")
    if len(set(names)) < len(names):
        raise ValueError(f"Found twice: {next(n for n in names if names.count(n) > 1)}")
    columns: dict[str, list[float]] = {name: [] for name in names}
    count = 0
    for row in rows:
        count += len(row)
        if count > MOST_NUMBERS:
            raise ValueError(f"Found: over {MOST_NUMBERS:,} numbers, which cannot be drawn")
        if len(row) not in (0, len(names)):  # none in an empty line
            raise ValueError(f"Found: {len(row)} values in line {rows.line_num} of {len(names)}")
        for column, value in zip(columns.values(), row, strict=False):
            column.append(float(value))
            if LARGEST < abs(column[-1]) < math.inf:
                raise ValueError(f"Found: {value}, which no float32 can be")
    if not columns["epoch"]:
        raise ValueError("Found: no numbers")
    for name in {"epoch", "updates"} & columns.keys():
        if not all(map(math.isfinite, columns[name])):
            raise ValueError(f"Found: a number that is not finite under {name}")
    return columns
