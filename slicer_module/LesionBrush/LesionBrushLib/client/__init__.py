"""Talk to a LesionBrush server from any Python from 3.9 on, 3D Slicer's too, with requests and numpy.

`JobClient` does everything the server offers; `Client` is the same for who has files.
"""

from .answers import ConnectionReport, JobStatus, ModelFacts, ServerFacts, StoredReference, Take
from .boxes import Box, compose, voxel_sha256
from .cohorts import MadeCohort, StoredCohort
from .errors import Cancelled, JobFailed, ServerError, ServerUnreachable, WrongInput, WrongReference
from .files import Client, Result
from .inputs import Layout
from .jobs import JobClient
from .orders import GeneratedCT, Labels, Order, Outcome, Watch
from .patience import Patience
from .uploads import SUFFIXES, Upload, ct_upload, labels_upload, mask_upload

__all__ = [
    "SUFFIXES",
    "Box",
    "Cancelled",
    "Client",
    "ConnectionReport",
    "GeneratedCT",
    "JobClient",
    "JobFailed",
    "JobStatus",
    "Labels",
    "Layout",
    "MadeCohort",
    "ModelFacts",
    "Order",
    "Outcome",
    "Patience",
    "Result",
    "ServerError",
    "ServerFacts",
    "ServerUnreachable",
    "StoredCohort",
    "StoredReference",
    "Take",
    "Upload",
    "Watch",
    "WrongInput",
    "WrongReference",
    "compose",
    "ct_upload",
    "labels_upload",
    "mask_upload",
    "voxel_sha256",
]
