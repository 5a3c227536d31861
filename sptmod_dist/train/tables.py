"""Tables for the terminal, out of texts that anybody may have written."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def plain(text: str) -> str:
    """Without what could move the cursor or break the line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def columns(rows: Sequence[Sequence[str]], to_the_right: Collection[int] = ()) -> str:
    """The rows with their cells below each other.

    Args:
        to_the_right: columns whose cells end below each other; numbers.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        placed = [
            f"{cell:>{width}}" if index in to_the_right else f"{cell:<{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines)
