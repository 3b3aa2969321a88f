"""The MONAI Label side: the only package, with `app/main.py`, that knows web frameworks.

A request passes `doors`, then `http`; what is to be made waits in `jobs` and is made in `synthesis`; what is
kept lies in `storage`, or in the DICOMweb `archive`. `operation` starts and watches all this; `errors`,
`settings` and `threads` are for everybody.
"""
