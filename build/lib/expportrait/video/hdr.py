"""Pictures of high dynamic range (BT.2100: PQ and HLG), as 8-bit BT.709."""

from functools import cache

import cv2
import numpy as np

PQ, HLG = 16, 18  # FFmpeg's numbers of the transfer functions
WHITE = 203.0  # cd/m^2 of diffuse white (ITU-R BT.2408), which becomes white
PEAK = 1000.0  # cd/m^2 that are still told apart; what is brighter is clipped
KNEE = 0.7  # of white: below, nothing is compressed
STEPS = 4096
# linear BT.2020 to linear BT.709 (ITU-R BT.2087)
TO_709 = np.float32([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def tone_map(picture: np.ndarray, transfer: int) -> np.ndarray:
    """(H,W,3) u16 RGB with BT.2020's primaries, PQ or HLG -> (H,W,3) u8 RGB with BT.709's."""
    linear = cv2.transform(_linear(transfer)[picture], TO_709)
    # the table is even in the square root, as eyes are
    index = np.sqrt(np.clip(linear, 0, PEAK / WHITE) * (WHITE / PEAK)) * (STEPS - 1)
    return _curve()[np.rint(index).astype(np.uint16)]


@cache
def _linear(transfer: int) -> np.ndarray:
    """Code (65536,) -> light over that of diffuse white, f32."""
    code = np.linspace(0, 1, 65536)
    if transfer == PQ:  # SMPTE ST 2084
        power = code ** (1 / 78.84375)
        light = 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
    else:  # ARIB STD-B67, with the system gamma of a display of 1000 cd/m^2, channel by channel
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        light = 1000 * scene**1.2
    return (light / WHITE).astype(np.float32)


@cache
def _curve() -> np.ndarray:
    """Square root of the light over PEAK (STEPS,) -> 8-bit sRGB; straight up to the knee, then rolling off."""
    light = np.linspace(0, 1, STEPS) ** 2 * PEAK / WHITE
    over, most = np.maximum(light - KNEE, 0) / (1 - KNEE), (PEAK / WHITE - KNEE) / (1 - KNEE)
    light = np.minimum(light, KNEE) + (1 - KNEE) * over * (1 + over / most**2) / (1 + over)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * code.clip(0, 1)).astype(np.uint8)
