"""A layout changed by numbers: organs enlarged, shrunk, moved, taken out; the whole deformed or mirrored.

`changes` does it, `organs` finds what is meant and draws an organ anew, `checks` says no.
"""
