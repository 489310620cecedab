"""What a request to segment may choose: the options in its query, read once and checked."""

from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema
from starlette.datastructures import QueryParams

from contract.errors import RequestInvalid
from imaging.decode import Orientation
from service.engine.encode import AnswerFormat
from service.protocols.skip_gain import NUMBER

# Most clients ask all their images with the same few options, and reading them takes 0.05 ms.
KEPT_QUERY_BYTES = 200

ModelName = Annotated[str, Path(description="a name from `GET /v1/models`", examples=["nuclei"])]


class SegmentOptions(BaseModel):
    """What a request may choose, all in the query; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: AnswerFormat | SkipJsonSchema[None] = Field(
        default=None,
        description=(
            "`png`: 8-bit indexed, pixel value = class index (default). `overlay`: the image with "
            "the classes' colours over it. `json`: area, boxes and COCO RLE per class. `geojson`: "
            "polygons in pixels. `npz`: labels and probabilities. `bits`: a bit per pixel and "
            "class, an npz of `planes`, `width` and `classes`. `rle`: run lengths row by row, an "
            "npz of `values`, `lengths`, `shape` and `classes`. Without it the Accept header "
            "decides."
        ),
    )
    orientation: Orientation = Field(
        default="applied",
        description=(
            "`applied`: the mask has the size that a viewer shows, EXIF orientation applied. "
            "`stored`: the EXIF orientation is ignored."
        ),
    )
    opacity: float = Field(
        default=0.4, ge=0.0, le=1.0, description="of the colours, for `format=overlay` only"
    )
    skip_gain: str | SkipJsonSchema[None] = Field(
        default=None,
        max_length=200,
        examples=["1,1,0,1"],
        json_schema_extra={"pattern": f"^{NUMBER.pattern}(,{NUMBER.pattern})*$"},
        description=(
            "For models with `skip_levels` (see `GET /v1/models/{model}`): a factor from 0 to 2 on "
            "each long skip, finest level first. 0 takes a skip away, 1 leaves it as it was "
            "trained. The answer tells it in `X-Longskip-Skip-Gain`, and `format=json` as "
            "`skip_gain`."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, given: dict[str, object]) -> dict[str, object]:
        unknown = sorted(given.keys() - cls.model_fields.keys())
        if unknown:
            raise ValueError(
                f"there is no option {', '.join(unknown)}; there are: {', '.join(cls.model_fields)}"
            )
        return given


Options = Annotated[SegmentOptions, Query()]


class SegmentRoute(APIRoute):
    """A route that is described by its function's parameters, as any, and reads them by itself.

    FastAPI's own reading of path and query takes a tenth of a small request's time.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""

        async def answer(request: Request) -> Response:
            return await self.respond(request, request.path_params)

        return answer

    async def respond(self, request: Request, path_params: Mapping[str, Any]) -> Response:
        """Answer a request whose path is read.

        Raises:
            RequestInvalid, RequestValidationError: see ``read_options``.
            Exception: whatever the route's function raises.
        """
        options = read_options(request.scope["query_string"])
        response: Response = await self.endpoint(request, **path_params, options=options)
        return response


def read_options(query: bytes) -> SegmentOptions:
    """Return the options of a query.

    Args:
        query: as it came, without the question mark.

    Raises:
        RequestInvalid: an option is named twice.
        RequestValidationError: an option that there is not, or a value that it does not take.
    """
    return _read_kept(query) if len(query) <= KEPT_QUERY_BYTES else _read(query)


def _read(query: bytes) -> SegmentOptions:
    given = QueryParams(query)
    check_named_once(given, SegmentOptions)
    try:
        return SegmentOptions.model_validate(dict(given))
    except ValidationError as error:
        faults = error.errors(include_url=False)
        places = [{**fault, "loc": ("query", *fault["loc"])} for fault in faults]
        raise RequestValidationError(places) from error


_read_kept = lru_cache(maxsize=256)(_read)


def check_named_once(query: QueryParams, options: type[BaseModel]) -> None:
    """Refuse a query that names an option twice; FastAPI would take the last without a word.

    Raises:
        RequestInvalid: it does.
    """
    given = query.multi_items()
    if len(given) == len(query):
        return
    names = [name for name, _ in given]
    repeated = [name for name in options.model_fields if names.count(name) > 1]
    if repeated:
        raise RequestInvalid(
            f"the query names {', '.join(repeated)} more than once; give each option once"
        )
