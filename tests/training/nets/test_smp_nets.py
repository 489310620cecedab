"""What is particular to nets with smp's encoders; the rest is in test_every_net."""

from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import encoders
from torch import Tensor

from contract.errors import LongskipError
from training.nets.build import build_net
from training.nets.config import NetConfig
from training.nets.cost import parameter_count
from training.nets.net import SegmentationNet
from training.nets.smp_encoder import is_local

Build = Callable[[NetConfig], SegmentationNet]
Image = Callable[..., Tensor]

WIDTHS = (4, 6, 8, 8, 10)


def smp_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names of a ``smp-unet`` with 5 widths -> those of ``smp.Unet``, coarsest block first."""
    renamed = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[:2] == ["decoder", "blocks"]:
            parts[2:4] = [str(4 - int(parts[2])), f"conv{int(parts[3]) + 1}"]
        if parts[0] == "head":
            parts[0] = "segmentation_head"
        renamed[".".join(parts)] = value
    return renamed


@pytest.mark.parametrize("encoder", ["resnet18", "vgg11_bn"])
def test_with_concat_everywhere_it_is_smps_unet_to_the_bit(
    encoder: str, build: Build, image: Image
) -> None:
    ours = build(NetConfig("smp-unet", encoder, widths=WIDTHS))
    theirs = smp.Unet(
        encoder, encoder_weights=None, decoder_channels=WIDTHS[::-1], in_channels=2, classes=3
    ).eval()
    theirs.load_state_dict(smp_names(ours.state_dict()))
    with torch.no_grad():
        assert torch.equal(ours(image(64, 96)), theirs(image(64, 96)))


def test_layers_that_nothing_depends_on_are_gone(build: Build) -> None:
    shallow = build(NetConfig("smp-unet", widths=WIDTHS[:4]))
    deepest_stage = smp.encoders.get_encoder("resnet18", weights=None).layer4
    full = build(NetConfig("smp-unet", widths=WIDTHS))
    assert parameter_count(full.get_submodule("encoder")) - parameter_count(
        shallow.get_submodule("encoder")
    ) == parameter_count(deepest_stage)


def test_a_matched_twin_keeps_the_encoder(build: Build) -> None:
    concat = build(NetConfig("smp-unet", widths=WIDTHS))
    twin = build(NetConfig("smp-unet", widths=WIDTHS, long_skips="none", match="parameters"))
    encoders_alike = [parameter_count(net.get_submodule("encoder")) for net in (concat, twin)]
    assert encoders_alike[0] == encoders_alike[1]
    assert twin.widths > concat.widths
    off = abs(parameter_count(twin) - parameter_count(concat))
    assert off < 0.05 * parameter_count(concat.get_submodule("decoder"))


def test_an_encoder_without_a_stage_has_no_skip_there(build: Build) -> None:
    assert build(NetConfig("smp-unet", "mit_b0", widths=WIDTHS)).long_skips == (
        "none",
        "concat",
        "concat",
        "concat",
    )
    with pytest.raises(ValueError, match="no features at stride 2; set level 0 of long_skips"):
        build(NetConfig("smp-unet", "mit_b0", widths=WIDTHS, long_skips="add,add,add,add"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NetConfig("smp-unet", "resnet81"), "no encoder 'resnet81'; close to it: resnet"),
        (NetConfig("fpn", "resnet81"), "no encoder 'resnet81'"),
        (NetConfig("smp-unet", "tu-nothing"), "'tu-nothing'.*cannot be built: Unknown model"),
        (NetConfig("smp-unet", encoder_weights="imagnet"), "Available options are.*imagenet"),
        (NetConfig("smp-unet", widths=(4,) * 6), "at most 5 times; widths has 6 numbers"),
        (NetConfig("smp-unet", "tu-swin_tiny_patch4_window7_224"), "doesn't match model"),
        (NetConfig("deeplabv3plus", "vgg11"), "'deeplabv3plus' with encoder 'vgg11'"),
    ],
)
def test_what_smp_cannot_build_is_refused_in_our_words(
    config: NetConfig, message: str, build: Build
) -> None:
    with pytest.raises(ValueError, match=message):
        build(config)


@pytest.mark.parametrize(
    ("encoder", "local"),
    [
        ("resnet34", True),
        ("tu-resnet18.a1_in1k", True),
        ("tu-convnext_tiny", True),
        ("tu-resnetrs50", False),  # squeeze-and-excitation
        ("tu-resnet50_gn", False),  # group norm
        ("tu-convnextv2_tiny", False),  # global response norm
        ("efficientnet-b0", False),
        ("se_resnet50", False),
        ("an-encoder-nobody-knows", False),
    ],
)
def test_only_encoders_known_to_be_local_are_called_so(encoder: str, local: bool) -> None:
    assert is_local(encoder) == local


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no way to fill it from the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "config",
    [
        NetConfig("smp-unet", encoder_weights="imagenet"),
        NetConfig("smp-unet", "tu-resnet18", encoder_weights="imagenet"),
        NetConfig("fpn", encoder_weights="imagenet"),
    ],
    ids=["smp", "timm", "as-is"],
)
def test_weights_that_cannot_be_had_say_what_to_do(
    config: NetConfig, build: Build, offline_hub: Path
) -> None:
    with pytest.raises(LongskipError, match=r"could not be downloaded.*encoder_weights to null"):
        build(config)


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_in_the_cache_are_loaded(channels: int, offline_hub: Path) -> None:
    settings = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    snapshot = (
        offline_hub
        / f"models--{settings['repo_id'].replace('/', '--')}"
        / "snapshots"
        / settings["revision"]
    )
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    torch.manual_seed(7)
    stored = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    save_file(stored, snapshot / "model.safetensors")

    config = NetConfig("smp-unet", encoder_weights="imagenet")
    net = build_net(config, channels=channels, classes=2)
    loaded = net.get_submodule("encoder").state_dict()
    assert torch.equal(loaded["layer1.0.conv1.weight"], stored["layer1.0.conv1.weight"])
    # One grey channel sees what the three colours saw together.
    first = stored["conv1.weight"]
    expected = first if channels == 3 else first.sum(dim=1, keepdim=True)
    torch.testing.assert_close(loaded["conv1.weight"], expected)
