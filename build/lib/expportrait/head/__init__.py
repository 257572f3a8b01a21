from expportrait.head.model import JOINTS, Head, Surface
from expportrait.head.regions import REGIONS

__all__ = ["JOINTS", "REGIONS", "Head", "Surface"]
