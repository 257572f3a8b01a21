"""Long videos cut into the clips of a manifest, each a run of frames of one person (docs/split.md)."""
