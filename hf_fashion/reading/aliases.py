"""Aliases of YAML (`&name`, `*name`): a few lines of them unfold into more than a memory holds.

Reading them is cheap, since what a name stands for is kept once. Whatever writes them out takes all of it, as datasets
and its errors do; so does reading, where they are merged (`<<: *name`).
"""

import math

import yaml

from hf_fashion.errors import InputError

MOST_VALUES = 1_000_000  # the metadata of a dataset of 1,000 classes has a few thousand


def refuse(what: str, text: str) -> None:
    """Raises InputError when aliases of a YAML text unfold into more than `MOST_VALUES`; to ask before it is read.

    Args:
        what: The file, for messages.
        text: Its content.

    Raises:
        yaml.YAMLError: It is no YAML.
        RecursionError: It is nested too deeply.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None and _unfolded(node, {}) > MOST_VALUES:
        raise InputError(
            what, expected=f"YAML of {MOST_VALUES} values at most", found="aliases (*name) that unfold into more",
            fix="write out what is meant, or remove it",
        )  # fmt: skip


def _unfolded(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node holds when its aliases are written out; infinite for one that holds itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        pairs = node.value if isinstance(node, yaml.MappingNode) else [(each,) for each in node.value]
        known[id(node)] = 1 + sum(_unfolded(each, known) for pair in pairs for each in pair)
    return known[id(node)]
