"""What `evaluate` measures: image quality, motion, perceptual distance, identity; and the paper's own rows."""
