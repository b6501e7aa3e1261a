"""Settings of the server: what the code says < a TOML file < the environment (RIVERRUN_GROUP__NAME)."""

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from riverrun.streaming.logs import Form, Level

PREFIX = "RIVERRUN_"
SPARE = 4  # processors from which on the server, its transports and two lanes have room
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _state(name: str) -> Path:
    """A folder where the user's programs keep their state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "riverrun" / name


class Group(BaseModel):
    """A table of the TOML file; keys nobody knows are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Access(Group):
    """Who may connect.

    `hosts` and `origins` are the Host and Origin headers taken beside the server's own address. `keys` are SHA-256
    digests of API keys (`riverrun serve --new-key` makes one); without any, only loopback may be bound to. Who begins a
    request has to send its head within `start` seconds, and may then not pause for `stall`, sending or taking.
    """

    hosts: list[str] = []
    origins: list[str] = []
    keys: list[str] = []
    requests: float = Field(default=20, gt=0)  # a second and address
    burst: int = Field(default=60, ge=1)
    connections: int = Field(default=256, ge=1)  # an address, at once
    start: float = Field(default=10.0, gt=0)  # seconds
    stall: float = Field(default=30.0, gt=0)  # seconds

    @field_validator("keys")
    @classmethod
    def _digests(cls, keys: list[str]) -> list[str]:
        for key in keys:
            if len(key) != 64 or set(key) - set("0123456789abcdef"):
                raise ValueError(
                    "a key is no SHA-256 digest in hex: make one with `riverrun serve --new-key`"
                )
        return keys


class Streams(Group):
    """Live streams over WebSocket."""

    sessions: int = Field(default=32, ge=1)
    per_address: int = Field(default=16, ge=1)
    window: float = Field(default=1.0, gt=0)  # seconds of input that may be unacknowledged
    journal: float = Field(default=10.0, gt=0)  # seconds of output kept until acknowledged
    journal_bytes: int = Field(default=4 << 20, ge=1 << 16)
    resume: float = Field(default=30.0, ge=0)  # seconds a lost connection is waited for
    snapshot: float = Field(default=3.0, gt=0)  # seconds between saved states
    idle: float = Field(default=120.0, gt=0)  # seconds without a message before a connection is closed
    stall: float = Field(default=30.0, gt=0)  # seconds a write may take
    ping: float = Field(default=20.0, gt=0)  # seconds between pings, and that their answers may take
    controls: float = Field(default=50, gt=0)  # control messages a second
    start: float = Field(default=10.0, gt=0)  # seconds until the first message
    delay: float = Field(default=0.1, gt=0)  # seconds from capture to leaving that live sound is aimed at
    drain: float = Field(default=10.0, ge=0)  # seconds that open streams get when the server is told to stop


class Compute(Group):
    """The engine that steps models.

    With 2 `lanes`, what is live has one for itself; where there are few processors, two only get in one another's
    way, and live work goes before the rest in one. `presets` are by the names of models that have any: which one is
    served, rather than the one of least latency that keeps pace here.
    """

    process: bool = True  # of its own
    lanes: int = Field(default_factory=lambda: 2 if (os.cpu_count() or 1) >= SPARE else 1, ge=1, le=2)
    threads: int = Field(default=1, ge=1)  # a lane
    presets: dict[str, str] = {}
    memory: int | None = Field(default=None, ge=1 << 20)  # bytes of models; without it, all stay
    stuck: float = Field(
        default=10.0, gt=0
    )  # seconds after which a step is given up on, and the engine with it


class Files(Group):
    """Uploads."""

    bytes: int = Field(default=200 << 20, ge=1)
    seconds: float = Field(default=4 * 3600, gt=0)
    at_once: int = Field(default=2, ge=1)
    memory: int = Field(default=2 << 30, ge=1 << 28)  # bytes, of the process that decodes one
    cpu: int = Field(default=600, ge=1)  # seconds of processor time, of the same
    journal_bytes: int = Field(default=8 << 20, ge=1 << 16)  # of a reply that may be taken up again


class Speaking(Group):
    """Speech of texts."""

    characters: int = Field(default=200_000, ge=1)  # of one request
    mark: bool = True  # by which generated speech can be known, not heard


class Showing(Group):
    """Pictures of prompts."""

    prompt: int = Field(default=2_000, ge=1)  # characters
    seconds: float = Field(default=600, gt=0)  # of one request that says how many
    bytes: int = Field(default=32 << 20, ge=1)  # of a picture that is uploaded


class Jobs(Group):
    """Batch jobs.

    `folder` is made when the first job comes; without one, it is riverrun/jobs where the user's programs keep their
    state.
    """

    folder: Path | None = None
    at_once: int = Field(default=2, ge=1)  # lines that are being made
    keep: float = Field(default=30, gt=0)  # days after its end that a job is kept
    lines: int = Field(default=10_000, ge=1)  # of one job
    bytes: int = Field(default=2 << 30, ge=1)  # of all files of one job
    waiting: int = Field(default=100_000, ge=1)  # lines that may be queued, of all jobs

    @property
    def home(self) -> Path:
        """Where jobs are kept."""
        return self.folder or _state("jobs")


class Voices(Group):
    """Custom voices and consents.

    `folder` is made when the first consent comes; without one, it is riverrun/voices where the user's programs keep
    their state. `bytes` and `seconds` are of one recording, the others of one owner.
    """

    folder: Path | None = None
    bytes: int = Field(default=10 << 20, ge=1)
    seconds: float = Field(default=120, ge=1)
    voices: int = Field(default=100, ge=0)
    consents: int = Field(default=100, ge=0)
    kept: int = Field(default=256 << 20, ge=1)  # bytes on the disk

    @property
    def home(self) -> Path:
        """Where voices are kept."""
        return self.folder or _state("voices")


class IceServer(Group):
    """A STUN or TURN server."""

    url: str = Field(pattern=r"^(stun|turn)s?:")
    username: str = ""
    credential: str = ""


class WebRTC(Group):
    """Calls.

    `hosts` are the addresses ICE offers (none: all of the machine's); `nat` maps one of them to its public one.
    `ice_servers` are told to clients; with `gather`, the server asks them for candidates of its own, too.
    """

    ice_servers: list[IceServer] = []
    gather: bool = False
    hosts: list[str] = []
    nat: dict[str, str] = {}
    sessions: int = Field(default=16, ge=1)  # callers and listeners
    ice_timeout: float = Field(default=15.0, gt=0)  # seconds
    idle: float = Field(default=10.0, gt=0)  # seconds without a packet after which a caller counts as gone


class Settings(BaseSettings):
    """All settings; `read` adds a file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    models: list[str] = [
        "restore-lite", "vocode-lite", "speak-lite", "convert-lite", "clean-convert-lite", "show-lite",
    ]  # fmt: skip
    device: str = "cpu"
    metrics: bool = True
    log: Form = "text"
    log_level: Level = "info"
    access: Access = Access()
    compute: Compute = Compute()
    streams: Streams = Streams()
    files: Files = Files()
    speech: Speaking = Speaking()
    show: Showing = Showing()
    jobs: Jobs = Jobs()
    voices: Voices = Voices()
    webrtc: WebRTC = WebRTC()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = settings_cls.model_config.get("toml_file")
        toml = (TomlConfigSettingsSource(settings_cls, file),) if file else ()
        return init_settings, env_settings, *toml


def read(file: Path | None = None, **given: Any) -> Settings:
    """Settings with a file's; what is `given` wins over all.

    Raises ValueError that names every wrong key, and OSError if the file cannot be read.
    """
    groups = {name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).split("__")[0].upper() not in groups:
            raise ValueError(f"{name} in the environment is no setting, expected one of {sorted(groups)}")
    if file is None:
        return Settings(**given)
    file.read_bytes()  # a source that is missing would count as empty

    class Filed(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    return Filed(**given)
