"""Who may import what: a walk over the syntax trees of the sources, so that layers stay layers."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
CLIENT = (  # of sdk/, over the wire
    *("answers", "arrays", "asked", "blocking", "client", "link", "live", "shows", "transfer", "videos"),
    *("caller", "load", "playout", "usage"),
)
CLIENT_FILES = tuple(f"sdk/{name}.py" for name in CLIENT)
HEAVY = ("torch", "torchaudio", "av", "scipy", "numpy", "onnxruntime", "asyncio", "rich", "typer")


@dataclass(frozen=True)
class Import:
    """One name imported by one file; `lazy` when inside a function, so not run by importing the file."""

    file: str
    line: int
    name: str
    lazy: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"

    def under(self, *packages: str) -> bool:
        return any(self.name == p or self.name.startswith(p + ".") for p in packages)


def imports(nodes: Iterable[ast.AST], file: str, lazy: bool = False) -> Iterator[Import]:
    """Every import in and below these nodes, but those only type checkers see."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (Import(file, node.lineno, full(base, alias.name), lazy) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from imports(node.orelse, file, lazy)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from imports(ast.iter_child_nodes(node), file, lazy or inside)


def full(base: str, name: str) -> str:
    """`from a import b` names a module a.b only when there is one; else the module is a."""
    parent = FOLDERS.get(base)
    below = parent and (ROOT / parent / f"{name}.py", ROOT / parent / name / "__init__.py")
    return f"{base}.{name}" if below and any(path.exists() for path in below) else base


def sources() -> list[Import]:
    files = [path for folder in FOLDERS.values() for path in (ROOT / folder).glob("*.py")]
    return [
        found
        for path in files
        for found in imports([ast.parse(path.read_text())], path.relative_to(ROOT).as_posix())
    ]


EVERY = sources()


def within(*folders: str) -> list[Import]:
    return [i for i in EVERY if i.file.startswith(tuple(f"{folder}/" for folder in folders))]


def breaches(found: list[Import], *banned: str, allowed: tuple[str, ...] = ()) -> list[str]:
    return [str(i) for i in found if i.under(*banned) and not i.under(*allowed)]


def test_the_walk_sees_lazy_nested_and_typing_imports() -> None:
    text = """
import av
if TYPE_CHECKING:
    import torch
else:
    import scipy
def f():
    from riverrun.media import chunk, Chunk
class A:
    import numpy.linalg
"""
    found = {(i.name, i.lazy) for i in imports([ast.parse(text)], "x.py")}
    assert found == {
        ("av", False),
        ("scipy", False),
        ("riverrun.media.chunk", True),
        ("riverrun.media", True),
        ("numpy.linalg", False),
    }


def test_every_import_of_ours_is_absolute() -> None:
    assert not [str(i) for i in EVERY if i.name.startswith(".")]


def test_media_imports_nothing_of_ours_but_itself() -> None:
    assert not breaches(within("media"), "riverrun", allowed=("riverrun.media",))


def test_models_import_media_and_models_only() -> None:
    allowed = ("riverrun.media", "riverrun.models", "riverrun.assets")
    assert not breaches(within("models"), "riverrun", allowed=allowed)


def test_streaming_imports_downwards_only() -> None:
    allowed = ("riverrun.media", "riverrun.models", "riverrun.streaming")
    assert not breaches(within("streaming"), "riverrun", allowed=allowed)


def test_sdk_sees_only_the_parts_of_streaming_meant_for_it() -> None:
    parts = {
        "sdk/cli/serve.py": ("server",),
        **dict.fromkeys(CLIENT_FILES, ("wire", "journal", "problems")),
        **dict.fromkeys(("sdk/cli/batch.py", "sdk/remote.py"), ("jobs",)),
    }
    for i in within("sdk"):
        seen = ("session", "overlap", "engine", "errors", *parts.get(i.file, ()))
        allowed = tuple(f"riverrun.streaming.{part}" for part in seen)
        assert not breaches([i], "riverrun.streaming", allowed=allowed)


def test_sdk_imports_what_is_heavy_inside_functions() -> None:
    """But for measure.py and the client, which are themselves imported inside functions only."""
    late = {"sdk/measure.py", *CLIENT_FILES}
    ours = ("riverrun.media", "riverrun.models", "riverrun.streaming", "riverrun.measure")
    others = ("torch", "torchaudio", "scipy", "numpy", "rich", "asyncio", "httpx", "websockets")
    eager = [i for i in within("sdk") if not i.lazy and i.file not in late]
    assert not breaches(eager, *ours, *(f"riverrun.{name}" for name in CLIENT), *others)


@pytest.mark.parametrize(
    ("library", "doors"),
    [
        ("av", ("media/", "streaming/opus.py", "sdk/caller.py")),
        (
            "torch",
            (
                "models/",
                "streaming/engine.py",
                "streaming/lane.py",
                "streaming/shelf.py",
                "streaming/admission.py",
                "sdk/local.py",
                "sdk/cli/",
            ),
        ),
        ("threading", ("streaming/batch.py", "streaming/lane.py", "streaming/shelf.py", "sdk/blocking.py")),
        ("concurrent", ("streaming/lane.py",)),
        ("asyncio", ("streaming/", "sdk/")),
        ("aiortc", ("streaming/peer.py", "streaming/cast.py", "streaming/webrtc.py", "sdk/caller.py")),
        ("aioice", ("streaming/peer.py",)),
        (
            "PIL",
            (
                "media/pictures.py",
                "models/training/world/",
                "models/evaluation/finding.py",
                "models/evaluation/pixels.py",
            ),
        ),
        ("diffusers", ("models/",)),
        ("transformers", ("models/",)),
        ("onnxruntime", ("models/evaluation/", "models/training/")),
    ],
)
def test_a_heavy_library_enters_at_its_doors_only(library: str, doors: tuple[str, ...]) -> None:
    assert not breaches([i for i in EVERY if not i.file.startswith(doors)], library)


@pytest.mark.parametrize(
    "library", ["diffusers", "transformers", "onnxruntime", "accelerate", "pyroomacoustics"]
)
def test_an_optional_library_is_imported_when_it_is_needed(library: str) -> None:
    assert not breaches([i for i in EVERY if not i.lazy], library)


def loaded_after(statement: str) -> set[str]:
    """Which heavy modules a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return set(done.stdout.split())


def test_importing_riverrun_loads_nothing_heavy() -> None:
    assert loaded_after("import riverrun") == set()


def test_importing_media_leaves_torch_out() -> None:
    assert "torch" not in loaded_after("import riverrun.media")


def test_a_server_whose_engine_is_elsewhere_does_without_torch() -> None:
    assert "torch" not in loaded_after("import riverrun.streaming.server")


def test_help_loads_no_model_and_no_media() -> None:
    done = "import riverrun.cli, contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n"
    done += " try: riverrun.cli.main(['--help'])\n except SystemExit: pass\n"
    code = f"exec({done!r})"
    assert not loaded_after(code) & {"torch", "torchaudio", "av", "scipy", "numpy", "onnxruntime", "asyncio"}
