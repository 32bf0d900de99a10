"""How the Hub is asked: with a limit on its silence, again a few times when it is busy, and with one kind of error."""

import contextlib
import email.utils
import errno
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx2
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session, parse_ratelimit_headers

from hf_fashion.errors import InputError

T = TypeVar("T")

TRIES = 5
FIRST_WAIT = 1.0  # seconds, doubled from try to try
LONGEST_WAIT = 120.0  # a Hub that asks for more is not waited for
SILENCE = 60.0  # seconds without a byte: the client itself would wait for ever
# hf_xet, which carries the large files, reads the same limit from here when it is first used; its own is five minutes.
os.environ.setdefault("HF_XET_CLIENT_READ_TIMEOUT", f"{SILENCE:.0f}s")
PASSING = (408, 425, 429, 500, 502, 503, 504)
TOKENS = "https://huggingface.co/settings/tokens"


class HubError(InputError):
    """Something that the Hub refused, or did not do; told as all errors of a user's are.

    Args:
        what: One line that names the repo.
        expected: What would have been right.
        found: What the Hub said.
        fix: What to type next.
        passing: Whether the same may go well later.
        status: Of the answer, where there was one.
    """

    def __init__(
        self, what: str, *, expected: str, found: str, fix: str, passing: bool = False, status: int | None = None
    ) -> None:
        super().__init__(what, expected=expected, found=found, fix=fix)
        self.passing, self.status = passing, status


def api(token: str | None = None) -> HfApi:
    """The Hub's client, which says in its requests who asks."""
    import hf_fashion

    return HfApi(token=token, library_name="hf_fashion", library_version=hf_fashion.__version__)


def ask(what: str, call: Callable[[], T], *, tries: int = TRIES) -> T:
    """Calls the Hub, and again while it is busy or out of reach.

    Args:
        what: What is asked, for the error's first line.
        call: May be repeated without harm.
        tries: How often at most.

    Raises:
        HubError: What the Hub refused; or that it could not be asked, after all tries.
    """
    wait = FIRST_WAIT
    for attempt in range(1, tries + 1):
        try:
            with impatient():
                return call()
        except InputError:
            raise
        except (httpx2.HTTPError, OSError, RuntimeError, HFValidationError, json.JSONDecodeError) as error:
            told = translate(what, error)
            asked_for = asked_to_wait(error)
            if not told.passing or attempt == tries or (asked_for or 0) > LONGEST_WAIT:
                raise told from error
            pause = asked_for if asked_for is not None else wait * random.uniform(0.75, 1.25)
            print(f"{told.found}; again in {pause:.0f} s ({attempt} of {tries - 1})")
            time.sleep(pause)
            wait *= 2
    raise AssertionError("unreachable")


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Within it a Hub that says nothing for `SILENCE` seconds is an error; the session is otherwise left as it was."""
    session = get_session()
    before = session.timeout
    session.timeout = SILENCE
    try:
        yield
    finally:
        session.timeout = before


def translate(what: str, error: Exception) -> HubError:
    """What a client raised, as the one kind of error."""
    said = _first_line(error)
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else _status_in(said)

    def told(expected: str, found: str, fix: str, passing: bool = False) -> HubError:
        return HubError(what, expected=expected, found=found, fix=fix, passing=passing, status=status)

    if isinstance(error, OfflineModeIsEnabled):
        return told("a way to the Hub", "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE")
    if isinstance(error, LocalTokenNotFoundError):
        return told("a token of yours", "none", f"`hf auth login`, with a token that may write, from {TOKENS}")
    if isinstance(error, HFValidationError):
        return told("the id of a repo: <you or an organization>/<name>", said, "letters, digits, `-`, `_` and `.`")
    if isinstance(error, GatedRepoError):
        return told(
            "a repo whose terms you have accepted", "it is gated", "accept its terms on its page, then `hf auth login`"
        )
    if isinstance(error, DisabledRepoError):
        return told("a repo that is open", "the Hub has disabled it", "see its page")
    if isinstance(error, RevisionNotFoundError):
        return told("a branch, tag or commit of the repo", "the Hub has none of that name", "see its page, `History`")
    if isinstance(error, RepositoryNotFoundError):
        return told(
            "a repo that is there and that you may see", "the Hub shows none of that name",
            "check the spelling; `hf auth login` for a private one",
        )  # fmt: skip
    if status in (402, 413) or "storage limit" in str(error):
        return told(
            "room for it on the Hub", said, "see the storage of your account on https://huggingface.co/settings"
        )
    if status == 401:
        return told(
            "a token that the Hub takes", "it refuses this one (401)", f"`hf auth login`: a new one from {TOKENS}"
        )
    if status == 403:
        return told(
            "a token that may do this", f"the Hub forbids it (403): {said}",
            f"a token with the role `write` from {TOKENS}, then `hf auth login`",
        )  # fmt: skip
    if status in PASSING:
        busy = "the Hub asks to slow down (429)" if status == 429 else f"the Hub answers {status}"
        return told("an answer of the Hub", busy, "type the same again later; what was sent is not sent twice", True)
    if status is not None:
        return told("a request that the Hub takes", f"{status}: {said}", "mend what it names")
    # hf_xet tells of this disk in the text of an error that is else one of the network.
    full = any(os.strerror(number) in str(error) for number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)))
    if full or isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError) and error.errno:
        return told("files that can be read and written", said, "make room, or mend the rights of the file")
    if isinstance(error, ValueError):
        return told("files that the Hub takes", " ".join(str(error).split())[:400], "mend what it names")
    return told(
        "a way to the Hub", f"{type(error).__name__}: {said}",
        "look at the network; type the same again: what was sent is not sent twice", True,
    )  # fmt: skip


def may_go_on(error: HubError) -> bool:
    """Whether the same command may go well once the error's advice was followed: of a wrong name it cannot."""
    why = error.__cause__
    wrong = isinstance(why, RepositoryNotFoundError | RevisionNotFoundError | HFValidationError)
    return not wrong or isinstance(why, GatedRepoError)


def _status_in(said: str) -> int | None:
    """The status that hf_xet puts into the text of its errors."""
    found = re.search(r"HTTP status \w+ error \((\d{3}) ", said)
    return int(found.group(1)) if found else None


def _first_line(error: Exception) -> str:
    message = getattr(error, "server_message", None) or str(error)
    return next((line.strip() for line in str(message).splitlines() if line.strip()), type(error).__name__)


def asked_to_wait(error: Exception) -> float | None:
    """Seconds that the Hub asks to wait for, by Retry-After (seconds or a date) or by its rate limit."""
    response: Any = getattr(error, "response", None)
    if response is None:
        return None
    given = response.headers.get("retry-after", "").strip()
    if given.isdigit():
        return float(given)
    if given:
        with contextlib.suppress(ValueError, TypeError):
            return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    limit = parse_ratelimit_headers(response.headers)
    return float(limit.reset_in_seconds) if limit and response.status_code == 429 and not limit.remaining else None


def endpoint() -> str:
    """The Hub's address."""
    return constants.ENDPOINT
