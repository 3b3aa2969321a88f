"""Studies in a DICOMweb archive instead of a folder, see docs/dicom.md.

Read `dicomweb` first, which talks to the archive; `dicomweb_studies` makes a datastore of it, `dicomweb_push`
sends accepted cases, and `fetching` gets a CT before a route asks for it.
"""
