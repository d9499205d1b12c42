"""The command `kvae`. Commands import kvae in their bodies, so that help needs no Keras."""

import click

from .curves import curves
from .doctor import doctor
from .evaluate import evaluate
from .explore import explore
from .export import export
from .fit_prior import fit_prior
from .generate import generate
from .interpolate import interpolate
from .latent import latent
from .outliers import outliers
from .presets import presets
from .reconstruct import reconstruct
from .score import score
from .train import train


class Commands(click.Group):
    """The commands, in the order of their use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, as they were added."""
        return list(self.commands)


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="keras-vae", prog_name="kvae")
def main() -> None:
    """Train variational autoencoders on images, and show what they learned.

    Example: kvae train --epochs 10 && kvae generate --out grid.png
    """


main.add_command(train)
main.add_command(presets)
main.add_command(generate)
main.add_command(reconstruct)
main.add_command(interpolate)
main.add_command(latent)
main.add_command(curves)
main.add_command(explore)
main.add_command(evaluate)
main.add_command(score)
main.add_command(outliers)
main.add_command(doctor)
main.add_command(fit_prior)
main.add_command(export)
