"""What runs a network: PyTorch on a GPU or a CPU, or OpenVINO on a CPU. Each gives the same picture."""
