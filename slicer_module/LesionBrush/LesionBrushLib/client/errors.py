"""What can go wrong between this computer and a server. `str(error)` is meant to be shown as it is."""

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .answers import JobStatus


class ServerError(Exception):
    """The server's own error. code: a stable name; str(error): what it says, to be shown as it is.

    status: of HTTP, 0 where none came; retry_after_s: when the server wants to be asked again.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_s: Optional[float] = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after_s = retry_after_s

    def say(self, message: str) -> None:
        """The same error in other words."""
        self.message, self.args = message, (message,)

    @property
    def is_passing(self) -> bool:
        """A reverse proxy says that the server behind it is away: it may come back."""
        return self.code == "http_error" and self.status in (502, 503, 504)


class JobFailed(ServerError):
    """The job ended without a result. code and message are the job's."""

    def __init__(self, job: "JobStatus") -> None:
        super().__init__(0, job.error_code or job.state, job.error_message or _ENDED.format(job.state))
        self.job = job


_ENDED = "the job has {} and the server gave no reason: look into its log, then synthesize again"


class ServerUnreachable(Exception):
    """No server there, or the connection broke; nothing was saved.

    job_id: of a job that was under way, and may still be; lasting: trying again cannot help.
    """

    def __init__(self, message: str, job_id: Optional[str] = None, lasting: bool = False) -> None:
        super().__init__(message)
        self.job_id, self.lasting = job_id, lasting


class Cancelled(Exception):
    """The user, or somebody on the server, cancelled. server_told: the server stops working on it."""

    def __init__(self, message: str = "cancelled", server_told: bool = True) -> None:
        super().__init__(message)
        self.server_told = server_told


class WrongInput(ValueError):
    """Something that the model does not take, lacks, or takes in another form; nothing was sent."""


class WrongReference(Exception):
    """A box was made for another CT than the one it should go into."""
