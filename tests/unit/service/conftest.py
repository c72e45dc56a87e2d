"""A service in this process: everything but uvicorn and the processes that compute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kimgnn.service import service as service_module
from kimgnn.service.app import create_app
from kimgnn.service.formats import Answer, Given
from kimgnn.service.limits import Limits
from kimgnn.service.served import ServedModel
from kimgnn.service.service import Service
from kimgnn.service.worker import WorkerOptions, answer_batch


class HereWorker:
    """Computes in this process what a worker computes in its own."""

    def __init__(self, options: WorkerOptions, seconds: float) -> None:
        self.options = options
        self.ready = False
        self.restarts = 0
        self.batches: list[int] = []

    async def start(self) -> None:
        paths = self.options.models.items()
        self._served = {name: ServedModel(name, Path(path), self.options.batch_atoms) for name, path in paths}
        self.models = [model.description() for model in self._served.values()]
        self.ready = True

    async def answers(self, batch: Sequence[Given]) -> list[Answer]:
        self.batches.append(len(batch))
        return answer_batch(batch, self._served, self.options)

    async def stop(self) -> None:
        self.ready = False


Test = Callable[[httpx.AsyncClient, Service], Coroutine[Any, Any, None]]


@pytest.fixture
def with_service(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a test with a client of a service, by default of the potential ``sic`` in ONNX."""
    monkeypatch.setattr(service_module, "Worker", HereWorker)

    @asynccontextmanager
    async def begun(models: dict[str, Path], limits: Limits, key: str | None, hosts: Sequence[str]) -> Any:
        service = Service(models, limits, tmp_path / "jobs.sqlite")
        await service.start()
        transport = httpx.ASGITransport(create_app(service, key, hosts), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            yield client, service
        await service.stop()

    def run(
        test: Test,
        models: dict[str, Path] | None = None,
        key: str | None = None,
        hosts: Sequence[str] = (),
        **limits: Any,
    ) -> None:
        async def all_of_it() -> None:
            given = models or {"sic": trained / "model.onnx"}
            async with begun(given, Limits(**limits), key, hosts) as (client, service):
                await test(client, service)

        asyncio.run(all_of_it())

    return run
