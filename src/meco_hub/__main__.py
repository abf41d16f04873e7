"""`python -m meco_hub`: the command `meco`, where launchers want a module."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
