"""MedSyn: a whole chest CT from a report (Xu et al. 2024)."""
