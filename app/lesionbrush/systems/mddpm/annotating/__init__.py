"""Annotations of CTs that have none, by a network that saw synthetic pairs alone.

Step 3 of Krishna et al. 2025, Sec. 4.1: a map is drawn, mDDPM makes a slice along it, and a U-Net learns to
find the map in the slice.
"""
