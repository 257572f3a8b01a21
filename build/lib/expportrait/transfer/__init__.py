"""Identity-adaptive expression transfer: a driver's expression as fine motion of another head (paper, section 3.2)."""
