"""What can be wrong with a job, for whoever asked for it."""

from __future__ import annotations

from lesionbrush.errors import LesionBrushError


class QueueFull(LesionBrushError):
    """No more jobs may wait. retry_s: when it is worth asking again."""

    code = "queue_full"

    def __init__(self, message: str, retry_s: int) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class UnknownJob(LesionBrushError):
    """There is no job of this id: never was, is forgotten, or the server has started anew since."""

    code = "unknown_job"

    @classmethod
    def of(cls, ident: str, run: str) -> UnknownJob:
        """run: what the ids of the server's own run begin with."""
        if not ident.startswith(run):
            return cls(
                "no such job here: the server has started again since, and jobs that waited, ran or were "
                "done are forgotten. Submit it again: the same seed gives the same voxels"
            )
        return cls(f"no job {ident}: it was deleted, or forgotten after its time. Submit it again")


class UnknownVariant(LesionBrushError):
    """The job has fewer variants."""

    code = "unknown_variant"


class NotDone(LesionBrushError):
    """The job has no result yet, or never will."""

    code = "not_done"


class NoPreview(LesionBrushError):
    """No preview was made yet."""

    code = "no_preview"


class NoLabels(LesionBrushError):
    """Nobody knows what is where in this result."""

    code = "no_labels"


class Gone(LesionBrushError):
    """The result was kept for its time."""

    code = "expired"


class Discarded(LesionBrushError):
    """This variant was thrown away."""

    code = "discarded"


class IdempotencyConflict(LesionBrushError):
    """The same key came with another content."""

    code = "idempotency_conflict"


class TimedOut(LesionBrushError):
    """The job took longer than it may, and was ended."""

    code = "timed_out"


class OutOfMemory(LesionBrushError):
    """Neither the device nor the machine has the memory."""

    code = "out_of_memory"


class JobCrashed(Exception):
    """A defect of ours ended the job. It is in the log already, under the incident that the text names."""
