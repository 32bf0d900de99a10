"""What was found, for people (HTML) and for programs."""

import base64
import time
from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import urlsplit

from columns import NAMES
from near import TEXT
from retriever import Answer, Found, Garment

WAITING = '<p class="waiting">What is found appears here, the nearest first.</p>'
FIRST = 4  # columns of a result that are shown at once
LONGEST = 200  # characters of a value


def page(answer: Answer, like: Found | None = None) -> str:
    """The answer to one query.

    Args:
        answer: What was found.
        like: The photo of the index that asked, where one did.
    """
    cards = "".join(_card(rank, one) for rank, one in enumerate(answer.found, 1))
    shown = f'<ul class="found">{cards}</ul>' if cards else ""
    if answer.far:
        shown = f"<h2>The nearest all the same</h2>{shown}"
    return f'<div class="said">{_like(like) if like else ""}{_told(answer)}{shown}</div>'


def refused(what: str, reason: ValueError) -> str:
    """Why there is no answer."""
    return f'<div class="said">{_notice(f"{what} cannot be used", escape(str(reason).rstrip(".")) + ".")}</div>'


def garments(crops: Sequence[tuple[Garment, bytes]]) -> str:
    """The garments of a photo to choose from, the whole photo first."""
    if not crops:
        return ""
    whole = (
        '<label><input type="radio" name="garment" value="" checked><span class="whole">The whole photo</span></label>'
    )
    each = "".join(
        f'<label><input type="radio" name="garment" value="{place}"><img src="{_source(jpeg)}" alt="">'
        f"<span>{escape(one.label)}</span></label>"
        for place, (one, jpeg) in enumerate(crops)
    )
    return f'<fieldset class="garments" data-go="{mark()}"><legend>Search with</legend>{whole}{each}</fieldset>'


def mark() -> int:
    """Another one for each answer, by which the page knows a new one that reads as the one before."""
    return time.monotonic_ns()


def as_dict(answer: Answer) -> dict[str, Any]:
    """The same for programs."""
    found = [{"id": one.id, "score": round(one.score, 6), "columns": one.row} for one in answer.found]
    return {"near": None if answer.far is None else not answer.far, "found": found}


def title(found: Found) -> str:
    """What a photo is called: its text, or its id."""
    text = found.row.get(TEXT)
    return text[:LONGEST] if isinstance(text, str) and text else found.id


def _told(answer: Answer) -> str:
    if not answer.found:
        return _notice("Nothing fulfils this filter", "Take one of its conditions out, or make a range wider.")
    if answer.far:
        why = "This may be something that is not here, or "
        why += "a photo of another kind than those here." if answer.by_photo else "be called otherwise here."
        if answer.filtered:
            why = "Without the filter there may be a nearer one."
        best = f"The best score is {answer.found[0].score:.2f}."
        return _notice(
            "Nothing near",
            f"{best} What belongs here nearly always finds one of {answer.limit:.2f} or more. {why}",
        )
    count = len(answer.found)
    return f'<h2 tabindex="-1">{count} photo{"s" * (count != 1)}, the nearest first</h2>'


def _notice(heading: str, text: str) -> str:
    return f'<div class="refused"><h2 tabindex="-1">{heading}</h2><p>{text}</p></div>'


def _like(found: Found) -> str:
    return (
        f'<div class="like">{_picture(found)}<p>More like<br><strong>{escape(title(found))}</strong></p>'
        '<button type="button" data-like="">Take it away</button></div>'
    )


def _card(rank: int, found: Found) -> str:
    name = escape(title(found))
    told = [
        (key, value) for key, value in found.row.items()
        if key not in NAMES and value not in (None, "", []) and not (key == TEXT and title(found) != found.id)
    ]  # fmt: skip
    more = f"<details><summary>More</summary>{_list(told[FIRST:])}</details>" if told[FIRST:] else ""
    return (
        f'<li>{_picture(found)}<div><h3><span class="rank">{rank}</span> {name}</h3>'
        f'<p class="score">score {found.score:.2f}</p>{_list(told[:FIRST])}{more}</div>'
        f'<button type="button" data-like="{escape(found.id)}" aria-label="More like this: {name}">More like this'
        "</button></li>"
    )


def _list(told: Sequence[tuple[str, Any]]) -> str:
    rows = "".join(f"<div><dt>{escape(key)}</dt><dd>{_value(value)}</dd></div>" for key, value in told)
    return f"<dl>{rows}</dl>" if rows else ""


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    shown = escape(text[:LONGEST] + "..." * (len(text) > LONGEST))
    if _is_address(text):
        return f'<a href="{escape(text)}" target="_blank" rel="noopener noreferrer nofollow">{shown}</a>'
    return shown


def _is_address(text: str) -> bool:
    try:
        return urlsplit(text).scheme in ("http", "https") and bool(urlsplit(text).netloc) and " " not in text
    except ValueError:
        return False


def _picture(found: Found) -> str:
    if found.jpeg is None:
        return '<p class="none">This photo is not here</p>'
    return f'<img src="{_source(found.jpeg)}" alt="">'  # what it is called stands beside it


def _source(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
