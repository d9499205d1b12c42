"""Charts: numbers to figures, in colours that colour-blind readers tell apart."""

import csv
import math
import os
import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kvae.plots import Chart

__all__ = ["DIAGNOSIS", "PANELS", "curves", "page", "scatter"]

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
SEVERITIES = {"ok": "#117733", "warning": "#B36B00", "problem": "#BB2222"}
A4 = (8.27, 11.69)  # inches
LINE = 11.5  # points, of a page's text
LETTERS = 104  # in a line of a page's text, beside the names


def scatter(
    points: np.ndarray,
    labels: np.ndarray | None,
    class_names: Sequence[str],
    title: str,
    axis_names: tuple[str, str] | None = None,
) -> Chart:
    """Points of the plane, coloured by class.

    Args:
        points: (count, 2).
        labels: (count,), integers; None: all points alike.
        class_names: The name of label 0, of label 1, …; a label without a name is its number.
        title: What is shown, and how many.
        axis_names: None where the axes mean nothing; they are then left out.
    """
    classes = [None] if labels is None else [int(label) for label in np.unique(labels)]
    columns = math.ceil(len(classes) / LEGEND_ROWS)
    legend = 0 if labels is None else 0.8 * columns
    chart = Chart(figsize=(7 + legend, 7), layout="constrained", dpi=120)
    axes = chart.add_subplot(aspect="equal", adjustable="datalim", title=title)
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
            label=named(label, class_names),
        )
    if labels is not None:
        chart.legend(loc="outside right center", frameon=False, markerscale=2, ncols=columns)
    if axis_names is None:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    else:
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
        axes.spines[["top", "right"]].set_visible(False)
    return chart


def named(label: int | None, class_names: Sequence[str]) -> str:
    """The name of a class."""
    if label is None:
        return ""
    return class_names[label] if label < len(class_names) else str(label)


def curves(
    run: str | os.PathLike | Mapping[str, Sequence[float]],
    latents: Mapping[str, Sequence[float]] | None = None,
    show: str = "all",
) -> Chart:
    """How training went.

    Args:
        run: The folder that `kvae train` left beside the model, with `history.csv` and, where it
            has it, `latents.csv`; or columns by name, one value an epoch, as `fit(...).history`
            has: `epoch`, `updates`, `loss`, `reconstruction`, `kl`, and the last three with `val_`
            before them. What is missing is left out; without `updates` epochs stand in its place.
        latents: `epoch`, and the KL of each latent by its number, as `kvae.LatentKL` keeps them;
            read from the folder where `run` is one.
        show: "terms": reconstruction and KL against the number of weight updates; "loss";
            "reconstruction": its log-likelihood; "latents": the KL of each over time; or "all" of
            these that can be drawn.

    Raises:
        FileNotFoundError: If the folder has no `history.csv`.
        ValueError: If what `show` names is not there to be drawn.
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
            f"The history has nothing to draw for {show!r}. Found: {', '.join(found) or 'nothing'}"
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
    """Reconstruction and KL against weight updates: solid and dashed, each with its name."""
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
    """Loss against epochs."""
    for split, column in columns_of("loss", data):
        line(axes, data["epoch"], data[column], color=SPLITS[split], label=split)
    axes.set(title=f"Loss, {epochs_of(data)}", xlabel="epoch", ylabel="nats per image")
    axes.legend(loc="upper right", frameon=False)


def draw_reconstruction(axes: Axes, data: Mapping[str, Sequence[float]]) -> None:
    """The log-likelihood of the reconstruction against epochs."""
    for split, column in columns_of("reconstruction", data):
        line(axes, data["epoch"], [-y for y in data[column]], color=SPLITS[split], label=split)
    axes.set(
        title=f"Reconstruction log-likelihood, {epochs_of(data)}",
        xlabel="epoch",
        ylabel="log p(x|z), nats per image",
    )
    axes.legend(loc="lower right", frameon=False)


def draw_latents(axes: Axes, data: Mapping[str, Sequence[float]]) -> None:
    """The KL of each latent against epochs, those in use in colour."""
    names = [name for name in data if name != "epoch"]
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


PANELS = {
    "terms": draw_terms,
    "loss": draw_loss,
    "reconstruction": draw_reconstruction,
    "latents": draw_latents,
}


def page(
    title: str,
    rows: Sequence[tuple[str, str, str, str]],
    panels: Sequence[Callable[[Axes], None]],
) -> Chart:
    """A page of A4: findings in words, and below them panels in two columns.

    Args:
        title: In bold, at the top.
        rows: Severity ("ok", "warning" or "problem"), name, what was seen, and what helps.
        panels: Each draws in the axes that it is given.
    """
    width, height = (72 * inches for inches in A4)
    chart = Chart(figsize=A4, dpi=120, facecolor="white")
    left, top = 36.0, height - 40

    def write(x: float, y: float, text: str, **style) -> None:
        chart.text(x / width, y / height, text, va="baseline", **{"fontsize": 8, **style})

    for text in textwrap.wrap(title, 88):
        write(left, top, text, fontsize=10, fontweight="bold")
        top -= 14
    top -= 8
    for severity, name, seen, remedy in rows:
        color = SEVERITIES[severity]
        write(left, top, severity, color=color, fontweight="bold")
        write(left + 45, top, name, fontweight="bold")
        lines = [(text, "black") for text in textwrap.wrap(seen, LETTERS, break_on_hyphens=False)]
        wrapped = textwrap.wrap(f"→ {remedy}" * bool(remedy), LETTERS, break_on_hyphens=False)
        for text, shade in lines + [(text, color) for text in wrapped]:
            write(left + 117, top, text, color=shade)
            top -= LINE
        top -= 3.5
    layout = chart.add_gridspec(
        math.ceil(len(panels) / 2), 2, left=0.085, right=0.965, bottom=0.05,
        top=(top - 22) / height, hspace=0.5, wspace=0.24,
    )  # fmt: skip
    for position, draw in enumerate(panels):
        axes = chart.add_subplot(layout[position // 2, position % 2])
        draw(axes)
        axes.title.set_fontsize(8.5)
        axes.tick_params(labelsize=7)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_fontsize(7.5)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend():
            axes.legend(loc="upper right", frameon=False, fontsize=7)
    return chart


def draw_used_latents(axes: Axes, kl: np.ndarray) -> None:
    """The KL of each latent, most first, those in use in colour."""
    kl = np.sort(kl)[::-1]
    used = kl >= IN_USE
    colors = np.where(used, SPLITS["train"], "#999999")
    axes.bar(np.arange(1, len(kl) + 1), kl, color=colors, width=0.85)
    axes.axhline(IN_USE, color="black", linewidth=0.8, linestyle=":")
    axes.set(
        title=f"{used.sum()} of {len(kl)} latents in use (over {IN_USE:g} nats)",
        xlabel="latent, most KL first",
        ylabel="KL, nats",
        xlim=(0.3, len(kl) + 0.7),
        ylim=(0, max(0.2, 1.05 * kl[0])),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


def draw_kl_over_time(axes: Axes, epochs: Sequence[float], kl: Sequence[float]) -> None:
    """The KL of validation images by epoch."""
    if not len(kl):
        return without_history(axes, "KL over time")
    line(axes, epochs, kl, color=SPLITS["validation"])
    axes.set(title=f"KL over time: {kl[-1]:.2f} nats at the end", xlabel="epoch", ylabel="KL, nats")
    axes.set_ylim(0, max(0.2, 1.1 * np.nanmax(kl)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def draw_best_epoch(axes: Axes, history: Mapping[str, Sequence[float]]) -> None:
    """Loss by epoch, with the epoch where that of validation images was best."""
    columns = columns_of("loss", history)
    if not columns:
        return without_history(axes, "Loss")
    for split, column in columns:
        loss = history[column]
        line(axes, range(1, len(loss) + 1), loss, color=SPLITS[split], label=split)
    title = "Loss by epoch"
    if "val_loss" in history:
        loss = history["val_loss"]
        best = int(np.argmin(loss))
        axes.plot(best + 1, loss[best], "o", color=SPLITS["validation"], markersize=4)
        title = f"Validation loss was best at epoch {best + 1} of {len(loss)}"
    late = np.concatenate([history[column][len(history[column]) // 20 :] for _, column in columns])
    margin = 0.05 * np.ptp(late) or 1.0  # the first epochs of many would hide what comes later
    axes.set_ylim(late.min() - margin, late.max() + margin)
    axes.set(title=title, xlabel="epoch", ylabel="loss, nats per image")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.legend(loc="upper right")


def draw_prior(axes: Axes, posterior: np.ndarray, prior: np.ndarray, gap: float) -> None:
    """How far latents of images, and of the prior, lie from the origin."""
    bins = np.linspace(0, max(posterior.max(), prior.max()), 60).tolist()
    for values, name, split in (
        (posterior, "of images", "train"),
        (prior, "of the prior", "validation"),
    ):
        axes.hist(values, bins, density=True, alpha=0.5, color=SPLITS[split], label=name)
    axes.set(
        title=f"Latents of images and of the prior: {gap:.1f} nats apart",
        xlabel="length of the noise that z is made of (of N(0, I): of z)",
        yticks=[],
    )
    axes.legend(loc="upper right")


def draw_pixels(axes: Axes, images: np.ndarray, draws: np.ndarray) -> None:
    """The values of images, and of images drawn from the likelihood."""
    low, high = min(0.0, *np.percentile(draws, [0.5])), max(1.0, *np.percentile(draws, [99.5]))
    bins = np.linspace(low - 0.01, high + 0.01, 53).tolist()
    for values, name, split in (
        (images, "images", "train"),
        (draws, "drawn from p(x|z)", "validation"),
    ):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, bins, weights=weights, color=SPLITS[split], label=name,
                  histtype="step", linewidth=1.2)  # fmt: skip
    grey = ((images > 0.05) & (images < 0.95)).mean()
    axes.set(
        title=f"{grey:.0%} of the images' values are grey",
        xlabel="value: 0 black, 1 white",
        ylabel="share of values",
        yscale="log",
    )
    axes.legend(loc="upper right")


def draw_scale(axes: Axes, scale: np.ndarray, bound: float) -> None:
    """The decoder's scales, and their lower bound."""
    at_bound = (scale < 1.1 * bound).mean()
    bins = np.geomspace(0.9 * bound, max(2 * bound, scale.max()), 60).tolist()
    axes.hist(scale, bins, weights=np.full(len(scale), 1 / len(scale)), color=SPLITS["train"])
    axes.axvline(bound, color="black", linewidth=0.8, linestyle=":")
    axes.set(
        title=f"{at_bound:.0%} of the decoder's scales are at their bound",
        xlabel=f"scale of a value; dotted: min_scale = {bound:.2g}",
        ylabel="share of values",
        xscale="log",
    )


def draw_gradients(axes: Axes, sizes: Mapping[str, float]) -> None:
    """How large the gradient of each variable is, in the order of the model."""
    values = np.array(list(sizes.values()))
    places = np.arange(1, len(values) + 1)
    reached = values > 0
    axes.plot(places[reached], values[reached], "o", color=SPLITS["train"], markersize=3)
    floor = np.full((~reached).sum(), values[reached].min(initial=1.0))
    axes.plot(places[~reached], floor, "x", color=SEVERITIES["problem"], markersize=5)
    axes.set(
        title=f"A gradient reaches {reached.sum()} of {len(values)} variables",
        xlabel="variable, encoder first",
        ylabel="root mean square",
        yscale="log",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def without_history(axes: Axes, title: str) -> None:
    """Says that there is nothing to draw."""
    axes.text(0.5, 0.5, "no history", ha="center", va="center", color="#777777", fontsize=8)
    axes.set(title=title, xticks=[], yticks=[])


DIAGNOSIS: dict[str, Callable[..., None]] = {
    "latents": draw_used_latents,
    "over_time": draw_kl_over_time,
    "terms": draw_best_epoch,
    "prior": draw_prior,
    "pixels": draw_pixels,
    "scale": draw_scale,
    "gradients": draw_gradients,
}


def columns_of(name: str, data: Mapping[str, Sequence[float]]) -> list[tuple[str, str]]:
    """The splits that have this column, each with the column's name."""
    both = (("train", name), ("validation", f"val_{name}"))
    return [(split, column) for split, column in both if column in data]


def epochs_of(data: Mapping[str, Sequence[float]]) -> str:
    """How many epochs, in words."""
    count = len(data["epoch"])
    return f"{count:,} epoch{'s' * (count != 1)}"


def line(axes: Axes, x: Sequence[float], y: Sequence[float], **style) -> None:
    """A line, or a dot where there is one point only."""
    axes.plot(x, y, marker="o" if len(x) == 1 else None, **style)


def read_run(folder: pathlib.Path) -> tuple[dict[str, list[float]], dict[str, list[float]] | None]:
    """The history of a run, and the KL of each latent where there is a file of it."""
    history, latents = folder / "history.csv", folder / "latents.csv"
    if not history.is_file():
        raise FileNotFoundError(f"There is no history at {history}. `kvae train` writes it.")
    return read_columns(history), read_columns(latents) if latents.is_file() else None


def read_columns(path: pathlib.Path) -> dict[str, list[float]]:
    """The columns of a CSV file of numbers, by name."""
    with path.open(newline="") as file:
        names, *rows = list(csv.reader(file)) or [[]]
    try:
        columns = [[float(row[i]) for row in rows] for i in range(len(names))]
    except (ValueError, IndexError):
        raise ValueError(f"{path} must have a line of names and below it numbers only.") from None
    return dict(zip(names, columns, strict=True))
