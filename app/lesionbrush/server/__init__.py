"""The MONAI Label side: the only package, with `app/main.py`, that knows web frameworks.

`gate` lets a short list of MONAI Label's own routes through and gives everything else to `routes`, whose
answers come from `inference`. `task` offers the same inference to MONAI Label's own code.
"""
