"""`kvae presets`."""

import click

from .command import Command, backend_option, import_quietly


@click.command(cls=Command)
@backend_option
def presets() -> None:
    """List the presets of `kvae train`.

    For each preset: its purpose, size and training settings, and the test figure to expect.

    Example: kvae presets
    """
    import_quietly()
    import kvae

    for name, preset in kvae.presets.PRESETS.items():
        size = min(28, preset.largest or 28)
        vae = kvae.VAE.from_preset(name, (size, size, 1))
        groups = f" in {len(vae.groups)} groups" if len(vae.groups) > 1 else ""
        epochs = (
            f"{preset.epochs} epochs"
            if preset.epochs
            else f"{preset.least_epochs} epochs or {preset.least_updates:,} updates"
        )
        click.echo(f"{name}: {preset.summary}")
        click.echo(
            f"    {vae.count_params():,} parameters at {size}×{size}, {vae.latent_dim} "
            f"latents{groups}, "
            f"prior {preset.prior}, {preset.likelihood}; batch {preset.batch_size}, "
            f"{preset.optimizer.capitalize()}, {preset.schedule} learning rate "
            f"{preset.learning_rate:g}, {epochs}"
        )
        if preset.expect:
            click.echo(f"    expect {preset.expect}")
