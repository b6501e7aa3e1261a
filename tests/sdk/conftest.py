"""A restorer small enough for tests, with the door every user's weights come through: a .safetensors file."""

from dataclasses import replace
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of an untrained restorer of the smallest width."""
    import torch

    from riverrun.models.flow import euler
    from riverrun.models.restoration.backbone import BackboneConfig
    from riverrun.models.restoration.network import Config, Restorer
    from riverrun.models.restoration.stream import save

    torch.manual_seed(0)
    net = BackboneConfig(inputs=1, outputs=2, width=4, multipliers=(1, 1), blocks=1, patch=16, timed=False)
    flow = replace(net, inputs=3, outputs=1, timed=True)
    path: Path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, Restorer(Config("restore", predictor=net, head="mask", flow=flow, tableau=euler(1))))
    return str(path)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
