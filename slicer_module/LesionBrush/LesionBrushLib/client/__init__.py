"""Talk to a LesionBrush server from any Python from 3.9 on, 3D Slicer's too, with requests and numpy.

`JobClient` does everything the server offers; `Client` needs no more than MONAI Label's own routes.
"""

from .answers import ConnectionReport, JobStatus, ModelFacts, ServerFacts, StoredReference
from .boxes import Box, compose, voxel_sha256
from .errors import Cancelled, JobFailed, ServerError, ServerUnreachable, WrongInput, WrongReference
from .jobs import JobClient
from .orders import Order, Outcome, Watch
from .patience import Patience
from .stock import Client, Result
from .uploads import SUFFIXES, Upload, ct_upload, mask_upload

__all__ = [
    "SUFFIXES",
    "Box",
    "Cancelled",
    "Client",
    "ConnectionReport",
    "JobClient",
    "JobFailed",
    "JobStatus",
    "ModelFacts",
    "Order",
    "Outcome",
    "Patience",
    "Result",
    "ServerError",
    "ServerFacts",
    "ServerUnreachable",
    "StoredReference",
    "Upload",
    "Watch",
    "WrongInput",
    "WrongReference",
    "compose",
    "ct_upload",
    "mask_upload",
    "voxel_sha256",
]
