"""Lesion masks carried from patient to patient: arrays and names in, masks out. It knows no file, no model.

Read `carry` first: one lesion into one organ. `patients` says which organ that is and does it for all lesions
of a mask; `names` matches what organs are called; `forms`, `fields`, `places` and `plan` are geometry in mm.
"""
