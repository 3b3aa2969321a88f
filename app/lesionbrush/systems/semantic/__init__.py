"""Semantic CT (Zhuang et al. 2023): a layout of organs becomes CT, slice by slice, by three conditionings."""
