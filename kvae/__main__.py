"""`python -m kvae`: the command `kvae`."""

import os
import sys

from kvae_cli import main

if __name__ == "__main__":
    if any(word.startswith("--backend") for word in sys.argv):
        # This package is already imported, and so is Keras, which reads its backend once.
        os.execv(sys.executable, [sys.executable, "-m", "kvae_cli", *sys.argv[1:]])
    main(prog_name="kvae")
