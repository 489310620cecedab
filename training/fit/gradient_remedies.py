"""What usually helps where layers die or explode, for the settings of one training."""

from training.fit.config import FitConfig, OptimiserConfig
from training.fit.judge_steps import Fault

# More convolutions in one block than this need a way around them.
SHALLOW_BLOCK = 3
LISTED = 4


def remedies(fault: Fault, config: FitConfig) -> list[str]:
    """Return settings to try, the likeliest first; none that the training has already."""
    found = _where_dead(config) if fault == "dead" else _where_exploding(config)
    return found[:LISTED]


def _where_dead(config: FitConfig) -> list[str]:
    net, found = config.net, []
    if net.architecture == "unet":  # other nets take none of these settings
        if net.init == "default":
            found.append("--net.init he instead of default")
        if net.norm == "none":
            found.append("--net.norm batch instead of none")
        if net.block == "plain" and net.convs_per_block >= SHALLOW_BLOCK:
            found.append(f"--net.block residual: short skips around {net.convs_per_block} convs")
        if net.activation in ("sigmoid", "tanh"):
            found.append(f"--net.activation relu instead of {net.activation}")
    found += _of_16_bits(config)
    if config.optimiser.kind == "sgd":
        found.append("--optimiser.kind adamw, whose steps do not depend on the gradient's size")
    if not found:  # a first step that is too long puts rectifiers to sleep
        found.append(_lower_rate(config))
    if net.architecture == "unet" and net.activation == "relu":
        found.append("--net.activation leaky, which lets no unit die")
    return found


def _where_exploding(config: FitConfig) -> list[str]:
    net, found = config.net, [_lower_rate(config)]
    if not config.trainer.get("gradient_clip_val"):
        found.append("--trainer.gradient_clip_val 1")
    found += _of_16_bits(config)
    if net.architecture == "unet" and net.norm == "none":
        found.append("--net.norm batch instead of none")
    if net.architecture == "unet" and net.block == "plain" and net.convs_per_block >= SHALLOW_BLOCK:
        found.append(f"--net.block residual: short skips around {net.convs_per_block} convs")
    if config.optimiser.schedule != "onecycle":
        found.append("--optimiser.schedule onecycle, which begins low")
    return found


def _of_16_bits(config: FitConfig) -> list[str]:
    precision = str(config.trainer.get("precision"))
    if not precision.startswith("16"):
        return []
    return [f"--trainer.precision bf16-mixed or 32-true instead of {precision}"]


def _lower_rate(config: FitConfig) -> str:
    rate = min(config.optimiser.lr / 10, OptimiserConfig().lr)
    return f"--optimiser.lr {rate:g} instead of {config.optimiser.lr:g}"
