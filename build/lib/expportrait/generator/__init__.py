"""The video diffusion transformer driven by control maps: codec, model, training, sampling (paper, section 3.3)."""
