"""A row of ``bands.csv``, which the probe ``boundary`` writes and its figure is drawn from."""

from dataclasses import dataclass

from training.probe.bands import Band, Side


@dataclass(frozen=True)
class BandRow:
    """Pixels and errors of one class of one image in one band; see ``bands.py``."""

    net: str
    stem: str
    class_name: str
    side: str
    distance_above: float
    distance_up_to: float
    unit: str
    pixels: int
    errors: int
    error_rate: float

    @property
    def band(self) -> Band:
        """The counts alone."""
        side: Side = "inside" if self.side == "inside" else "outside"
        return Band(side, self.distance_above, self.distance_up_to, self.pixels, self.errors)
