"""Every documented request, made at random from the schema, gets a documented kind of answer and never a crash."""

import asyncio
import tempfile
from contextlib import nullcontext
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from riverrun.streaming.server import create
from riverrun.streaming.settings import Settings
from tests.streaming.test_http import Volume

FOLDER = tempfile.TemporaryDirectory()
ACCESS: Any = {"hosts": ["testserver"], "requests": 1e6, "burst": 10**6}
JOBS: Any = {"folder": f"{FOLDER.name}/jobs"}
VOICES: Any = {"folder": f"{FOLDER.name}/voices"}
app = create(Settings(access=ACCESS, jobs=JOBS, voices=VOICES), {"restore-lite": Volume()})
asyncio.run(app.state.hub.launch())
app.router.lifespan_context = lambda _: nullcontext()  # what runs the requests would stop it after each
for media in ("application/sdp", "application/trickle-ice-sdpfrag"):
    schemathesis.serializer.alias(media, "text/plain")
schema = schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.fixture(scope="module", autouse=True)
def stopped() -> Any:
    yield
    asyncio.run(app.state.hub.engine.shut())
    FOLDER.cleanup()


@schema.exclude(method="GET", path="/health/ready").parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_makes_the_server_fail(case: Any) -> None:
    case.call_and_validate(checks=[not_a_server_error])
