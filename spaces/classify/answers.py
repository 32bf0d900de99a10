"""What the model says, for people (HTML) and for programs."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from typing import Any

from PIL import Image
from said import Said

SHOWN = 5  # bars of a group of labels
CLOSE = 0.1  # the best two scores are no further apart, where nobody measured how sure the model is
WAITING = '<p class="waiting">Drop a photo: the answer appears here.</p>'


def page(seen: Sequence[Any], said: Iterable[Sequence[Said]], left: Sequence[str] = ()) -> str:
    """The answers to several photos.

    Args:
        seen: Of each photo (what the net saw, a small one, its name), or (the ValueError that says why not, its name).
        said: What the model says of those that were seen.
        left: Names of the photos that were sent, too, and that the page does not take.
    """
    every = iter(said)
    several = len(seen) + len(left) > 1
    rows = [_photo(one[1], one[2], next(every), several) if len(one) == 3 else _refused(*one) for one in seen]
    more = ""
    if left:
        more = f"<p>The first {len(seen)} of {len(seen) + len(left)} photos: the page takes no more at a time.</p>"
        rows.append(
            f'<li class="refused"><div><h2>Not looked at</h2><p>{escape(", ".join(left))}</p></div></li>'
        )  # fmt: skip
    return f'{more}<ul class="said">{"".join(rows)}</ul>'


def as_dict(said: Sequence[Said]) -> dict[str, Any]:
    """What the model says of one photo, as the API gives it."""
    first = said[0]
    if len(said) == 1 and not first.many:
        [label] = first.labels
        return {"label": label, "score": first.scores[label], "sure": first.sure, "scores": first.scores}
    return {one.group or "labels": {"labels": [*one.labels], "scores": one.scores} for one in said}


def percent(score: float) -> str:
    """A score in words, which never says that a thing is certain."""
    return "<1 %" if score < 0.005 else ">99 %" if score >= 0.995 else f"{100 * score:.0f} %"


def _photo(small: Image.Image, name: str, said: Sequence[Said], named: bool) -> str:
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    told = (f'<p class="name">{escape(name)}</p>' if named else "") + "".join(map(_group, said))
    return f'<li><img src="{source}" alt="{escape(name)}"><div>{told}</div></li>'


def _group(said: Said) -> str:
    word, verdict = ", ".join(said.labels) or "none of these", ""
    if said.sure is False:
        word, verdict = f"{word}?", '<p class="unsure"><strong>Unsure</strong> Take it as a guess.</p>'
    elif said.sure is None and not said.group and not said.many and _is_close(said.scores):
        word, second = f"{word}?", escape([*said.scores][1])
        verdict = f'<p class="unsure"><strong>Close</strong> {second} scores nearly as high.</p>'
    heading = f"<h2>{escape(word)}</h2>"
    if said.group:
        heading = f"<h2><small>{escape(said.group)}</small> {escape(word)}</h2>"
    bars = "".join(_bar(label, score, label in said.labels) for label, score in [*said.scores.items()][:SHOWN])
    return f'{heading}{verdict}<ul class="bars">{bars}</ul>'


def _is_close(scores: dict[str, float]) -> bool:
    best, second = [*scores.values(), 0.0][:2]
    return best - second <= CLOSE


def _bar(label: str, score: float, chosen: bool) -> str:
    return (
        f"<li{' class=chosen' if chosen else ''}><span>{escape(label)}</span> <span>{escape(percent(score))}</span>"
        f'<div aria-hidden="true"><div style="width: {score:.1%}"></div></div></li>'
    )


def _refused(reason: ValueError, name: str) -> str:
    why = escape(str(reason).rstrip("."))
    return f'<li class="refused"><div><h2>{escape(name)}</h2><p>This photo cannot be used: {why}.</p></div></li>'
