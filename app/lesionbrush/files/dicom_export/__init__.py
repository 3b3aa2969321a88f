"""Synthetic CTs and their masks as DICOM."""
