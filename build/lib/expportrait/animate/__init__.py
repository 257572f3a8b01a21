"""``expportrait animate``: a portrait and a driving video in, a film out, in one process (docs/animate.md)."""
