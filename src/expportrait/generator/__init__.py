"""Video diffusion transformer driven by control maps: codec, encoders, model, training, sampling (paper, section 3.3)."""
