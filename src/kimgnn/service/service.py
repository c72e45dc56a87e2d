"""A service without its HTTP: workers, the queue before them, jobs, and what is counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kimgnn.service.batching import Batcher
from kimgnn.service.bodies import Bodies
from kimgnn.service.job_store import JobStore
from kimgnn.service.jobs import Jobs
from kimgnn.service.limits import Limits
from kimgnn.service.metrics import Metrics
from kimgnn.service.worker import WorkerOptions
from kimgnn.service.workers import Worker

logger = logging.getLogger("kimgnn.service")


class Service:
    """Models that are served.

    Args:
        models: Name -> path of each.
        limits: What it takes.
        jobs: The file of its jobs.
        workers: Processes that compute.
        threads: Of each.

    Attributes:
        batcher: What requests give their structures to.
        jobs: Likewise for large ones.
        bodies: What reads requests.
        metrics: What is counted.
    """

    def __init__(
        self, models: Mapping[str, Path], limits: Limits, jobs: Path, workers: int = 1, threads: int = 1
    ) -> None:
        self.names = list(models)
        self.limits = limits
        paths = {name: str(path.resolve()) for name, path in models.items()}
        options = WorkerOptions(paths, threads, limits.max_atoms, limits.max_structures, limits.batch_atoms)
        self._workers = [Worker(options, limits.compute_seconds) for _ in range(workers)]
        store = JobStore(jobs, limits.job_hours * 3600)
        self.metrics = Metrics(
            lambda: len(self.batcher),
            lambda: sum(worker.restarts for worker in self._workers),
            lambda: store.unfinished,
        )
        self.batcher = Batcher(
            limits.max_queue, limits.window, limits.batch_structures, limits.batch_atoms, self.metrics.batch
        )
        self.jobs = Jobs(store, self.batcher, self.names)
        self.bodies = Bodies(limits.max_body, limits.client_seconds)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def models(self) -> list[dict[str, Any]]:
        """What is told of the models."""
        return self._workers[0].models

    @property
    def ready(self) -> bool:
        """Whether a structure would be computed now."""
        return self.alive and any(worker.ready for worker in self._workers)

    @property
    def alive(self) -> bool:
        """Whether all that it does by itself goes on."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def start(self) -> None:
        """Load the models, and begin to compute.

        Raises:
            ModelError: One cannot be loaded.
        """
        try:
            await asyncio.gather(*(worker.start() for worker in self._workers))
        except BaseException:
            await self.stop()
            raise
        running = [self.batcher.run(worker) for worker in self._workers] + [self.jobs.run()]
        self._tasks = [asyncio.create_task(coroutine) for coroutine in running]
        for task in self._tasks:
            task.add_done_callback(_tell)

    async def stop(self) -> None:
        """End everything; jobs go on when a service is started again."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        self.jobs.close()


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("a part of the service ended", exc_info=task.exception())
