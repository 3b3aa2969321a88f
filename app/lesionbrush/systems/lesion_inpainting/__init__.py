"""Lesion inpainting: a diffusion model of one ROI, given the tissue around a mask."""
