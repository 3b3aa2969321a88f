"""Lesion inpainting in soft tissue needs nothing but the CT and the mask. No torch."""

from __future__ import annotations

from lesionbrush.core.model import EditHooks

HOOKS = EditHooks()
