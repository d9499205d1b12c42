"""Finding: the result of a check, its severity, and its remedy."""

import dataclasses
from collections.abc import Sequence

__all__ = ["NAMES", "SEVERITIES", "Finding", "capitalised", "listed", "rated", "signed"]

SEVERITIES = ("ok", "warning", "problem")
NAMES = (
    "latents",
    "groups",
    "classes",
    "KL over time",
    "capacity",
    "prior gap",
    "decoder scale",
    "likelihood",
    "overfitting",
    "gradients",
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        name: Name of the check, in two or three words.
        severity: "ok", "warning" or "problem".
        seen: What the check found, with its number, as a sentence.
        remedy: The option or argument that helps; usually empty if all is well.
    """

    name: str
    severity: str
    seen: str
    remedy: str = ""


def rated(value: float, limits: tuple[float, float]) -> str:
    """Returns a severity: "warning" from the first limit on, "problem" from the second."""
    return SEVERITIES[sum(value >= limit for limit in limits)]


def signed(number: float) -> str:
    """Formats a number with two decimals and a minus sign as in formulas."""
    return f"{number:.2f}".replace("-", "−")


def listed(names: Sequence[str], most: int = 3) -> str:
    """Lists names, and the number of the remaining ones."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def capitalised(text: str) -> str:
    """The text with a capital first letter, the rest as it was."""
    return text[:1].upper() + text[1:]
