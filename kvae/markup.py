"""Markup: results as small pieces of HTML, in the colours of the notebook that shows them."""

import base64
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kvae.printable import printable

__all__ = ["Markup", "coloured", "entries", "folded", "marked", "picture", "section", "table"]

LONGEST = 2_000  # characters of a text
DEEPEST = 8  # tables in tables
MOST = 500  # entries of all tables that a stranger's file may have filled
LONG = 12  # entries of a value that is shown in a line
CELL = "text-align: {}; vertical-align: top"


class Markup(str):
    """Text that is HTML already. All other text is escaped where it is put into HTML."""


def marked(value: object) -> Markup:
    """Any value as HTML: a line of text in which nothing is a tag.

    Example:
        >>> marked("<b>bars</b>")
        '&lt;b&gt;bars&lt;/b&gt;'
    """
    return value if isinstance(value, Markup) else Markup(html.escape(printable(value, LONGEST)))


def table(
    rows: Iterable[Sequence[object]], head: Sequence[object] = (), numbers: bool = False
) -> Markup:
    """A table whose rows each begin with a name.

    Args:
        rows: Cells, text or markup, as many in each.
        head: The names of the columns; none where it is empty.
        numbers: Whether cells stand to the right, as numbers do.
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
    """A heading, what stands under it, and notes in small letters."""
    small = "".join(f"<p><small>{marked(note)}</small></p>" for note in notes)
    return Markup(
        f"<div><p><strong>{marked(title)}</strong></p>{''.join(map(marked, parts))}{small}</div>"
    )


def folded(title: object, part: object) -> Markup:
    """What is shown after a click on its title."""
    return Markup(f"<details><summary>{marked(title)}</summary>{marked(part)}</details>")


def coloured(text: object, color: str) -> Markup:
    """Bold text of a colour, which must be readable on white and on black."""
    return Markup(f'<strong style="color: {html.escape(color)}">{marked(text)}</strong>')


def picture(png: bytes, words: object) -> Markup:
    """A picture, and the words for who cannot see it."""
    data = base64.b64encode(png).decode()
    return Markup(
        f'<img src="data:image/png;base64,{data}" alt="{marked(words)}" style="max-width: 100%">'
    )


def entries(values: Mapping[Any, Any]) -> Markup:
    """A table of names and plain values; what holds much is folded, as a table of its own.

    Args:
        values: By name. They may come from a stranger: what is too long or too deep is cut.
    """
    return entries_of(values, iter(range(MOST)), depth=1)


def entries_of(values: Mapping[Any, Any], room: Iterator[int], depth: int) -> Markup:
    """The same, of a table in tables, which share the room that there is."""
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
    """A value as text, of a list the first entries."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value[:MOST])) + ", …" * (len(value) > MOST)
    return str(value)
