"""Pictures for people: each draws numbers that somebody else measured, legible at half its size."""

from __future__ import annotations

from typing import Any

STYLE: Any = {"font.size": 15, "text.parse_math": False}
"""For `matplotlib.rc_context`. Names come from anywhere: a dollar sign in one is no formula."""
