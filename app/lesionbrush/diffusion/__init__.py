"""Diffusion for tensors of any spatial rank: noise schedules, denoisers, samplers, guidance.

Knows torch only: no file, no HU, no system. Tensors are (B, C, *spatial).
"""
