"""Settings of the service, from ``LONGSKIP_*`` environment variables."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# contract.session has these too; its import would load onnxruntime for a mere --help.
DeviceChoice = Literal["auto", "cpu", "cuda", "tensorrt"]
PrecisionChoice = Literal["auto", "fp32", "fp16", "int8"]
ENVIRONMENT_PREFIX = "LONGSKIP_"


class Settings(BaseSettings):
    """All that can be set. ``python -m service --help`` lists it with its defaults."""

    # populate_by_name etc. are left alone: a field's name is its variable, without the prefix.
    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid")

    models: Path = Field(
        default=Path("models"),
        description="folder of models, <name>/<version>/model.onnx",
        examples=["/srv/models"],
    )
    keys: Path | None = Field(
        default=None,
        description="file of API keys, see `python -m service key --help`; none: no key is asked",
        examples=["/run/secrets/keys.yaml"],
    )
    dev: bool = Field(
        default=False,
        description="load and unload models without a key, from this machine only",
        examples=["true"],
    )
    reload: bool = Field(
        default=True,
        description="follow the models' folder: new, changed and removed files, without a restart",
        examples=["false"],
    )
    host: str = Field(
        default="127.0.0.1",
        description="address to listen on; 0.0.0.0 opens the service to the network",
        examples=["0.0.0.0"],
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="port; 0 takes a free one", examples=[9000]
    )
    device: DeviceChoice = Field(
        default="auto",
        description="auto takes CUDA where it works; the others are demands",
        examples=["cuda"],
    )
    precision: PrecisionChoice = Field(
        default="auto",
        description="which variant of a model to serve; auto: what its spec prefers here",
        examples=["int8"],
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads, of one run or of runs side by side; unset: all cores",
        examples=[4],
    )
    warm_shapes: Annotated[tuple[tuple[int, int], ...], NoDecode] = Field(
        default=(),
        description="height x width of images that are run once when a model is loaded",
        examples=["256x256,512x512"],
    )
    cuda_graphs: bool = Field(
        default=False,
        description="on cuda: record a run of each warm shape, and play it again",
        examples=["true"],
    )
    engine_cache: Path | None = Field(
        default=None,
        description="folder where TensorRT keeps engines; none: it builds them at each start",
        examples=["/var/cache/longskip"],
    )
    root_path: str = Field(
        default="",
        description="path prefix that a proxy in front takes off",
        examples=["/longskip"],
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="web pages of other origins that may call, separated by commas",
        examples=["https://viewer.example.org"],
    )
    max_loaded: int | None = Field(
        default=None,
        ge=1,
        description="most versions in memory; each is loaded when asked for. Unset: all, at start",
        examples=[2],
    )
    cache_mb: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="memory for answers to images that come again, in megabytes; 0 keeps none",
        examples=[100],
    )
    max_body_mb: float = Field(
        default=64.0,
        gt=0,
        allow_inf_nan=False,
        description="largest request body, in megabytes",
        examples=[256],
    )
    max_files: int = Field(
        default=64,
        ge=1,
        description="most images in one request of segment-many",
        examples=[200],
    )
    max_pixels: int = Field(
        default=4096 * 4096,
        ge=1,
        description="largest image, height x width; checked before decoding",
        examples=[100_000_000],
    )
    max_decoded_megapixels: float = Field(
        default=34.0,
        gt=0,
        allow_inf_nan=False,
        description="decoded images held at one time, all requests together",
        examples=[400],
    )
    max_batch: int = Field(
        default=8,
        ge=1,
        description="most images of equal size in one run; on the CPU small ones only",
        examples=[16],
    )
    queue_size: int = Field(
        default=128,
        ge=1,
        description="requests of one model under way; more are answered 429",
        examples=[32],
    )
    decode_workers: int = Field(
        default=2, ge=1, description="threads that decode and encode", examples=[4]
    )
    deadline_s: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="longest time for one request, in seconds",
        examples=[10],
    )
    drain_s: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds after SIGTERM in which it still answers, but says it is not ready",
        examples=[5],
    )
    traces: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        description="OTLP/HTTP collector that gets a trace of each request; none: no traces",
        examples=["http://collector:4318"],
    )
    samples: Path = Field(
        default=Path("docs/samples"),
        description="folder of sample images that the page offers",
        examples=["/srv/samples"],
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("warm_shapes", mode="before")
    @classmethod
    def _read_shapes(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        shapes = []
        for part in filter(None, (part.strip() for part in value.split(","))):
            found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", part)
            if found is None:
                raise ValueError(f"{part!r} is no size; give HEIGHTxWIDTH, such as 256x256,512x512")
            shapes.append((int(found[1]), int(found[2])))
        return tuple(shapes)

    @field_validator("root_path")
    @classmethod
    def _leading_slash_only(cls, value: str) -> str:
        stripped = value.strip("/")
        return f"/{stripped}" if stripped else ""

    @model_validator(mode="after")
    def _largest_image_fits(self) -> Self:
        if self.max_decoded_megapixels * 1e6 < self.max_pixels:
            raise ValueError(
                f"max_decoded_megapixels {self.max_decoded_megapixels:g} holds less than one image "
                f"of max_pixels {self.max_pixels}; raise the first or lower the second"
            )
        return self

    @model_validator(mode="after")
    def _graphs_have_shapes(self) -> Self:
        if self.cuda_graphs and (self.device != "cuda" or not self.warm_shapes):
            raise ValueError(
                f"cuda_graphs records runs of warm_shapes on the device cuda; device is "
                f"{self.device} and there are {len(self.warm_shapes)} warm shapes. Set both, or "
                "turn it off"
            )
        return self

    @model_validator(mode="after")
    def _dev_stays_here(self) -> Self:
        if self.dev and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(
                f"dev lets everybody who reaches {self.host} load and unload models; listen on "
                "127.0.0.1, or give keys instead"
            )
        return self

    @property
    def max_body_bytes(self) -> int:
        """The limit on a body, in bytes."""
        return int(self.max_body_mb * 1e6)
