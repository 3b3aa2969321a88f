"""Lung-DDPM and Lung-DDPM+ (Jiang et al. 2025, arXiv:2502.15204, arXiv:2508.09327)."""
