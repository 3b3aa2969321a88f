"""Semantic CT from the layout alone: the tables of Zhuang et al. 2023 (Sec. 4) for one's own weights.

How good each way to show a layout is, over training and over evaluations of the network, beside real slices
and two floors; and whether an organ that was moved in the layout is found where it was moved to.
"""
