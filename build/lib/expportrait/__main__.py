"""``python -m expportrait``: the same as the console script."""

from expportrait.cli import main

main()
