"""Volumes on disk: the only place that knows file formats, LPS and RAS, and DICOM."""
