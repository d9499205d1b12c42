"""Text of others, such as the name of a file or a class, made fit to be shown."""

import unicodedata

__all__ = ["printable"]

# Controls (ANSI escapes begin with one), formats (bidirectional, of zero width), surrogates,
# private use, unassigned, and separators of lines and paragraphs.
UNSHOWN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(value: object, most: int = 200) -> str:
    r"""Makes one line of text of anything: for a terminal, a page or a picture's title.

    Nothing in it moves the cursor, changes a colour, turns the order of letters or hides; and it
    can be encoded as UTF-8. What has a meaning in a language (`<` in HTML, `$` in matplotlib) stays
    as it is: `html.escape` is for that.

    Args:
        value: What `str` makes a text of.
        most: The length of the line, in characters; what is longer ends in "…".

    Returns:
        The text, runs of white space as one space, and what cannot be shown as U+FFFD.

    Example:
        >>> printable("a class\n of \x1b[31mimages")
        'a class of �[31mimages'
        >>> printable("of ten letters", most=6)
        'of te…'
    """
    text = " ".join(str(value).split())
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join("\ufffd" if unicodedata.category(c) in UNSHOWN else c for c in text)
