"""The rows of Table 1 of ExpPortrait (arXiv 2602.19900), as published. None of them was measured here."""

SELF = ("psnr", "ssim", "lpips", "l1", "aed", "apd", "csim")
CROSS = ("aed", "apd", "csim")
SOURCE = "Table 1 of ExpPortrait, arXiv 2602.19900"
PROTOCOL = (
    "published: Table 1 of ExpPortrait (arXiv 2602.19900), RAVDESS (20 clips) and NeRSemble (80 clips), by the paper's "
    "own models and evaluation. The paper does not say what measures AED, APD, LPIPS and CSIM; those of this run are "
    "measured by the networks named below, and other data, sizes and networks give other numbers. Compare rows of this "
    "run with each other, not with published rows."
)
WARNING = (
    "AniPortrait and HunyuanPortrait have the same cross AED and APD (0.22753, 0.08784) in the paper: probably a copy "
    "error there, so neither row is a target."
)
_VALUES = {
    "LivePortrait": (23.2897, 0.82985, 0.37339, 0.04619, 0.12924, 0.02144, 0.82972, 0.28641, 0.23048, 0.72869),
    "AniPortrait": (22.2527, 0.80838, 0.30018, 0.04078, 0.17581, 0.01631, 0.76038, 0.22753, 0.08784, 0.62998),
    "Follow-Your-Emoji": (25.6872, 0.84146, 0.23645, 0.02905, 0.14717, 0.01485, 0.80284, 0.22069, 0.02338, 0.68373),
    "HunyuanPortrait": (22.9453, 0.79333, 0.27573, 0.03962, 0.15593, 0.02329, 0.81150, 0.22753, 0.08784, 0.67451),
    "X-NeMo": (21.5618, 0.78051, 0.32411, 0.04760, 0.13671, 0.01789, 0.83018, 0.17092, 0.02101, 0.72164),
    "ExpPortrait": (26.5507, 0.85908, 0.18394, 0.02160, 0.13185, 0.00948, 0.83506, 0.21092, 0.01277, 0.72917),
}
ROWS = [
    {"method": method, "self": dict(zip(SELF, row[:7], strict=True)), "cross": dict(zip(CROSS, row[7:], strict=True))}
    for method, row in _VALUES.items()
]
