"""Does training with made lesions help? Nodules outlined by a network that saw real ones, made ones, or both.

After the segmentation tables of Lung-DDPM (Jiang et al. 2025, Table III) and the classification of MedSyn
(Xu et al. 2024, Table VI), with rivals that they lack: real nodules pasted, and more real ones.
"""
