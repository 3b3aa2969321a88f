"""Network architectures. A network knows tensors only: no files, no HU, no request."""
