"""What a user sees and presses: Qt.

`widget` is the whole; `connect`, `reference`, `paint`, `synthesize`, `compare` and `keep` are its six steps
from top to bottom; `session` is what they share.
"""
