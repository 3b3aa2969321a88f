"""Small stand-ins for what 3D Slicer's Python has and no registry offers: qt, ctk, and the application.

`qt` and `ctk` are PySide6 made to look like PythonQt; `application` adds to the real MRML of slicer-core what
only the Slicer application has. They prove the panel's own work, not PythonQt, nor Slicer's widgets.
"""
