"""Lesion masks carried from patient to patient: arrays and names in, masks out. It knows no file, no model.

Read `carry` first: one lesion into one organ. `patients` does it for all lesions of a mask, into organs of
a `hosts.HostPatient`; `names` says which of them are meant; `forms`, `fields`, `places`, `plan` are geometry.
"""
