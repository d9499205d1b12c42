"""Text: the figures of a report as a table, and its protocol in a line."""

from typing import Any

from kvae.evaluation.factors import TITLES

__all__ = ["protocol_line", "rows_of", "with_error"]

UNKNOWN = "needs more than one image"


def rows_of(figures: dict[str, Any]) -> list[str]:
    """The figures as lines of a table."""
    bound, errors = figures["bound"], figures["bound"]["standard_error"]
    lines = [
        row("−ELBO", f"{with_error(-bound['elbo'], errors['elbo'])} nats per image"),
        row("  reconstruction", with_error(bound["reconstruction"], errors["reconstruction"])),
        row("  KL", with_error(bound["kl"], errors["kl"])),
    ]
    if "bits_per_dimension" in bound:
        lines.append(row("  bits per dimension", f"{bound['bits_per_dimension']:.4f}"))
    for i, (k, value) in enumerate(figures["nll"].items()):
        text = f"{with_error(value['mean'], value['standard_error'])}   k = {int(k):,}"
        lines.append(row("−log p(x), at most" if i == 0 else "", text))
    latents = figures["latents"]
    active, kl = f"{latents['active']} of {latents['latents']}", UNKNOWN
    if latents["kl_per_latent"] is not None:
        low, high = min(latents["kl_per_latent"]), max(latents["kl_per_latent"])
        kl = f"{low:.2f} to {high:.2f} nats, from {latents['kl_per_latent_of']}"
    lines += [
        row("active latents", UNKNOWN if latents["active"] is None else active),
        row("KL of a latent", kl),
    ]
    if latents.get("kl_per_group"):
        each = ", ".join(f"{value:.1f}" for value in latents["kl_per_group"])
        lines.append(row("  in each group", f"{each} nats"))
    lines += information_rows(latents)
    if "representation" in figures:
        found = figures["representation"]
        lines += [
            row(
                title,
                f"{with_error(found[name], found['standard_error'][name], 100)} % right",
            )
            for name, title in (
                ("nearest_neighbours", f"{found['neighbours']} neighbours"),
                ("linear_probe", "linear probe"),
            )
        ]
    if "classification" in figures:
        found = figures["classification"]
        share = with_error(found["most_likely"], found["standard_error"], 100)
        lines.append(row("classification", f"{share} % right, by the largest log p(x|class)"))
    lines += sample_rows(figures.get("samples", {}))
    return [*lines, *factor_rows(figures.get("factors", {}))]


def information_rows(latents: dict[str, Any]) -> list[str]:
    """What latents hold, and how far they are from the prior; none where that is not known."""
    if latents["mutual_information"] is None:
        return []
    least, most = latents["prior_gap_at_least"], f"{latents['prior_gap_at_most']:.2f} nats"
    gap = f"at most {most} (too few images for a lower bound)"
    return [
        row(
            "information",
            f"{latents['mutual_information']:.2f} nats of x in z "
            f"(at most {latents['mutual_information_at_most']:.2f} with this many images)",
        ),
        row("gap to the prior", gap if least is None else f"{least:.2f} to {most}"),
    ]


def sample_rows(samples: dict[str, Any]) -> list[str]:
    """The figures of samples as lines of a table, each beside that of training images."""
    lines = []
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
            lines.append(row(title, f"{found}   (training images in their place: {least})"))
        shares = samples["class_histogram"].items()
        if "asked_class" in samples:
            asked, real = (100 * part["asked_class"] for part in (samples, floor))
            text = f"{asked:.2f} % found by the classifier   (of test images: {real:.2f})"
            lines.append(row("class asked for", text))
        lines.append(row("classes", ", ".join(f"{n} {100 * share:.0f} %" for n, share in shares)))
    if "left_out" in samples:
        lines.append(row("sample quality", f"left out. {samples['left_out']}"))
    copies = samples.get("memorisation", {})
    if copies.get("ratio") is not None:
        lines.append(
            row(
                "copies",
                f"samples are {copies['ratio']:.2f} × as far from training images as unseen "
                f"images are; {copies['nearest_is_training']:.0%} are nearest to one, "
                f"{copies['nearest_is_training_by_chance']:.0%} by chance",
            )
        )
    if "protocol" in samples:
        lines.append(f"Samples: {samples['protocol']}")
    return lines


def factor_rows(factors: dict[str, Any]) -> list[str]:
    """How latents and factors go together, as lines of a table; the best latent of each factor."""
    if not factors:
        return []
    lines = [
        row(title, with_error(factors[name]["mean"], factors[name]["deviation"]))
        for name, title in TITLES.items()
    ]
    best = []
    for name, shares in zip(factors["names"], zip(*factors["matrix"], strict=True), strict=True):
        most = max(shares)
        best.append(f"{name} {shares.index(most) + 1} ({most:.0%})")
    lines.append(row("best latent", f"{', '.join(best)}"))
    return [*lines, f"Factors: {factors['protocol']}"]


def with_error(value: float, error: float | None, factor: int = 1) -> str:
    """A figure and its standard error, if there is one; both times a factor."""
    text = f"{factor * value:.2f}"
    return text if error is None else f"{text} ± {factor * error:.2f}"


def row(title: str, value: str) -> str:
    """One line of a table."""
    return f"{title:<20} {value}"


def protocol_line(protocol: dict[str, Any]) -> str:
    """The protocol in a line."""
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
    return f"Protocol: {'; '.join(parts)}"
