"""From portrait video clips to personalised heads, control maps and re-enactment."""

__version__ = "0.1.0"
