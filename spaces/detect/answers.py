"""What the model finds, for people (HTML) and for programs. Which boxes are shown, page.js decides by the slider."""

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from found import MOST, Found, Seen

COLOURS, LINES = 7, 3  # classes that look different: of page.css
WAITING = '<p class="waiting">Drop a photo: its boxes and crops appear here.</p>'


def page(seen: Sequence[Any], found: Iterable[Sequence[Found]], left: Sequence[str] = ()) -> str:
    """The answers to several photos.

    Args:
        seen: Of each photo a `Seen`, or (the ValueError that says why not, its name).
        found: The boxes in those that were seen, surest first.
        left: Names of the photos that were sent, too, and that the page does not take.
    """
    every = iter(found)
    rows = [_photo(one, next(every)) if isinstance(one, Seen) else _refused(*one) for one in seen]
    more = ""
    if left:
        more = f"<p>The first {len(seen)} of {len(seen) + len(left)} photos: the page takes no more at a time.</p>"
        names = escape(", ".join(left))
        rows.append(f'<li class="refused"><div><h2>Not looked at</h2><p>{names}</p></div></li>')
    return f'{more}<ul class="said">{"".join(rows)}</ul>'


def as_list(size: tuple[int, int], found: Sequence[Found]) -> list[dict[str, Any]]:
    """The boxes of one photo, as `pipeline("object-detection")` gives them: in whole pixels of the photo."""
    made = []
    for one in found:
        sides = [int(value * side) for value, side in zip(one.box, [*size, *size], strict=True)]
        row = {"score": one.score, "label": one.label} | {
            "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True))
        }
        if one.says is not None:
            row["classified"] = {"label": one.says[0], "score": one.says[1]}
        made.append(row)
    return made


def percent(score: float) -> str:
    """A score in words, which never says that a thing is certain."""
    return "<1 %" if score < 0.005 else ">99 %" if score >= 0.995 else f"{100 * score:.0f} %"


def _photo(photo: Seen, found: Sequence[Found]) -> str:
    source = f"data:image/jpeg;base64,{base64.b64encode(photo.jpeg).decode()}"
    numbered = [*enumerate(found, 1)]
    boxes = "".join(_box(number, one) for number, one in numbered)
    rows = "".join(_row(number, one, photo.name) for number, one in numbered)
    return (
        f'<li class="photo"><figure><img src="{source}" alt="{escape(photo.name)}" width="{photo.size[0]}" '
        f'height="{photo.size[1]}"><div class="boxes" aria-hidden="true">{boxes}</div></figure>'
        f'<div><h2>{escape(photo.name)}</h2><p class="counts"></p><ul class="found">{rows}</ul></div></li>'
    )


def _look(number: int) -> str:
    return f"colour-{number % COLOURS} line-{number // COLOURS % LINES}"


def _box(number: int, found: Found) -> str:
    left, top, right, bottom = found.box
    # The name stands above the box, or inside where there is no room; to the left of it where the photo ends. Surer
    # boxes lie over others.
    where = " inside" * (top < 0.06) + " right" * (left > 0.6)
    place = f"left: {left:.2%}; top: {top:.2%}; width: {right - left:.2%}; height: {bottom - top:.2%}"
    return (
        f'<div hidden class="box {_look(found.number)}{where}" style="{place}; z-index: {MOST - number}">'
        f"<span>{number} {escape(found.label)}</span></div>"
    )


def _row(number: int, found: Found, name: str) -> str:
    stem = re.sub(r"\W+", "-", f"{name.rpartition('.')[0] or name}-{number}-{found.label}").strip("-")
    says = ""
    if found.says is not None:
        label, score = found.says
        says = f'<p class="says">named {escape(label)} <span>{escape(percent(score))}</span></p>'
    return (
        f'<li hidden data-score="{found.score:.6f}" data-label="{escape(found.label)}" '
        f'data-box="{" ".join(f"{value:.5f}" for value in found.box)}">'
        f'<a download="{escape(stem)}.jpg" title="Download this crop"><img alt="Download crop {number}: '
        f'{escape(found.label)}"></a><div><p><strong class="{_look(found.number)}">{number}</strong> '
        f"{escape(found.label)} <span>{escape(percent(found.score))}</span></p>{says}</div></li>"
    )


def _refused(reason: ValueError, name: str) -> str:
    why = escape(str(reason).rstrip("."))
    return f'<li class="refused"><div><h2>{escape(name)}</h2><p>This photo cannot be used: {why}.</p></div></li>'
