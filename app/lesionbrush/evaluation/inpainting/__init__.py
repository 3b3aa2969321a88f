"""Organs and tumours filled anew, by diffusion, by GANs and by the neighbouring slice: the thesis's tables.

After Sedykh 2024 (Imagining Infinity), Secs. 4.2, 4.4 and 4.6. The GANs are baselines of this evaluation
alone: no server knows them.
"""
