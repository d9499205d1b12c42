"""Finding: what a check saw, how grave it is, and what helps."""

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
    """What a check saw.

    Attributes:
        name: Of the check, in two or three words.
        severity: "ok", "warning" or "problem".
        seen: What was seen, with its number; a sentence.
        remedy: The option or argument that helps; mostly empty where all is well.
    """

    name: str
    severity: str
    seen: str
    remedy: str = ""


def rated(value: float, limits: tuple[float, float]) -> str:
    """A severity: "warning" from the first limit on, "problem" from the second."""
    return SEVERITIES[sum(value >= limit for limit in limits)]


def signed(number: float) -> str:
    """Two decimals, with the minus of a formula."""
    return f"{number:.2f}".replace("-", "−")


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def capitalised(text: str) -> str:
    """The text with a capital first letter, the rest as it was."""
    return text[:1].upper() + text[1:]
