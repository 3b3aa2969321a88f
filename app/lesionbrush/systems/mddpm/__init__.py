"""mDDPM (Krishna et al. 2025): multi-condition guidance of an unconditional model, in 2D and 3D."""
