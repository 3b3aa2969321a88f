"""The project's chest phantom in Slicer's Sample Data module.

There is no public download address yet: the phantom comes with the module, as a file.
"""

import hashlib
from pathlib import Path

import slicer

CATEGORY = "LesionBrush"
NAME = "LesionBrushPhantom"
RESOURCES = Path(__file__).resolve().parents[2] / "Resources"
PHANTOM = RESOURCES / "SampleData" / "ChestPhantom.nii.gz"
THUMBNAIL = RESOURCES / "Icons" / "LesionBrushPhantom.png"


def register() -> bool:
    """Offer the phantom under Sample Data. False when this copy of the module came without it."""
    if not PHANTOM.is_file():
        return False
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        uris=PHANTOM.as_uri(),
        fileNames=f"{NAME}.nii.gz",
        nodeNames=NAME,
        checksums=f"SHA256:{checksum()}",
        thumbnailFileName=str(THUMBNAIL),
        loadFileType="VolumeFile",
    )
    return True


def checksum() -> str:
    """SHA-256 of the file that is shipped."""
    return hashlib.sha256(PHANTOM.read_bytes()).hexdigest()


def load() -> object:
    """The phantom as a volume node, without the Sample Data module."""
    return slicer.util.loadVolume(str(PHANTOM), properties={"name": NAME})
