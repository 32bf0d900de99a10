"""Licences on cards: the ids that the Hub knows, and what the licences behind a model ask of who uses it."""

import re
from collections.abc import Mapping

UNKNOWN = "unknown"

# The ids that the Hub's check of metadata takes (its own message of May 2026; anything else stops a whole push).
_IDS = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
    other
"""
LICENSES = tuple(_IDS.split())

_FREE = {"cc0-1.0", "pddl", "unlicense", "wtfpl"}
_SAME = ("gpl", "agpl", "lgpl", "gfdl", "osl", "eupl", "odbl", "cdla-sharing", "mpl", "epl")
_RESEARCH = {
    "apple-amlr", "c-uda", "deepfloyd-if-license", "fair-noncommercial-research-license", "h-research",
    "intel-research",
}  # fmt: skip
_OWN = ("llama", "gemma", "grok", "openrail", "bigscience", "bigcode", "creativeml", "apple-ascl", "other")
# In the order in which a card tells them.
CONDITIONS = {
    "attribution": "keep the notices and name the authors",
    "same": "pass changed versions on under the same licence",
    "no changes": "pass no changed version on",
    "no commerce": "use it for no commercial purpose",
    "own terms": "keep its own terms of use, which are to be read",
}


def conditions(license_: str) -> tuple[str, ...] | None:
    """What a licence asks, as keys of `CONDITIONS`, from its id alone; () for nothing.

    Returns:
        None where the id says too little to tell: `unknown`, `cc`, several licences, one that the Hub does not know.
    """
    if license_ not in LICENSES or license_ in (UNKNOWN, "cc"):
        return None
    if license_ in _FREE:
        return ()
    if license_ in _RESEARCH:
        return ("attribution", "no commerce", "own terms")
    if license_.startswith("cc-"):
        parts = license_.split("-")
        marks = {"by": "attribution", "sa": "same", "nd": "no changes", "nc": "no commerce"}
        return tuple(name for mark, name in marks.items() if mark in parts)
    if license_.startswith(_OWN):
        return ("attribution", "own terms")
    return ("attribution", "same") if license_.startswith(_SAME) else ("attribution",)


def follows(chain: Mapping[str, str], model: str) -> list[str]:
    """What follows from the licences behind a model, in sentences of plain text.

    Args:
        chain: What (as "photos", "base model") -> its licence.
        model: The licence that the model itself is given.
    """
    told = []
    for what, license_ in chain.items():
        asked = conditions(license_)
        if asked is None:
            told.append(
                f"What the licence of the {what} asks is not known here ({license_}): find out before you rely on it."
            )
        elif asked:
            told.append(f"The {what} ({license_}): " + "; ".join(CONDITIONS[name] for name in asked) + ".")
        else:
            told.append(f"The {what} ({license_}): nothing is asked.")
    granted = conditions(model)
    for what, license_ in chain.items():
        missing = [
            name for name in conditions(license_) or () if name not in (granted or ()) and name != "attribution"
        ]
        if granted is not None and missing:
            more = "; ".join(CONDITIONS[name] for name in missing)
            told.append(f"The licence of the {what}, {license_}, asks more than {model} says: {more}.")
    return told


def nearest(license_: str) -> str:
    """What to write in the place of an id that the Hub does not know."""
    plain = re.sub(r"[\s_]+", "-", license_.strip().lower()).removesuffix("-license").removesuffix("-or-later")
    plain = {"apache": "apache-2.0", "apache2": "apache-2.0", "cc0": "cc0-1.0", "cc-by": "cc-by-4.0"}.get(plain, plain)
    return plain if plain in LICENSES else ""
