"""Makes untrusted text, such as the name of a file or a class, printable."""

import unicodedata

__all__ = ["printable"]

# Controls (ANSI escapes begin with one), formats (bidirectional, of zero width), surrogates,
# private use, unassigned, and separators of lines and paragraphs.
UNSHOWN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(value: object, most: int = 200) -> str:
    r"""Converts anything to one printable line, for a terminal, a page or a title.

    The text cannot move the cursor, change colours, reverse the order of letters or hide; and it
    can be encoded as UTF-8. Characters with a meaning in some language (`<` in HTML, `$` in
    matplotlib) stay; for HTML use `html.escape`.

    Args:
        value: A value, which is converted with `str`.
        most: Maximum length in characters; longer text ends in "…".

    Returns:
        The text, with runs of white space as one space, and unprintable characters as U+FFFD.

    Example:
        >>> printable("a class\n of \x1b[31mimages")
        'a class of �[31mimages'
        >>> printable("of ten letters", most=6)
        'of te…'
    """
    text = " ".join(str(value).split())
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join("\ufffd" if unicodedata.category(c) in UNSHOWN else c for c in text)
