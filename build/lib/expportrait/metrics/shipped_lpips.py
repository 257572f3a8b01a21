"""LPIPS by the AlexNet and the linear layers that this package carries: nothing has to be set or installed for it."""

from expportrait import networks
from expportrait.metrics.perceptual import MEASURED, OwnLpips


class ShippedLpips(OwnLpips):
    """Distance of two pictures, 0 equal, larger is worse; ``least``: px, smallest side it can measure."""

    def __init__(self, device: str = "cpu"):
        """Raises UserError where the file is not the shipped one."""
        file = networks.network_file("lpips_alex")
        super().__init__(file, file, device)

    def backend(self) -> dict:
        """What stands beside the number."""
        return networks.about("lpips_alex") | {"input": "whole frames, RGB, u8 / 127.5 - 1"} | MEASURED
