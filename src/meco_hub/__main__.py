"""`python -m meco_hub`: the command `meco`, where launchers want a module.

This file knows where the command begins.
"""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
