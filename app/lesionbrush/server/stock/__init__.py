"""What MONAI Label's own clients say and ask for: its Python client, its 3D Slicer plugin, its OHIF plugin.

Read `words` first (what they send among a model's parameters), then `label_map` (what is shown to a program
that can show no CT, and how its Submit makes a case), `runs`, `strategies` (Next Sample) and `routes`.
"""
