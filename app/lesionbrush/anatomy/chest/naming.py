"""What lobes are called, and their numbers. Imports nothing: commands read it before they do anything."""

from __future__ import annotations

RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER, LEFT_UPPER, LEFT_LOWER, RIGHT_WHOLE, LEFT_WHOLE = range(1, 8)
LOBES = {
    RIGHT_UPPER: "right lung upper lobe",
    RIGHT_MIDDLE: "right lung middle lobe",
    RIGHT_LOWER: "right lung lower lobe",
    LEFT_UPPER: "left lung upper lobe",
    LEFT_LOWER: "left lung lower lobe",
    RIGHT_WHOLE: "right lung",
    LEFT_WHOLE: "left lung",
}
"""The last two: lung whose lobes are not told apart."""
