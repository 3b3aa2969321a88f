"""What is counted while the server runs, for Prometheus. Labels come from fixed lists, not from clients."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from lesionbrush.server.doors.gate import Visit

_REQUEST_SECONDS = (0.005, 0.05, 0.25, 1, 5, 30, 120, 600)
_PHASE_SECONDS = (0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)


class Meter:
    """Counters of one server, in a registry of its own: several servers in one process do not mix."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "lesionbrush_requests", "Requests by route", ("method", "route", "status"), registry=registry
        )
        self._request_seconds = Histogram(
            "lesionbrush_request_seconds", "Time of a request", ("route",), buckets=_REQUEST_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._jobs = Counter(
            "lesionbrush_jobs", "Jobs that are over, by state", ("state",), registry=registry
        )
        self._phase_seconds = Histogram(
            "lesionbrush_phase_seconds", "Time of a synthesis by phase", ("phase",), buckets=_PHASE_SECONDS,
            registry=registry,
        )  # fmt: skip

    def count_visit(self, visit: Visit) -> None:
        route = visit.door.template if visit.door else "not offered"
        self._requests.labels(visit.method, route, str(visit.status)).inc()
        self._request_seconds.labels(route).observe(visit.seconds)

    def job_over(self, state: str) -> None:
        self._jobs.labels(state).inc()

    def count_work(self, seconds: Mapping[str, float]) -> None:
        """seconds: per phase of one synthesis."""
        for phase, value in seconds.items():
            self._phase_seconds.labels(phase).observe(value)
