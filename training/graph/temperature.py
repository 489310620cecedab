"""Temperature scaling (optional): logits / T, so that probabilities mean what they say (Guo 2017).

It stands after ``Pool``: scaling the mean of the members keeps every label and needs one number,
and members that are calibrated one by one make a mean that is not (Rahaman and Thiery 2021).
"""

from jaxtyping import Float
from torch import Tensor, nn


class Temperature(nn.Module):
    """Divide logits by a positive number; above 1 probabilities move towards even."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def forward(self, logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Return the scaled logits; their order is kept."""
        return logits / self.temperature
