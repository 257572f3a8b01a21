"""``expportrait export``: a finished run handed over, in the layouts that others' trainers read (docs/export.md)."""
