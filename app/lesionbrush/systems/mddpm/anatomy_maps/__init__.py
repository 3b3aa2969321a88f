"""Anatomy maps of axial chest slices: outlines as closed B-splines, principal components, HU by structure.

A guidance image for mDDPM (Krishna et al. 2025, Sec. 4.1; the curves after Krishna et al. 2021). Read in the
order `structures`, `curves`, `shapes`, `validity`, `maps`.
"""
