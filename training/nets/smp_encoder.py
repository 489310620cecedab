"""smp's encoders: built with clear errors, and what is known of each kind."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from contract.errors import LongskipError
from training.nets.config import NetConfig

# Beginnings of names of encoders made of convolutions alone. Others have squeeze-and-excitation,
# attention or norms whose averages run over the whole image; what is not named here counts so.
LOCAL_FAMILIES = (
    "resnet",
    "resnext",
    "vgg",
    "densenet",
    "dpn",
    "xception",
    "mobilenet_v2",
    "tu-convnext_",
    "tu-regnetx_",
)
# By their whole names, because timm's resnetrs50, resnetv2_50 and resnet50_gn are none of these.
LOCAL_ENCODERS = ("tu-resnet18", "tu-resnet34", "tu-resnet50", "tu-resnet101", "tu-resnet152")

DEEPEST = 5
PROBE_SIZE_HW = (64, 64)


def is_local(encoder: str) -> bool:
    """Return whether one pixel's features see a bounded part of the image only."""
    name_without_tag = encoder.split(".")[0]
    return name_without_tag in LOCAL_ENCODERS or encoder.startswith(LOCAL_FAMILIES)


def weights_argument(config: NetConfig) -> str | bool | None:
    """Return ``encoder_weights`` as smp wants it: timm's encoders take only True or None."""
    if config.encoder.startswith("tu-"):
        return True if config.encoder_weights else None
    return config.encoder_weights


@contextmanager
def clear_errors(config: NetConfig) -> Iterator[None]:
    """Say what smp's errors inside the block mean for ``config``.

    Raises:
        ValueError: smp knows no such encoder or weights, or they do not fit the decoder.
        LongskipError: the weights could not be downloaded.
    """
    name = config.encoder
    if not name.startswith("tu-") and name not in smp.encoders.encoders:
        close = difflib.get_close_matches(name, smp.encoders.get_encoder_names(), n=5)
        hint = f"; close to it: {', '.join(close)}" if close else ""
        raise ValueError(f"smp has no encoder {name!r}{hint}. timm's are named tu-<timm name>")
    try:
        yield
    except (OSError, httpx.HTTPError) as error:
        raise LongskipError(
            f"the {config.encoder_weights!r} weights of encoder {name!r} could not be downloaded: "
            f"{error}. Go online once (they are kept in the Hugging Face cache), or set "
            "encoder_weights to null to start from scratch"
        ) from error
    except (KeyError, ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(
            f"architecture {config.architecture!r} with encoder {name!r} and encoder_weights "
            f"{config.encoder_weights!r} cannot be built: {error}"
        ) from error


def build_encoder(config: NetConfig, *, channels: int, depth: int) -> nn.Module:
    """Return smp's encoder; it gives features at strides 1, 2, … 2^depth.

    Args:
        config: names the encoder and its weights.
        channels: C of the image. Weights for RGB are repeated or summed by smp for other counts.
        depth: how many times the encoder halves the image.

    Raises:
        ValueError: smp knows no such encoder or weights, or has no such depth.
        LongskipError: the weights could not be downloaded.
    """
    if depth > DEEPEST:
        raise ValueError(
            f"smp's encoders halve the image at most {DEEPEST} times; widths has {depth} numbers"
        )
    with clear_errors(config):
        encoder: nn.Module = smp.encoders.get_encoder(
            config.encoder, in_channels=channels, depth=depth, weights=weights_argument(config)
        )
        drop_idle_layers(encoder, channels=channels)
    return encoder


def drop_idle_layers(encoder: nn.Module, *, channels: int) -> None:
    """Replace layers that no feature depends on by Identity, in place.

    At a depth below 5 most of smp's encoders keep their deepest stages, and some run them: 8 of a
    ResNet-18's 11 million parameters at depth 4. They would be counted and shipped, and would stop
    distributed training, which waits for every parameter's gradient.

    Raises:
        ValueError: the encoder does not run without them, as some that branch do not.
    """
    parameters = dict(encoder.named_parameters())
    encoder.eval()  # so that the probe leaves the running statistics alone
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes only, nothing is computed
        features = encoder(torch.empty(1, channels, *PROBE_SIZE_HW))
        total = torch.stack([feature.sum() for feature in features[1:]]).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    reached = {
        name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None
    }
    for name, module in list(encoder.named_modules()):
        own = {f"{name}.{leaf}" for leaf, _ in module.named_parameters(recurse=False)}
        if name and own and not own & reached:
            parent, _, leaf = name.rpartition(".")
            setattr(encoder.get_submodule(parent), leaf, nn.Identity())
    with torch.no_grad():  # for real, because a fake pass logs its failures at length
        try:
            encoder.eval()(torch.empty(1, channels, *PROBE_SIZE_HW))
        except RuntimeError as error:
            raise ValueError(
                f"this encoder cannot be cut down to depth {len(features) - 1}; give {DEEPEST} "
                "widths, which uses all of it"
            ) from error
    encoder.train()
