"""The guide of the command line, and the lines of the command in other documents."""

import pathlib
import re
import shlex

import pytest
from commands import COMMAND

ROOT = pathlib.Path(__file__).parents[1]
GUIDE = ROOT / "cli" / "README.md"
DOCUMENTS = ["README.md", "cli/README.md", "kvae/README.md", "saved_models/README.md"]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def lines_of(text):
    """The calls of the command in blocks and in `code`; those with "…" only hint at one."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]
    calls = [re.match(r"(?:\$ )?(kvae(?: .*)?)$", line) for line in lines]
    return [call[1] for call in calls if call and "…" not in call[1]]


CALLS = [(name, line) for name in DOCUMENTS for line in lines_of((ROOT / name).read_text())]


@pytest.mark.parametrize("name", COMMAND.commands)
def test_every_command_has_its_section_with_its_usual_call(name):
    sections = re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)
    (section,) = [one for one in sections if one.startswith(f"`kvae {name}`\n")]
    assert [line for line in lines_of(section) if line.startswith(f"kvae {name}")][1:]


@pytest.mark.parametrize(("document", "line"), CALLS, ids=str)
def test_a_line_of_the_command_has_options_that_exist(document, line, monkeypatch):
    words = shlex.split(line, comments=True)[1:]
    if not words or words[0].startswith("-"):
        return
    if "&&" in words:
        words = words[: words.index("&&")]
    command = COMMAND.commands[words[0]]
    for option in command.params:
        if option.name == "backend":  # which would become that of this process
            monkeypatch.setattr(option, "callback", None)
    asks = words[1:] in ([], ["--help"])  # the command by its name
    command.make_context(words[0], words[1:], resilient_parsing=asks)


@pytest.mark.parametrize("name", [*DOCUMENTS, "SECURITY.md", "CONTRIBUTING.md", "tests/README.md"])
def test_links_lead_to_files_that_are_there(name):
    document = ROOT / name
    for link in LINK.findall(document.read_text()):
        assert (document.parent / link).exists(), link


def test_pictures_that_are_made_for_the_guide_are_small():
    for path in (ROOT / "saved_models" / "gallery" / "cli").iterdir():
        assert path.stat().st_size < 100_000 and path.name in GUIDE.read_text(), path.name
