"""Wrong names and the right ones that were probably meant: keys, options, controls, commands.

It knows no list of names itself. `listed` has names for a sentence.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def closest(name: str, known: Iterable[str]) -> str | None:
    """The right name that a wrong one was probably meant to be.

    A dotted name with the right end in the wrong place (`hidden_size` for `model.hidden_size`)
    counts as close, as does a misspelt one.
    """
    known = list(known)
    end = name.rpartition(".")[2]
    same_end = [candidate for candidate in known if candidate.rpartition(".")[2] == end]
    if same_end:
        return same_end[0]
    whole = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if whole:
        return whole[0]
    ends = {candidate.rpartition(".")[2]: candidate for candidate in reversed(known)}
    near = difflib.get_close_matches(end, list(ends), n=1, cutoff=0.6)
    return ends[near[0]] if near else None


def advice(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """What to do about a wrong name, as the end of a sentence.

    Args:
        name: The wrong name.
        known: All right ones.
        otherwise: The advice where none of them is close; give one where they are too many to list.
    """
    known = list(known)
    near = closest(name, known)
    if near:
        return f"did you mean {near}?"
    listed = f"choose one of {', '.join(known)}" if known else "remove it, none is known here"
    return otherwise or listed


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names as a sentence has them, the first few of many: `a, b and 3 more`."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
