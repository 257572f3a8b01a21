"""``expportrait doctor``: one page on the machine, the folders and the files that a run would meet (docs/doctor.md)."""
