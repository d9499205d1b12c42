"""Shared code of the commands: the backend option, quiet imports, one-line errors."""

import contextlib
import importlib.abc
import importlib.machinery
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|RESOURCE_EXHAUSTED", re.I)
BACKENDS = ("tensorflow", "jax", "torch")
LONGEST = 1_000  # characters of a message


class Command(click.Command):
    """A command with one-line errors: exit code 1 for expected errors, 130 for Ctrl-C.

    Args:
        groups: Titles of the help, each with the names of its options, in order. All other options
            follow as "Other options". Without groups, all are "Options", as in click.
    """

    def __init__(
        self, *args: Any, groups: Mapping[str, Sequence[str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.groups = groups or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options of each group under its title."""
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        rows = {name: record for name, record in records.items() if record}
        sections = {
            title: [rows.pop(name) for name in names] for title, names in self.groups.items()
        }
        sections["Other options" if self.groups else "Options"] = list(rows.values())
        for title, lines in sections.items():
            with formatter.section(title):
                formatter.write_dl(lines)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            click.echo(f"\n{str(interruption) or 'Interrupted.'}", err=True)
            ctx.exit(130)
        except ModuleNotFoundError as error:
            name = (error.name or "").partition(".")[0]
            if name not in BACKENDS:
                raise
            raise click.ClickException(
                f"The backend {name} is not installed: pip install {name}, or choose another with "
                "--backend."
            ) from error
        except (MemoryError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            if isinstance(error, RuntimeError) and not OUT_OF_MEMORY.search(reason):
                raise
            raise click.ClickException(
                f"Out of memory: choose fewer images, draws or latents. ({reason})"
            ) from error
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            from kvae.printable import printable

            if ctx.meta.get("kvae.others") and not isinstance(error, OSError):
                ctx.exit(1)  # the first process says it

            one_line = click.ClickException(printable(error, LONGEST))
            if isinstance(error, ConnectionError) and ctx.meta.get("kvae.processes"):
                one_line.show()
                sys.stderr.flush()
                os._exit(1)  # else JAX would wait for the dead, and end with a page of its own
            raise one_line from error


class Count(click.ParamType):
    """A number of at least 1, or the word auto."""

    name = "auto|integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or the word."""
        return value if value == "auto" else click.IntRange(min=1).convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A range of numbers, without NaN and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def ends_in(*suffixes: str) -> Any:
    """A callback of an option that checks the suffix of a file name."""

    def check(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        if value is not None and not value.endswith(suffixes):
            raise click.BadParameter(f"must end in {' or '.join(suffixes)}: {value}")
        return value

    return check


def choose_backend(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Sets Keras's backend, which Keras reads once, when it is imported."""
    keras = sys.modules.get("keras")
    if value and keras is not None and keras.backend.backend() != value:
        raise click.UsageError(
            f"Keras already runs on {keras.backend.backend()} in this process. Set "
            f"KERAS_BACKEND={value} before Keras is imported."
        )
    if value:
        os.environ["KERAS_BACKEND"] = value


backend_option = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    callback=choose_backend,
    expose_value=False,
    help="Keras backend.  [default: KERAS_BACKEND, else the one in Keras's configuration]",
)


@contextlib.contextmanager
def progress(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr for work of more than a second; called with done and total.

    Args:
        what: Name of the work.
        quiet: Whether to show nothing.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def show(done: int, total: int) -> None:
            if not bars and not quiet and time.monotonic() > started + 1:
                bar = click.progressbar(length=total, label=what, file=sys.stderr)
                bars.append(stack.enter_context(bar))
            for bar in bars:
                bar.update(done - bar.pos)

        yield show


def import_quietly() -> None:
    """Imports kvae without TensorFlow's notices, and without TensorFlow if possible.

    TensorFlow writes its notices to the file descriptor before it reads any setting that would
    silence them.
    """
    chosen = os.environ.get("KERAS_BACKEND", BACKENDS[0])
    if chosen not in BACKENDS:
        raise click.ClickException(
            f"KERAS_BACKEND is {chosen!r}; kvae runs on {', '.join(BACKENDS)}."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with muted_stderr():
        import keras

        import kvae  # noqa: F401
    if keras.backend.backend() != "tensorflow":
        keep_out("tensorflow")


class KeptOut(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes the import of a module fail as if it were not installed."""

    def __init__(self, module: str) -> None:
        self.kept_out = module  # `kvae.data` looks for this where it needs TensorFlow itself

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Finds the module."""
        return importlib.machinery.ModuleSpec(name, self) if name == self.kept_out else None

    def create_module(self, spec: Any) -> None:
        """Raises the error of a module that is not installed."""
        raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)

    def exec_module(self, module: Any) -> None:
        """Does nothing: a loader needs this method, but there is no module to execute."""


def keep_out(module: str) -> None:
    """Hides a module until the command has ended, unless it is imported already.

    Under every backend, Keras imports an installed TensorFlow to load, save or seed, which costs
    some seconds and 400 MiB for nothing. Once Keras has found a module missing, it does not look
    for it again.
    """
    if module in sys.modules or any(hasattr(finder, "kept_out") for finder in sys.meta_path):
        return
    finder = KeptOut(module)

    def let_in() -> None:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)

    sys.meta_path.insert(0, finder)
    click.get_current_context().call_on_close(let_in)


@contextlib.contextmanager
def muted_stderr() -> Any:
    """Discards what is written to file descriptor 2."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
