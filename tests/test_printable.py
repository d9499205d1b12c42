import unicodedata

import pytest

from kvae.printable import printable


@pytest.mark.parametrize(
    "value, text",
    [
        ("Ærøskøbing, 東京 & 3 < 4", "Ærøskøbing, 東京 & 3 < 4"),
        ("", ""),
        (None, "None"),
        (" two\t\n\r lines\x0b\x85", "two lines"),
        ("line\u2028paragraph\u2029end", "line paragraph end"),
        ("\x1b]0;title\x07\x1b[2J", "\ufffd]0;title\ufffd\ufffd[2J"),
        ("\x9b31m\x00\x7f", "\ufffd31m\ufffd\ufffd"),
        ("photo_\u202egnp.exe", "photo_\ufffdgnp.exe"),
        ("c\u200ba\u2066t\ufeff", "c\ufffda\ufffdt\ufffd"),
        ("\udcff of a file\ue000\U0010ffff", "\ufffd of a file\ufffd\ufffd"),
    ],
)
def test_what_cannot_be_shown_is_replaced(value, text):
    assert printable(value) == text


def test_every_character_becomes_one_that_a_terminal_shows():
    for start in range(0, 0x110000, 4096):
        text = printable("".join(map(chr, range(start, start + 4096))), most=4096)
        assert not {unicodedata.category(c) for c in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        text.encode()


@pytest.mark.parametrize("length, end", [(199, "x"), (200, "x"), (201, "…"), (10**6, "…")])
def test_a_line_has_a_length(length, end):
    text = printable("x" * length)
    assert len(text) == min(length, 200) and text.endswith(end)
