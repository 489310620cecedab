"""NetConfig: which net, and where its long skips stand on the dial."""

from dataclasses import dataclass, fields
from typing import Literal, cast, get_args

from contract.spec import LongSkip

Block = Literal["plain", "residual", "dense"]
Norm = Literal["batch", "instance", "group", "none"]
Activation = Literal["relu", "leaky", "gelu", "sigmoid", "tanh"]
Init = Literal["he", "xavier", "default"]

# What only smp's encoders, and what only our own U-Net, makes use of.
ENCODER_FIELDS = ("encoder", "encoder_weights")
BODY_FIELDS = ("convs_per_block", "block", "norm", "activation", "init", "dropout")

LONG_SKIPS: tuple[str, ...] = get_args(LongSkip)


@dataclass(frozen=True)
class NetConfig:
    """A net's architecture. Levels stand finest first everywhere.

    Attributes:
        architecture: ``unet`` (our own), ``smp-unet`` (an smp encoder under our skip dial), or one
            of segmentation-models-pytorch's architectures as it is, e.g. ``fpn``.
        encoder: smp's name of the encoder; for ``smp-unet`` and smp's own architectures.
        encoder_weights: ``imagenet`` (downloaded by smp) or another name that smp knows for this
            encoder; None starts from scratch.
        long_skips: one word for all levels or one per level: ``concat``, ``add``, ``attention``,
            ``none``. Text with commas is taken apart, so ``none,concat,concat`` drops the finest.
        widths: channels per level; the last is the bottleneck, so a net has one level of long
            skips less than widths. For ``smp-unet`` the widths of the decoder's blocks, of which
            the finest, at full size, has no skip.
        convs_per_block: 3×3 convolutions in each block, at every level on both sides.
        block: ``plain``, ``residual`` (He 2015) or ``dense`` (Huang 2017): the short skips.
        norm: what stands between convolution and activation. ``instance`` and ``group`` take
            their statistics over the whole image, so such a net cannot be tiled.
        activation: the non-linearity after each norm.
        init: ``he`` (normal, fan in), ``xavier`` (uniform) or PyTorch's ``default``.
        dropout: probability with which a whole channel is dropped at the end of a block.
        match: ``width`` keeps ``widths`` whatever the skips, so a twin without skips has fewer
            decoder parameters. ``parameters`` scales all widths by one factor, so that the
            parameter count comes nearest to that of the same net with ``concat`` everywhere
            (``smp-unet``: the decoder's widths, since the encoder's are given).

    ``smp-unet`` and smp's own architectures use none of ``convs_per_block`` to ``dropout``; smp's
    own have no dial and no widths either. A field that would have no effect must stay at its
    default.
    """

    architecture: str = "unet"
    encoder: str = "resnet18"
    encoder_weights: str | None = None
    long_skips: str | tuple[str, ...] = "concat"
    widths: tuple[int, ...] = (24, 48, 96, 192)
    convs_per_block: int = 2
    block: Block = "plain"
    norm: Norm = "batch"
    activation: Activation = "relu"
    init: Init = "he"
    dropout: float = 0.0
    match: Literal["width", "parameters"] = "width"

    def __post_init__(self) -> None:
        """Check every field that stands alone or against another.

        Raises:
            ValueError: a field does not fit; the text says what came and what is expected.
        """
        object.__setattr__(self, "widths", tuple(self.widths))
        if not isinstance(self.long_skips, str):
            object.__setattr__(self, "long_skips", tuple(self.long_skips))
        if len(self.widths) < 2 or any(width < 1 for width in self.widths):
            raise ValueError(
                f"widths must be two or more positive channel counts, finest first, the last one "
                f"the bottleneck's; got {self.widths}"
            )
        if self.convs_per_block < 1:
            raise ValueError(f"convs_per_block must be at least 1, got {self.convs_per_block}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be a probability in [0, 1), got {self.dropout}")
        for name, allowed in (
            ("block", get_args(Block)),
            ("norm", get_args(Norm)),
            ("activation", get_args(Activation)),
            ("init", get_args(Init)),
            ("match", ("width", "parameters")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}"
                )
        _ = self.skips_by_level
        self._refuse_fields_without_effect()

    def _refuse_fields_without_effect(self) -> None:
        # A setting that changes nothing would let a study compare a net with itself.
        without_effect: tuple[str, ...]
        if self.architecture == "unet":
            without_effect = ENCODER_FIELDS
        elif self.architecture == "smp-unet":
            without_effect = BODY_FIELDS
        else:
            without_effect = (*BODY_FIELDS, "long_skips", "widths", "match")
        defaults = {field.name: field.default for field in fields(self)}
        changed = [name for name in without_effect if getattr(self, name) != defaults[name]]
        if changed:
            settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in changed)
            raise ValueError(
                f"{settings} has no effect on architecture {self.architecture!r}; leave it at its "
                "default, or choose 'unet' (our body), 'smp-unet' (smp's encoder, our skip dial) "
                "or one of smp's own architectures (encoder only)"
            )

    @property
    def levels(self) -> int:
        """Number of levels that a long skip can cross."""
        return len(self.widths) - 1

    @property
    def skips_by_level(self) -> tuple[LongSkip, ...]:
        """``long_skips`` as one word per level, finest first."""
        words = self.long_skips
        if isinstance(words, str):
            words = tuple(word.strip() for word in words.split(","))
            if len(words) == 1:
                words = words * self.levels
        unknown = sorted(set(words) - set(LONG_SKIPS))
        if unknown:
            raise ValueError(
                f"long_skips knows {', '.join(LONG_SKIPS)}; got {', '.join(map(repr, unknown))}"
            )
        if len(words) != self.levels:
            raise ValueError(
                f"long_skips names {len(words)} levels, but {len(self.widths)} widths make "
                f"{self.levels}; give one word for all levels or {self.levels}, finest first"
            )
        return cast("tuple[LongSkip, ...]", words)
