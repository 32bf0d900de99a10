"""A model behind HTTP: photos are posted, what the model says comes back as JSON.

    answering = Answering("exported", batch_size=32)
    uvicorn.run(app(answering, Limited()), host="127.0.0.1", port=8000)

Photos of requests that come at once go through the net together. They stay in memory as long as their answer takes:
no photo is written to a disk, and nothing of a request is logged.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import hf_fashion
from hf_fashion.answering import Answering, Asked, NoNumbers
from hf_fashion.errors import InputError, extra
from hf_fashion.passes import LIMITS, MAX_ASPECT, MAX_BYTES

with extra("a server", "fastapi", "space"):
    from fastapi import FastAPI, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response
    from starlette.datastructures import Headers, UploadFile
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException, MultiPartParser
    from starlette.requests import ClientDisconnect

READING = 60  # seconds that a request may take to arrive
BYTES = ("image/", "application/octet-stream")  # content types of one photo by itself
_ONE_PHOTO = "curl --data-binary @photo.jpg -H 'content-type: image/jpeg' ADDRESS/predict"  # or -F, a form
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "description": "One photo as it is (answered by itself), or one or more files of a form (answered by a list).",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object", "required": ["photos"],
                "properties": {"photos": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "image/*": _PICTURE,
        "application/octet-stream": _PICTURE,
    },
}  # fmt: skip


_ERROR = {
    "description": "It cannot be answered: why, and what to do",
    "content": {
        "application/json": {
            "schema": {
                "type": "object", "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object", "required": ["what", "expected", "found", "to_do"],
                        "properties": {name: {"type": "string"} for name in ("what", "expected", "found", "to_do")},
                    }
                },
            }
        }
    },
}  # fmt: skip


@dataclass(frozen=True)
class Limited:
    """How much is taken at a time.

    Args:
        photos: In one request.
        bytes: Of one request.
        waiting: Requests that are answered or wait for it; a further one is told to come later.
    """

    photos: int = 32
    bytes: int = 32 * 2**20
    waiting: int = 64


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        error: Why, and what to do.
    """

    def __init__(self, status: int, error: InputError) -> None:
        super().__init__(str(error))
        self.status, self.error = status, error


class _InMemory(MultiPartParser):
    """Starlette's parser, which would write files of more than a megabyte to the disk, and which leaves out the last
    file of a form that breaks off.

    Attributes:
        whole: Whether the form's end came.
    """

    spool_max_size = 2**40
    whole = False

    def on_end(self) -> None:
        self.whole = True


def app(answering: Answering, limited: Limited = Limited()) -> FastAPI:
    """The server of a model.

    Args:
        answering: The model.
        limited: How much is taken at a time.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it quotes what is wrong in a form
    pool = ThreadPoolExecutor(limited.waiting, thread_name_prefix="answer")
    taken = asyncio.Semaphore(limited.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        pool.shutdown(wait=False, cancel_futures=True)

    made = FastAPI(
        title=f"What {answering.told['name']} says of photos", version=hf_fashion.__version__, lifespan=lifespan,
        description=_described(answering),
    )  # fmt: skip

    @made.exception_handler(Refused)
    async def refuse(_: Request, refused: Refused) -> Response:
        return _told(refused.status, refused.error, {"Retry-After": "1"} if refused.status == 503 else None)

    @made.exception_handler(HTTPException)
    async def no_such_way(request: Request, error: HTTPException) -> Response:
        ways = dict(error.headers or {})
        found = f"{request.method} {request.url.path}"[:100]
        expected = "POST /predict, or GET of /, /health, /docs and /openapi.json"
        return _told(
            error.status_code,
            InputError("the request", expected=expected, found=f"{found}: {error.detail}", fix=_ONE_PHOTO), ways,
        )  # fmt: skip

    @made.exception_handler(RequestValidationError)
    async def wrong_value(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, value = str(first["loc"][-1]), str(first.get("input"))[:100]
        wanted = str(first["msg"]).removeprefix("Input should be ")
        return _told(
            422, InputError(f"{name} in the address", expected=wanted, found=value, fix="/docs says what they are")
        )

    @made.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        return _told(500, InputError(
            "the server", expected="an answer", found=type(error).__name__,
            fix="send it again; what was wrong stands in the server's log",
        ))  # fmt: skip

    @made.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # which nobody reads; else the log would tell of each

    @made.get("/", summary="What the model is, and how much a request may hold")
    async def about() -> dict[str, Any]:
        return _about(answering, limited)

    @made.get("/health", summary="Whether the server answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @made.post(
        "/predict", summary="What the model says of photos", openapi_extra={"requestBody": _BODY},
        responses={"default": _ERROR},
    )  # fmt: skip
    async def predict(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=10_000, description="Labels of a classifier, surest first.")] = 5,
        score: Annotated[
            float | None, Query(ge=0, le=1, description="Lowest score of a detector's boxes; else its own.")
        ] = None,
    ) -> Response:
        odd = set(request.query_params) - {"top_k", "score"}
        if odd:
            raise Refused(422, InputError(
                "the address", expected="top_k and score alone", found=", ".join(sorted(odd))[:100],
                fix="/docs says what they are",
            ))  # fmt: skip
        if taken.locked():
            raise Refused(503, InputError(
                "this server", expected=f"at most {limited.waiting} requests at a time", found="more",
                fix="send it again a second later",
            ))  # fmt: skip
        async with taken:
            try:
                async with asyncio.timeout(READING):
                    photos, names, alone = await _photos(request, limited)
            except TimeoutError as error:
                raise Refused(408, InputError(
                    "the request", expected=f"all of it within {READING} seconds", found="a part",
                    fix="send fewer photos at a time",
                )) from error  # fmt: skip
            asked = Asked(top_k=top_k, score=score)
            try:
                answers = await asyncio.get_running_loop().run_in_executor(pool, answering, photos, names, asked)
            except NoNumbers as error:
                raise Refused(500, error) from error
            except InputError as error:
                raise Refused(422, error) from error
        made_of = json.dumps(answers[0] if alone else answers, allow_nan=False)
        return Response(made_of, media_type="application/json")

    return made


def _told(status: int, error: InputError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The one form of all answers that are none."""
    told = {"what": error.what, "expected": error.expected, "found": error.found, "to_do": error.fix}
    return JSONResponse({"error": told}, status, headers=headers)


async def _photos(request: Request, limited: Limited) -> tuple[list[bytes], list[str], bool]:
    """The photos of a request, their names, and whether one came by itself.

    Raises:
        Refused: There are none, too many or too large ones, or it is something else.
    """
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith(BYTES) or not kind:
        photo = b"".join([part async for part in _limited(request, min(limited.bytes, MAX_BYTES))])
        if not photo:
            raise _none("an empty request")
        return [photo], ["the photo"], True
    if not kind.startswith("multipart/form-data"):
        raise Refused(415, InputError(
            "the request", expected="files of a form (multipart/form-data), or one photo (image/jpeg, ...)",
            found=kind[:100], fix=_ONE_PHOTO,
        ))  # fmt: skip
    try:
        parser = _InMemory(
            Headers(raw=request.headers.raw), _limited(request, limited.bytes), max_files=limited.photos, max_fields=10
        )
        form = await parser.parse()
    except MultiPartException as error:
        many = "files" in error.message
        raise Refused(413 if many else 400, InputError(
            "the request", expected=f"a form of at most {limited.photos} files", found=error.message,
            fix="several requests" if many else "curl -F photos=@photo.jpg ADDRESS/predict",
        )) from error  # fmt: skip
    if not parser.whole:
        raise Refused(400, InputError(
            "the request", expected="a form with its end", found="one that breaks off", fix="send it again"
        ))  # fmt: skip
    items = form.multi_items()
    fields = [name for name, item in items if not isinstance(item, UploadFile)]
    if fields:
        raise Refused(400, InputError(
            "the request", expected="a form with nothing but files", found=f"a field, {fields[0][:100]}",
            fix="curl -F photos=@photo.jpg ADDRESS/predict?top_k=3",
        ))  # fmt: skip
    files = [item for _, item in items if isinstance(item, UploadFile)]
    names = [file.filename or f"photo {number}" for number, file in enumerate(files, 1)]
    for file, name in zip(files, names, strict=True):
        if (file.size or 0) > MAX_BYTES:
            raise _too_large(name, MAX_BYTES)
    photos = [await file.read() for file in files]
    await form.close()
    if not photos:
        raise _none("a form without files")
    return photos, names, False


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The body of a request, as long as it is no longer than it may be."""
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise _too_large("the request", most)
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large("the request", most)
        yield part


def _too_large(what: str, most: int) -> Refused:
    return Refused(413, InputError(
        what, expected=f"at most {most / 2**20:g} MB", found="more", fix="smaller photos, or fewer at a time"
    ))  # fmt: skip


def _none(found: str) -> Refused:
    return Refused(400, InputError(
        "the request", expected="one or more photos", found=found, fix="curl -F photos=@photo.jpg ADDRESS/predict"
    ))  # fmt: skip


_SAYS: dict[str, Callable[[dict[str, Any]], str]] = {
    "classification": lambda about: f"Of each photo the labels that fit best, of {len(about['labels'])}.",
    "attributes": lambda about: f"Of each photo its {', '.join(about['groups'])}.",
    "detection": lambda about: f"Of each photo boxes in pixels, of {len(set(about['labels']))} classes.",
    "retrieval": lambda about: f"Of each photo a vector of {about['dimension']} numbers and length 1.",
}


def _described(answering: Answering) -> str:
    told = answering.told
    return f"{_SAYS[answering.kind](answering.about)} Licence of the model: {told['license']}."


def _about(answering: Answering, limited: Limited) -> dict[str, Any]:
    about, told = answering.about, answering.told
    more = {
        name: about[name]
        for name in ("labels", "groups", "thresholds", "score_threshold", "dimension", "format", "precision")
        if about.get(name)
    }
    limits = {
        "photos": limited.photos, "request_bytes": limited.bytes, "photo_bytes": min(MAX_BYTES, limited.bytes),
        "photo_pixels": LIMITS.max_pixels, "photo_aspect": MAX_ASPECT, "requests_at_a_time": limited.waiting,
    }  # fmt: skip
    return {
        "model": told["name"], "license": told["license"], "kind": answering.kind, "engine": told["engine"], **more,
        "limits": limits, "docs": "/docs", "made_by": f"hf_fashion {hf_fashion.__version__}",
    }  # fmt: skip
