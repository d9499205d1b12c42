"""Cards: facts about a model in its file, as plain values."""

import math
from collections.abc import Mapping
from typing import Any

from kvae.markup import entries, section
from kvae.printable import printable

__all__ = ["Card", "checked_card"]

LONGEST = 2_000  # largest number of characters of a text
DEEPEST = 20  # largest depth of nested values
# The entries that kvae itself writes and reads, with their types. Others are the user's.
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(
        ("dataset", "origin", "source", "preset", "backend", "device", "python"),
        ((str,), "a text"),
    ),
    "command": ((str,), "a text"),
    "class_names": ((list, tuple), "a list of texts"),
    **dict.fromkeys(
        ("versions", "images", "recipe", "last_epoch", "train", "test"), ((dict,), "a dict")
    ),
    "epochs": ((int,), "an integer"),
    "fit_seconds": ((int, float), "a number"),
}


class Card(dict[str, Any]):
    """Facts about a model: a dict, which a notebook shows as a table.

    Example:
        >>> Card(dataset="photos")
        {'dataset': 'photos'}
    """

    def _repr_html_(self) -> str:
        return section(f"Model of {self.get('dataset', 'images')}", entries(self))


def checked_card(card: Any) -> dict[str, Any]:
    r"""Checks a card, and makes its texts printable; None becomes an empty card.

    Args:
        card: A dict of names to plain values, as JSON types. It may come from a stranger.

    Raises:
        ValueError: If it is not a dict, or an entry of kvae is of another kind.

    Example:
        >>> checked_card({"dataset": "photos", "by": ["me\n"]})
        {'dataset': 'photos', 'by': ['me']}
    """
    if card is None:
        return {}
    if not isinstance(card, Mapping):
        raise ValueError(f"A model's card must be a dict. Received: {type(card).__name__}")
    card = plain(card)
    for name, (kinds, what) in KINDS.items():
        value = card.get(name)
        if value is None:
            continue
        fits = isinstance(value, kinds) and not isinstance(value, bool)
        if name == "class_names":
            fits = fits and all(isinstance(one, str) for one in value)
        if isinstance(value, float):
            fits = fits and math.isfinite(value)
        if not fits:
            raise ValueError(
                f"{name!r} of the model's card must be {what}. Received: {printable(value, 60)}"
            )
    return card


def plain(value: Any, depth: int = 0) -> Any:
    """Makes all texts in a value printable, and drops values that are nested too deep."""
    if depth > DEEPEST:
        return None
    if isinstance(value, str):
        return printable(value, LONGEST)
    if isinstance(value, Mapping):
        return {printable(name): plain(part, depth + 1) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part, depth + 1) for part in value]
    return value
