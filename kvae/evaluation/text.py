"""Formats the figures of a report as a table, and its protocol as one line."""

from collections.abc import Sequence
from typing import Any

from kvae.evaluation.factors import TITLES

__all__ = ["lines_of", "protocol_row", "rows_of", "with_error"]

Row = tuple[str, str]  # a title and its text
UNKNOWN = "needs more than one image"


def lines_of(rows: Sequence[Row]) -> list[str]:
    """Rows as lines of text."""
    return [
        f"{title} {value}" if title.endswith(":") else f"{title:<20} {value}"
        for title, value in rows
    ]


def rows_of(figures: dict[str, Any]) -> list[Row]:
    """The figures as rows of a table; a title that ends in a colon precedes a sentence."""
    bound, errors = figures["bound"], figures["bound"]["standard_error"]
    rows: list[Row] = [
        ("−ELBO", f"{with_error(-bound['elbo'], errors['elbo'])} nats per image"),
        ("  reconstruction", with_error(bound["reconstruction"], errors["reconstruction"])),
        ("  KL", with_error(bound["kl"], errors["kl"])),
    ]
    if "bits_per_dimension" in bound:
        rows.append(("  bits per dimension", f"{bound['bits_per_dimension']:.4f}"))
    told = "|c" if "classification" in figures else ""
    for i, (k, value) in enumerate(figures["nll"].items()):
        text = f"{with_error(value['mean'], value['standard_error'])}   k = {int(k):,}"
        rows.append((f"−log p(x{told}), at most" if i == 0 else "", text))
    latents = figures["latents"]
    active, kl = f"{latents['active']} of {latents['latents']}", UNKNOWN
    if latents["kl_per_latent"] is not None:
        low, high = min(latents["kl_per_latent"]), max(latents["kl_per_latent"])
        kl = f"{low:.2f} to {high:.2f} nats, from {latents['kl_per_latent_of']}"
    rows += [
        ("active latents", UNKNOWN if latents["active"] is None else active),
        ("KL of a latent", kl),
    ]
    if latents.get("kl_per_group"):
        each = ", ".join(f"{value:.1f}" for value in latents["kl_per_group"])
        rows.append(("  in each group", f"{each} nats"))
    rows += information_rows(latents)
    if "representation" in figures:
        found = figures["representation"]
        rows += [
            (title, f"{with_error(found[name], found['standard_error'][name], 100)} % right")
            for name, title in (
                ("nearest_neighbours", f"{found['neighbours']} neighbours"),
                ("linear_probe", "linear probe"),
            )
        ]
    if "classification" in figures:
        found = figures["classification"]
        share = with_error(found["most_likely"], found["standard_error"], 100)
        rows.append(("classification", f"{share} % right, by the largest log p(x|class)"))
    rows += sample_rows(figures.get("samples", {}))
    return [*rows, *factor_rows(figures.get("factors", {}))]


def information_rows(latents: dict[str, Any]) -> list[Row]:
    """Rows for information and prior gap; none if these are not known."""
    if latents["mutual_information"] is None:
        return []
    least, most = latents["prior_gap_at_least"], f"{latents['prior_gap_at_most']:.2f} nats"
    gap = f"at most {most} (too few images for a lower bound)"
    return [
        (
            "information",
            f"{latents['mutual_information']:.2f} nats of x in z "
            f"(at most {latents['mutual_information_at_most']:.2f} with this many images)",
        ),
        ("gap to the prior", gap if least is None else f"{least:.2f} to {most}"),
    ]


def sample_rows(samples: dict[str, Any]) -> list[Row]:
    """Rows for the figures of samples, each beside that of training images."""
    rows: list[Row] = []
    if "floor" in samples:
        floor = samples["floor"]
        names = (
            (("classifier_frechet_distance",), "Fréchet distance"),
            (("classifier_kernel_distance",), "kernel distance"),
            (("precision", "recall"), "precision, recall"),
            (("density", "coverage"), "density, coverage"),
        )
        for keys, title in names:
            found, least = (
                ", ".join(f"{part[key]:.4g}" for key in keys) for part in (samples, floor)
            )
            rows.append((title, f"{found}   (training images in their place: {least})"))
        shares = samples["class_histogram"].items()
        if "asked_class" in samples:
            asked, real = (100 * part["asked_class"] for part in (samples, floor))
            text = f"{asked:.2f} % found by the classifier   (of test images: {real:.2f})"
            rows.append(("class asked for", text))
        rows.append(("classes", ", ".join(f"{n} {100 * share:.0f} %" for n, share in shares)))
    if "left_out" in samples:
        rows.append(("sample quality", f"left out. {samples['left_out']}"))
    copies = samples.get("memorisation", {})
    if copies.get("ratio") is not None:
        rows.append(
            (
                "copies",
                f"samples are {copies['ratio']:.2f} × as far from training images as unseen "
                f"images are; {copies['nearest_is_training']:.0%} are nearest to one, "
                f"{copies['nearest_is_training_by_chance']:.0%} by chance",
            )
        )
    if "protocol" in samples:
        rows.append(("Samples:", samples["protocol"]))
    return rows


def factor_rows(factors: dict[str, Any]) -> list[Row]:
    """Rows for the disentanglement scores, with the best latent of each factor."""
    if not factors:
        return []
    rows: list[Row] = [
        (title, with_error(factors[name]["mean"], factors[name]["deviation"]))
        for name, title in TITLES.items()
    ]
    best = []
    for name, shares in zip(factors["names"], zip(*factors["matrix"], strict=True), strict=True):
        most = max(shares)
        best.append(f"{name} {shares.index(most) + 1} ({most:.0%})")
    rows.append(("best latent", ", ".join(best)))
    return [*rows, ("Factors:", factors["protocol"])]


def with_error(value: float, error: float | None, factor: int = 1) -> str:
    """A figure with its standard error, if it has one; both multiplied by a factor."""
    text = f"{factor * value:.2f}"
    return text if error is None else f"{text} ± {factor * error:.2f}"


def protocol_row(protocol: dict[str, Any]) -> Row:
    """The protocol in a sentence."""
    resized = ""
    if "resized_from" in protocol:
        resized = f" resized from {'×'.join(map(str, protocol['resized_from']))}"
    parts = [
        f"{protocol['data']} {protocol['split']}, {protocol['images']:,} "
        f"image{'s' * (protocol['images'] != 1)}{resized} "
        f"(sha256 {protocol['data_hash'][:8]})",
        *([protocol["given"]] if "given" in protocol else []),
        f"{protocol['observation']} (sha256 {protocol['observed_hash'][:8]})",
        "one draw of z for the bound",
        f"seed {protocol['seed']}",
        f"{protocol['backend']}, {protocol['device']}, {protocol['precision']}",
        f"kvae {protocol['versions']['kvae']}, keras {protocol['versions']['keras']}",
        *(["± one standard error over images"] if protocol["images"] > 1 else []),
    ]
    return "Protocol:", "; ".join(parts)
