# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[space]"]
# ///
"""Answer over HTTP what a finished model says of photos: one, several, or those of many clients in one pass.

    hf-fashion serve exported
    hf-fashion serve you/street --port 8080 --batch_size 16 --wait_ms 5
    curl --data-binary @photo.jpg -H "content-type: image/jpeg" http://127.0.0.1:8000/predict
    curl -F photos=@a.jpg -F photos=@b.jpg "http://127.0.0.1:8000/predict?top_k=3"

Classifiers, attributes, detectors and encoders, trained or exported by `hf-fashion export`, which answer without
torch. `/` says what the model is, `/docs` how it is asked, `/health` whether it runs. Photos are neither stored nor
logged. There is no password: a server for others than this machine stands behind one that asks for it.
"""

import logging
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

from hf_fashion import server, settings
from hf_fashion.answering import Answering
from hf_fashion.errors import InputError, command, in_range, script
from hf_fashion.passes import LIMITS, MAX_ASPECT, MAX_BYTES

GRACE = 10  # seconds that requests under way have when the server is asked to end


@dataclass
class Arguments:
    """Settings of the recipe."""

    _argument_group_name = "model and server"
    _usage = "MODEL"

    model: str | None = field(
        default=None,
        metadata={"help": "An export, a run's folder, any checkpoint's folder, or a Hub id; must be given."},
    )
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub model."})
    host: str = field(
        default="127.0.0.1", metadata={"help": "Address that it listens at; 0.0.0.0: this machine's, for all others."}
    )
    port: int = field(default=8000, metadata={"help": "Port that it listens at; 0: any free one."})
    batch_size: int = field(default=32, metadata={"help": "Photos that pass the net together, at most."})
    wait_ms: float = field(
        default=0.0,
        metadata={"help": "Milliseconds that a pass waits for more photos. 0: it takes those that wait already."},
    )
    threads: int | None = field(
        default=None, metadata={"help": "Threads of a pass. Default: the engine's own choice."}
    )
    max_photos: int = field(default=32, metadata={"help": "Photos in one request, at most."})
    max_mb: int = field(
        default=32,
        metadata={
            "help": f"Megabytes of one request, at most. A photo has at most {MAX_BYTES / 2**20:g} of them, "
            f"{LIMITS.max_pixels / 1e6:g} megapixels, and a longer side of {MAX_ASPECT} times the shorter; a request "
            f"arrives within {server.READING} seconds."
        },
    )
    waiting: int = field(
        default=64,
        metadata={
            "help": "Requests that are answered or wait for it, at most; the next one is answered 503, come later."
        },
    )

    def __post_init__(self) -> None:
        if self.model is None:
            raise InputError(
                "--model", expected=f"{command('serve')} MODEL", found="no model", fix="add it"
            )  # fmt: skip
        in_range("port", self.port, 0, 65535)
        in_range("batch_size", self.batch_size, 1, 1024)
        in_range("wait_ms", self.wait_ms, 0, 10_000)
        in_range("max_photos", self.max_photos, 1, 1000)
        in_range("max_mb", self.max_mb, 1, 4096)
        in_range("waiting", self.waiting, 1, 1024)
        if self.threads is not None:
            in_range("threads", self.threads, 1, 1024)


def main(argv: list[str] | None = None) -> None:
    import uvicorn  # with fastapi, whose lack was told above

    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        argv = ["--model", *argv]
    parsed: tuple[Any, ...] = settings.parse_args("serve", (Arguments,), argv)
    args, _ = parsed
    with listening(args.host, args.port) as place:  # before a model is loaded in vain
        answering = Answering(
            args.model, args.model_revision, batch_size=args.batch_size, wait=args.wait_ms / 1000, threads=args.threads
        )  # fmt: skip
        answering.warm_up()
        limited = server.Limited(photos=args.max_photos, bytes=args.max_mb * 2**20, waiting=args.waiting)
        address = "http://{}:{}".format(f"[{args.host}]" if ":" in args.host else args.host, place.getsockname()[1])
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        config = uvicorn.Config(
            server.app(answering, limited), access_log=False, log_config=None, timeout_graceful_shutdown=GRACE,
            server_header=False,
        )  # fmt: skip
        running = uvicorn.Server(config)
        ended: list[int] = []

        def end(number: int, _: object) -> None:
            ended.append(number)
            running.should_exit = True  # also before uvicorn listens to signals itself

        # uvicorn answers what it has, and then sends the signal again, to whoever was there before.
        before = signal.signal(signal.SIGTERM, end)
        try:
            print(f"model:    {answering.told['name']}: {answering.kind}, {answering.told['engine']}")
            print(f"address:  {address}  (what the model is; /docs: how it is asked)")
            print(f"next:     curl -F photos=@photo.jpg {address}/predict; Ctrl-C ends it", flush=True)
            running.run(sockets=[place])
        finally:
            signal.signal(signal.SIGTERM, before)
        if ended:
            print(f"ended:    by SIGTERM; requests that were under way had {GRACE} seconds", flush=True)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: The address is not this machine's, or in use.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--host {host} --port {port}", expected="an address of this machine, and a free port",
            found=str(getattr(error, "strerror", None) or error), fix="--port 0 takes any free one",
        ) from error  # fmt: skip


if __name__ == "__main__":
    script(main)()
