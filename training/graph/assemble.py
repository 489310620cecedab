"""The stages in order: from raw pixels to labels, in one module that is trained and exported."""

from collections.abc import Sequence

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from contract.spec import Mirror, Normalising
from training.graph.activate import Activate, Task
from training.graph.mirror import MirrorViews
from training.graph.normalise import Normalise
from training.graph.pad import Pad
from training.graph.pool import Pool
from training.graph.resample import Resample
from training.graph.temperature import Temperature
from training.nets.net import SegmentationNet


class ModelGraph(nn.Module):
    """normalise -> (resample) -> pad -> net -> crop -> (resample back) -> activate.

    ``logits`` is what the loss sees in training, ``forward`` what the file answers; both run the
    same modules, so nothing is done twice or differently.

    What only an export adds stands around the net and before ``activate``: every mirror view goes
    through every net, the answers are pooled, and the temperature scales what comes out:
    normalise -> (resample) -> views -> [pad -> net -> crop -> (resample back)] for each net and
    view -> pool -> temperature -> activate with thresholds.
    """

    def __init__(
        self,
        net: SegmentationNet,
        *,
        normalising: Normalising,
        task: Task,
        working_size: tuple[int, int] | None = None,
        more_nets: Sequence[SegmentationNet] = (),
        mirrors: Sequence[Mirror] = (),
        temperature: float = 1.0,
        thresholds_prob: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(normalising)
        self.resample = None if working_size is None else Resample(working_size)
        self.pad = Pad(net.divisor, least=net.least_side)
        self.net = net
        self.more_nets = nn.ModuleList(more_nets)
        self.mirror = MirrorViews(mirrors) if mirrors else None
        self.pool = Pool(task) if mirrors or more_nets else None
        self.temperature = Temperature(temperature) if temperature != 1.0 else None
        self.activate = Activate(task, thresholds_prob=thresholds_prob)

    def logits(
        self, image: Float[Tensor, "b c h w"], statistics: Float[Tensor, "s c 2"] | None = None
    ) -> Float[Tensor, "b k h w"]:
        """Return the logits at the image's own size, before any temperature."""
        size = (image.shape[2], image.shape[3])
        seen = self.normalise(image, statistics)  # [b, c, h, w]
        if self.resample is not None:
            seen = self.resample(seen)  # [b, c, wh, ww]
        if self.pool is None:
            return self._answer(self.net, seen, size)
        views = [seen] if self.mirror is None else self.mirror(seen)
        answers = []
        for net in (self.net, *self.more_nets):
            for index, view in enumerate(views):
                answer = self._answer(net, view, size)
                answers.append(answer if self.mirror is None else self.mirror.back(answer, index))
        pooled: Tensor = self.pool(answers)
        return pooled

    def forward(
        self, image: Float[Tensor, "b c h w"], statistics: Float[Tensor, "s c 2"] | None = None
    ) -> tuple[UInt8[Tensor, "b *k h w"], Float[Tensor, "b k h w"]]:
        """Return ``labels`` and ``probabilities`` as the contract says."""
        logits = self.logits(image, statistics)
        if self.temperature is not None:
            logits = self.temperature(logits)
        labels, probabilities = self.activate(logits)
        return labels, probabilities

    def _answer(
        self, net: nn.Module, seen: Float[Tensor, "b c wh ww"], size: tuple[int, int]
    ) -> Float[Tensor, "b k h w"]:
        worked = (seen.shape[2], seen.shape[3])
        logits = self.pad.crop(net(self.pad(seen)), worked)  # [b, k, wh, ww]
        return logits if self.resample is None else self.resample.back(logits, size)
