"""What commands share: the backend option, and errors as one line."""

import os
from typing import Any

import click

BACKENDS = ("tensorflow", "jax", "torch")


class Command(click.Command):
    """A command whose expected errors are one line and exit code 1, and whose Ctrl-C is 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            click.echo(f"\n{interruption or 'Interrupted.'}", err=True)
            ctx.exit(130)
        except ModuleNotFoundError as error:
            if error.name in BACKENDS:
                raise click.ClickException(
                    f"The backend {error.name} is not installed: pip install {error.name}, or "
                    "choose another with --backend."
                ) from error
            raise click.ClickException(str(error)) from error
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            raise click.ClickException(" ".join(str(error).split())) from error


def choose_backend(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Tells Keras its backend, which it reads once, when it is imported."""
    if value:
        os.environ["KERAS_BACKEND"] = value
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up notices


backend_option = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    callback=choose_backend,
    expose_value=False,
    help="Keras's backend.  [default: KERAS_BACKEND, or what Keras is set to]",
)
