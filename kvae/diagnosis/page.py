"""The doctor's page: findings in words, and below them the plots that show them."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kvae.drawing.charts import IN_USE, SPLITS, columns_of, line
from kvae.drawing.plots import Chart
from kvae.markup import Markup, coloured, picture, section, table

__all__ = ["PANELS", "markup", "page"]

COLORS = {"ok": "#117733", "warning": "#B36B00", "problem": "#BB2222"}
ON_ANY = {"ok": "#1F8A4C", "warning": "#A86A00", "problem": "#D9363E"}  # on white and on black
A4 = (8.27, 11.69)  # inches
PANEL = 2.3  # inches, the height of a panel in a notebook
LINE = 11.5  # points, of a page's text
LETTERS = 104  # in a line of a page's text, beside the names


Rows = Sequence[tuple[str, str, str, str]]
Panels = Sequence[Callable[[Axes], None]]


def markup(title: str, rows: Rows, panels: Panels) -> Markup:
    """Makes the page for a notebook: a table of findings, and below it the panels.

    Args:
        title: The heading.
        rows: As for `page`.
        panels: As for `page`.
    """
    findings = []
    for severity, name, seen, remedy in rows:
        color = ON_ANY[severity]
        helps = coloured(f"→ {remedy}", color) if remedy else ""
        findings.append((name, coloured(severity, color), seen, helps))
    head = ("check", "", "what was seen", "what helps")
    width, lines = A4[0], math.ceil(len(panels) / 2)
    chart = Chart(figsize=(width, 0.3 + PANEL * lines), dpi=120, facecolor="white")
    draw_panels(chart, panels, top=1 - 0.3 / chart.get_figheight(), bottom=0.18 / max(1, lines))
    shown = picture(chart._repr_png_(), "Charts of what the findings were seen in")
    return section(title, table(findings, head), shown if panels else "")


def page(title: str, rows: Rows, panels: Panels) -> Chart:
    """A page of A4: findings in words, and below them panels in two columns.

    Args:
        title: In bold, at the top.
        rows: Severity ("ok", "warning" or "problem"), name, what was seen, and what helps.
        panels: Each draws in the axes that it is given.
    """
    width, height = (72 * inches for inches in A4)
    chart = Chart(figsize=A4, dpi=120, facecolor="white")
    left, top = 36.0, height - 40

    def write(x: float, y: float, text: str, **style: Any) -> None:
        chart.text(x / width, y / height, text, va="baseline", **{"fontsize": 8, **style})

    for text in textwrap.wrap(title, 88):
        write(left, top, text, fontsize=10, fontweight="bold")
        top -= 14
    top -= 8
    for severity, name, seen, remedy in rows:
        color = COLORS[severity]
        write(left, top, severity, color=color, fontweight="bold")
        write(left + 45, top, name, fontweight="bold")
        lines = [(text, "black") for text in textwrap.wrap(seen, LETTERS, break_on_hyphens=False)]
        wrapped = textwrap.wrap(f"→ {remedy}" * bool(remedy), LETTERS, break_on_hyphens=False)
        for text, shade in lines + [(text, color) for text in wrapped]:
            write(left + 117, top, text, color=shade)
            top -= LINE
        top -= 3.5
    draw_panels(chart, panels, top=(top - 22) / height, bottom=0.05)
    return chart


def draw_panels(chart: Chart, panels: Panels, top: float, bottom: float) -> None:
    """Draws panels in two columns, between two heights that are shares of the chart's."""
    layout = chart.add_gridspec(
        max(1, math.ceil(len(panels) / 2)), 2, left=0.085, right=0.965, bottom=bottom, top=top,
        hspace=0.5, wspace=0.24,
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


def draw_used_latents(axes: Axes, kl: np.ndarray) -> None:
    """Draws the KL of each latent, the largest first, with those in use in colour."""
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
    """Draws the KL of validation images by epoch."""
    if not len(kl):
        return without_history(axes, "KL over time")
    line(axes, epochs, kl, color=SPLITS["validation"])
    axes.set(title=f"KL over time: {kl[-1]:.2f} nats at the end", xlabel="epoch", ylabel="KL, nats")
    axes.set_ylim(0, max(0.2, 1.1 * finite(kl).max(initial=0)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def finite(values: Sequence[float]) -> np.ndarray:
    """The finite values; values are NaN or infinite if training failed."""
    array = np.asarray(values, "float64")
    return array[np.isfinite(array)]


def draw_best_epoch(axes: Axes, history: Mapping[str, Sequence[float]]) -> None:
    """Draws the loss by epoch, and the epoch with the best validation loss."""
    columns = columns_of("loss", history)
    if not columns:
        return without_history(axes, "Loss")
    for split, column in columns:
        loss = history[column]
        line(axes, range(1, len(loss) + 1), loss, color=SPLITS[split], label=split)
    title = "Loss by epoch"
    if "val_loss" in history:
        loss = history["val_loss"]
        if len(finite(loss)):
            best = int(np.argmin(np.where(np.isfinite(loss), loss, np.inf)))
            axes.plot(best + 1, loss[best], "o", color=SPLITS["validation"], markersize=4)
            title = f"Validation loss was best at epoch {best + 1} of {len(loss)}"
    late = [finite(history[column][len(history[column]) // 20 :]) for _, column in columns]
    low, high = np.concatenate(late).min(initial=np.inf), np.concatenate(late).max(initial=-np.inf)
    if low <= high:  # the first epochs would hide the later ones
        margin = 0.05 * (high - low) or max(1.0, 0.05 * abs(high))
        axes.set_ylim(low - margin, high + margin)
    axes.set(title=title, xlabel="epoch", ylabel="loss, nats per image")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.legend(loc="upper right")


def draw_prior(axes: Axes, posterior: np.ndarray, prior: np.ndarray, gap: float | None) -> None:
    """Draws the distances from the origin of the latents of images and of the prior."""
    bins = np.linspace(0, max(posterior.max(), prior.max()), 60).tolist()
    for values, name, split in (
        (posterior, "of images", "train"),
        (prior, "of the prior", "validation"),
    ):
        axes.hist(values, bins, density=True, alpha=0.5, color=SPLITS[split], label=name)
    axes.set(
        title="Latents of images and of the prior"
        + ("" if gap is None else f": {gap:.1f} nats apart"),
        xlabel="length of the noise that z is made of (of N(0, I): of z)",
        yticks=[],
    )
    axes.legend(loc="upper right")


def draw_pixels(axes: Axes, images: np.ndarray, draws: np.ndarray) -> None:
    """Draws the values of images, and of images drawn from the likelihood."""
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
    """Draws the decoder's scales, and their lower bound."""
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
    """Draws the size of the gradient of each variable, in the order of the model."""
    values = np.array(list(sizes.values()))
    places = np.arange(1, len(values) + 1)
    reached = values > 0
    axes.plot(places[reached], values[reached], "o", color=SPLITS["train"], markersize=3)
    floor = np.full((~reached).sum(), values[reached].min(initial=1.0))
    axes.plot(places[~reached], floor, "x", color=COLORS["problem"], markersize=5)
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


PANELS: dict[str, Callable[..., None]] = {
    "latents": draw_used_latents,
    "over_time": draw_kl_over_time,
    "terms": draw_best_epoch,
    "prior": draw_prior,
    "pixels": draw_pixels,
    "scale": draw_scale,
    "gradients": draw_gradients,
}
