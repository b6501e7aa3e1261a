"""What deploy/ holds fits the project: every metric it shows exists, every command and setting it gives works."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from riverrun.streaming.metrics import Metrics
from riverrun.streaming.settings import read
from tests.streaming.serving import server

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
BOARD = json.loads((DEPLOY / "grafana.json").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
CONTAINER = (DEPLOY / "Containerfile").read_text()
DOCS = "".join((ROOT / name).read_text() for name in ("README.md", "deploy/README.md"))
NAME = re.compile(r"\b(?:riverrun_[a-z_]+|process_[a-z_]+)(?!\w)")


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all samples and metrics there are."""
    metrics = Metrics("1")
    metrics.engine.told = {"lanes": [], "models": {}, "process": os.getpid()}
    families = list(text_string_to_metric_families(metrics.text().decode()))
    names = {sample.name for family in families for sample in family.samples}
    for family in families:
        names |= {family.name, f"{family.name}_total"} if family.type == "counter" else {family.name}
        names |= {f"{family.name}_bucket"} if family.type == "histogram" else set()
    return names


def queries() -> Iterator[str]:
    """All that the dashboard asks Prometheus for."""
    for panel in BOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (v["definition"] for v in BOARD["templating"]["list"] if v["type"] == "query")


def test_the_dashboard_asks_for_what_there_is(known: set[str]) -> None:
    for query in queries():
        names = NAME.findall(query)
        assert names and not set(names) - known, query
        assert all(query.count(a) == query.count(b) for a, b in ("()", "{}", "[]")), query
        for name in names:  # a counter by its rate, anything else by its value
            moving = re.search(rf"(rate|increase)\({name}\b", query)
            assert bool(moving) == name.endswith(("_total", "_bucket")), query


def test_the_dashboard_can_be_imported_anywhere() -> None:
    source, server = BOARD["templating"]["list"]
    assert source["type"] == "datasource" and source["query"] == "prometheus"
    where = {"type": "prometheus", "uid": "${datasource}"}
    assert server["datasource"] == where and "id" not in BOARD
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert panel["datasource"] == where and all(t["datasource"] == where for t in panel["targets"])


def test_every_metric_is_shown_and_told_of(known: set[str]) -> None:
    told = set(NAME.findall(DOCS))
    assert not {name for name in told if not name.endswith("_")} - known
    ours = {name for name in known if name.startswith("riverrun_") and "_process_" not in name}
    plain = {name for name in ours if not name.endswith(("_created", "_sum", "_count", "_bucket"))}
    missing = {name for name in plain if not {name, f"{name}_total"} & told}
    assert not missing, "a metric nobody is told of"
    shown = set(NAME.findall(" ".join(queries())))
    unseen = {n for n in plain - {"riverrun_info"} if not {n, f"{n}_total", f"{n}_bucket"} & shown}
    assert unseen <= {"riverrun_lane_sessions"}


def instructions(name: str) -> list[str]:
    """The arguments of an instruction of the Containerfile, wherever it stands."""
    joined = CONTAINER.replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_the_container_holds_the_package_and_nothing_runs_as_root() -> None:
    copied = {part for line in instructions("COPY") if "--from" not in line for part in line.split()[:-1]}
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {folder.split("/")[0] for folder in setuptools["package-dir"].values()}
    assert copied == {"pyproject.toml", "README.md", "LICENSE", *folders}
    assert {line.split()[0] for line in instructions("FROM")} == {"python:3.11-slim"}
    assert instructions("USER") == ["riverrun"] and instructions("EXPOSE") == ["8000"]
    assert shlex.join(json.loads(instructions("CMD")[0])) == "riverrun serve"


def test_its_commands_are_those_of_the_readme() -> None:
    build = CONTAINER.splitlines()[0].removeprefix("# ")
    assert build in (ROOT / "README.md").read_text() and build in (DEPLOY / "README.md").read_text()
    install = next(line for line in instructions("RUN") if "pip install" in line)
    assert install.endswith("pip install --no-cache-dir .")


def environment(text: dict[str, str]) -> dict[str, str]:
    """What a service is started with, its variables filled in."""
    return {name: re.sub(r"\$\{\w+:\?[^}]*\}", "0" * 64, value) for name, value in text.items()}


def test_the_settings_of_containers_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = dict(pair.split("=", 1) for line in instructions("ENV") for pair in shlex.split(line))
    given = {**inside, **environment(COMPOSE["services"]["riverrun"]["environment"])}
    for name, value in given.items():
        if name.startswith("RIVERRUN_"):
            monkeypatch.setenv(name, value)
    settings = read()
    assert settings.host == "0.0.0.0" and settings.access.keys and settings.log == "json"
    grace = float(COMPOSE["services"]["riverrun"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.streams.drain + 10, "what drains has to be let"
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]
    (target,) = scraped["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in settings.access.hosts and host in COMPOSE["services"] and int(port) == settings.port
    (secret,) = COMPOSE["services"]["prometheus"]["secrets"]
    assert (
        scraped["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
        and secret in COMPOSE["secrets"]
    )


def test_what_compose_mounts_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    boards = yaml.safe_load((DEPLOY / "provisioning/dashboards/riverrun.yml").read_text())["providers"][0]
    mounted = COMPOSE["services"]["grafana"]["volumes"][1].split(":")[1]
    assert str(Path(mounted).parent) == boards["options"]["path"]
    source = yaml.safe_load((DEPLOY / "provisioning/datasources/prometheus.yml").read_text())["datasources"][
        0
    ]
    assert source["url"].split("/")[2].split(":")[0] in COMPOSE["services"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_health_check_says_whether_streams_are_taken() -> None:
    command = instructions("HEALTHCHECK")[0].split("CMD", 1)[1]
    _, flag, code = json.loads(command)
    async with server() as (at, hub):

        def check() -> int:
            asked = code.replace("127.0.0.1:8000", at)
            return subprocess.run([sys.executable, flag, asked], capture_output=True).returncode

        assert await asyncio.to_thread(check) == 0
        hub.draining = True
        assert await asyncio.to_thread(check) != 0
