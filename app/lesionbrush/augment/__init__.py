"""Lesions made while a network trains: `lesions` does it on arrays, `lesionbrush.monai` and
`lesionbrush.torchio` are the same as their transforms. Imports torch when a model is first used.
"""
