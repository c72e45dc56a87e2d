"""What a service takes at most: sizes, numbers, times."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a service, each an option of ``kimgnn serve``.

    Attributes:
        max_structures: Of one request to predict.
        max_atoms: Of one structure.
        max_body: Bytes of one request.
        max_job_structures: Of all jobs that are not done, together.
        max_queue: Structures that wait to be computed; what comes then is told to come later.
        max_requests: Requests that are answered at once, and connections that are open.
        client_seconds: Time that a client may take to send a request, and to take up a part of the answer.
        compute_seconds: Time that a batch may take; what takes longer is refused.
        window: Seconds that a structure waits at most for others to be computed with.
        batch_structures: Of one batch.
        batch_atoms: Of what a model is given at once; a larger structure is given alone.
        job_hours: Time that a job and its results are kept once it is done.
    """

    max_structures: int = 256
    max_atoms: int = 2000
    max_body: int = 32 * 2**20
    max_job_structures: int = 100_000
    max_queue: int = 1024
    max_requests: int = 512
    client_seconds: float = 20.0
    compute_seconds: float = 60.0
    window: float = 0.020
    batch_structures: int = 64
    batch_atoms: int = 8192
    job_hours: float = 72.0
