"""`python -m kvae_cli`: the command `kvae`."""

from . import main

main(prog_name="kvae")
