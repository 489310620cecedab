"""The stages in order: from raw pixels to labels, in one module that is trained and exported."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from contract.spec import Mirror, Normalising
from training.graph.activate import Activate, Task
from training.graph.disagree import Disagree
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
    view -> pool -> temperature -> activate with thresholds. With several nets there is a third
    answer beside labels and probabilities: how far they disagree.

    ``skip_gain`` turns the long skips of every net down, or up, for every view; with ``gated`` the
    exported file takes it, too, a factor for each of ``gain_levels`` levels.
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
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.gain_levels = len(net.long_skips) if gated else 0
        self.normalise = Normalise(normalising)
        self.resample = None if working_size is None else Resample(working_size)
        self.pad = Pad(net.divisor, least=net.least_side)
        self.net = net
        self.more_nets = nn.ModuleList(more_nets)
        self.mirror = MirrorViews(mirrors) if mirrors else None
        self.pool = Pool(task) if mirrors or more_nets else None
        self.disagree = Disagree(task) if more_nets else None
        self.temperature = Temperature(temperature) if temperature != 1.0 else None
        self.activate = Activate(task, thresholds_prob=thresholds_prob)

    def logits(
        self,
        image: Float[Tensor, "b c h w"],
        statistics: Float[Tensor, "s c 2"] | None = None,
        skip_gain: Float[Tensor, "g l"] | None = None,
    ) -> Float[Tensor, "b k h w"]:
        """Return the logits at the image's own size, before any temperature."""
        return self._pooled(self._answers(*self._seen(image, statistics), skip_gain))

    def forward(
        self,
        image: Float[Tensor, "b c h w"],
        statistics: Float[Tensor, "s c 2"] | None = None,
        skip_gain: Float[Tensor, "g l"] | None = None,
    ) -> tuple[Tensor, ...]:
        """Return ``labels``, ``probabilities`` and, of several nets, ``disagreement``."""
        members = self._answers(*self._seen(image, statistics), skip_gain)
        logits = self._pooled(members)
        if self.temperature is not None:
            logits = self.temperature(logits)
        labels, probabilities = self.activate(logits)
        if self.disagree is None:
            return labels, probabilities
        return labels, probabilities, self.disagree(members)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what ``forward`` returns, as the contract has them."""
        return ("labels", "probabilities", *([] if self.disagree is None else ["disagreement"]))

    def _seen(
        self, image: Float[Tensor, "b c h w"], statistics: Float[Tensor, "s c 2"] | None
    ) -> tuple[Float[Tensor, "b c wh ww"], tuple[int, int]]:
        """Return what nets see of an image, and its own size."""
        seen = self.normalise(image, statistics)  # [b, c, h, w]
        if self.resample is not None:
            seen = self.resample(seen)  # [b, c, wh, ww]
        return seen, (image.shape[2], image.shape[3])

    def _answers(
        self,
        seen: Float[Tensor, "b c wh ww"],
        size: tuple[int, int],
        skip_gain: Float[Tensor, "g l"] | None,
    ) -> list[list[Float[Tensor, "b k h w"]]]:
        """Return each net's logits for each view, in the image's own frame."""
        views = [seen] if self.mirror is None else self.mirror(seen)
        members = []
        for net in (self.net, *self.more_nets):
            answers = [self._answer(net, view, size, skip_gain) for view in views]
            if self.mirror is not None:
                answers = [self.mirror.back(answer, i) for i, answer in enumerate(answers)]
            members.append(answers)
        return members

    def _pooled(self, members: list[list[Float[Tensor, "b k h w"]]]) -> Float[Tensor, "b k h w"]:
        if self.pool is None:
            return members[0][0]
        pooled: Tensor = self.pool([answer for views in members for answer in views])
        return pooled

    def _answer(
        self,
        net: nn.Module,
        seen: Float[Tensor, "b c wh ww"],
        size: tuple[int, int],
        skip_gain: Float[Tensor, "g l"] | None,
    ) -> Float[Tensor, "b k h w"]:
        worked = (seen.shape[2], seen.shape[3])
        # A net without levels takes an image and nothing else.
        dialled = () if skip_gain is None else (skip_gain,)
        logits = self.pad.crop(net(self.pad(seen), *dialled), worked)  # [b, k, wh, ww]
        return logits if self.resample is None else self.resample.back(logits, size)
