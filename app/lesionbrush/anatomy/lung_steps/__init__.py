"""The steps of the lung segmentation: a coarse grid, air, sides, a closed surface, the fine grid."""
