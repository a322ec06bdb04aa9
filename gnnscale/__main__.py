"""``python -m gnnscale`` is the command ``gnnscale``."""

from gnnscale.cli import main

if __name__ == "__main__":
    main()
