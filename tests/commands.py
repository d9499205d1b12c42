"""The command, called in this process."""

import importlib.metadata
import pathlib

from click.testing import CliRunner

COMMAND = importlib.metadata.entry_points(group="console_scripts")["kvae"].load()


def call(*arguments, code=0):
    """What the command says; it must end with this exit code."""
    result = CliRunner().invoke(COMMAND, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def assert_refused(arguments, code, what):
    """Asserts that the command says it in one line, or with its usage, and writes nothing."""
    before = set(pathlib.Path().rglob("*"))
    result = call(*arguments, code=code)
    assert what in result.stderr and result.stdout == ""
    assert code == 2 or len(result.stderr.splitlines()) == 1
    assert set(pathlib.Path().rglob("*")) == before
