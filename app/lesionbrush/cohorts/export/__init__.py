"""A cohort as a dataset: CTs and labels as trainers read them, a table of measured truth, a card, a picture.

`dataset` does it; `layouts` are the forms of nnU-Net v2, MSD and MONAI; `names` gives cases names that tell
nothing; `tables`, `card` and `contact_sheet` are what lies beside.
"""
