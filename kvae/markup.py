"""Markup: results as small pieces of HTML, in the colours of the notebook."""

import base64
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kvae.printable import printable

__all__ = ["Markup", "coloured", "entries", "folded", "marked", "picture", "section", "table"]

LONGEST = 2_000  # largest number of characters of a text
DEEPEST = 8  # largest depth of nested tables
MOST = 500  # entries of all tables; an untrusted file may fill them
LONG = 12  # entries of a value that is shown in a line
CELL = "text-align: {}; vertical-align: top"


class Markup(str):
    """Text that is already HTML. All other text is escaped when it is put into HTML."""


def marked(value: object) -> Markup:
    """Converts any value to HTML: a line of text without tags.

    Example:
        >>> marked("<b>bars</b>")
        '&lt;b&gt;bars&lt;/b&gt;'
    """
    return value if isinstance(value, Markup) else Markup(html.escape(printable(value, LONGEST)))


def table(
    rows: Iterable[Sequence[object]], head: Sequence[object] = (), numbers: bool = False
) -> Markup:
    """Makes a table; each row begins with a name.

    Args:
        rows: Cells, text or markup, the same number in each row.
        head: Names of the columns. Empty: no header.
        numbers: Whether to align cells to the right, like numbers.
    """
    side = CELL.format("right" if numbers else "left")
    left = CELL.format("left")

    def line(cells: Sequence[object], kind: str) -> str:
        first, *others = map(marked, cells)
        name = f'<th scope="{kind}" style="{left}">{first}</th>'
        if kind == "col":
            return name + "".join(f'<th scope="col" style="{side}">{cell}</th>' for cell in others)
        return name + "".join(f'<td style="{side}">{cell}</td>' for cell in others)

    top = f"<thead><tr>{line(head, 'col')}</tr></thead>" if head else ""
    body = "".join(f"<tr>{line(cells, 'row')}</tr>" for cells in rows)
    return Markup(f"<table>{top}<tbody>{body}</tbody></table>")


def section(title: object, *parts: object, notes: Iterable[object] = ()) -> Markup:
    """Makes a heading, its content, and notes in small letters."""
    small = "".join(f"<p><small>{marked(note)}</small></p>" for note in notes)
    return Markup(
        f"<div><p><strong>{marked(title)}</strong></p>{''.join(map(marked, parts))}{small}</div>"
    )


def folded(title: object, part: object) -> Markup:
    """Content that is shown after a click on its title."""
    return Markup(f"<details><summary>{marked(title)}</summary>{marked(part)}</details>")


def coloured(text: object, color: str) -> Markup:
    """Bold text of a colour, which must be readable on white and on black."""
    return Markup(f'<strong style="color: {html.escape(color)}">{marked(text)}</strong>')


def picture(png: bytes, words: object) -> Markup:
    """A picture, with a text for readers who cannot see it."""
    data = base64.b64encode(png).decode()
    return Markup(
        f'<img src="data:image/png;base64,{data}" alt="{marked(words)}" style="max-width: 100%">'
    )


def entries(values: Mapping[Any, Any]) -> Markup:
    """Makes a table of names and plain values; large values are folded tables.

    Args:
        values: Values by name. They may be untrusted: values that are too long or too deep are cut.
    """
    return entries_of(values, iter(range(MOST)), depth=1)


def entries_of(values: Mapping[Any, Any], room: Iterator[int], depth: int) -> Markup:
    """Makes a nested table; all tables share the same room."""
    rows: list[tuple[object, object]] = []
    for name, value in values.items():
        if next(room, None) is None:
            rows.append(("…", f"{len(values) - len(rows):,} more"))
            break
        rows.append((name, entry(value, room, depth)))
    return table(rows)


def entry(value: Any, room: Iterator[int], depth: int) -> Markup:
    """A plain value as a cell."""
    if isinstance(value, Mapping) and value and depth < DEEPEST:
        if len(value) > LONG or any(isinstance(part, Mapping) for part in value.values()):
            return folded(f"{len(value):,} entries", entries_of(value, room, depth + 1))
        return marked("; ".join(f"{name} {plain(part)}" for name, part in value.items()))
    return marked(plain(value))


def plain(value: Any) -> str:
    """A value as text; of a list, the first entries."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value[:MOST])) + ", …" * (len(value) > MOST)
    return str(value)
