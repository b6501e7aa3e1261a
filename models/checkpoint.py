"""Checkpoints: strict safetensors with the model's config in the header."""

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from riverrun.models.errors import CheckpointError

T = TypeVar("T")
CONFIG = "riverrun.config"  # key of the header that holds the config as JSON
KIND = "riverrun.kind"  # key of the header that names the model family
INDEX = "model.safetensors.index.json"  # what publishers call the list of a checkpoint's files
PLAIN: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}


def build(kind: type[T], data: Any) -> T:
    """Make a (nested) frozen dataclass from plain JSON data, refusing unknown and missing keys.

    Raises CheckpointError for what is not of the type it should be, or what the dataclass refuses.
    """
    hints = typing.get_type_hints(kind)
    if not isinstance(data, Mapping) or (unknown := set(data) - set(hints)):
        extra = sorted(unknown) if isinstance(data, Mapping) else repr(data)[:40]
        raise CheckpointError(f"config of {kind.__name__} holds {extra}, expected keys {sorted(hints)}")
    try:
        return kind(**{name: _value(hints[name], value) for name, value in data.items()})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"config of {kind.__name__} is not usable: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        wanted = [o for o in options if o is not type(None)]
        lists = [o for o in wanted if typing.get_origin(o) is tuple]
        return _value(lists[0] if isinstance(value, list) and lists else wanted[0], value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(options[0], v) for v in value)
    if origin is typing.Literal and value in options:
        return value
    if hint in PLAIN and type(value) in PLAIN[hint] and value == value:  # nor is NaN a number
        return value
    raise ValueError(f"{value!r:.40} is not {getattr(hint, '__name__', '')}{list(options) or ''}")


def save(
    path: Path, module: nn.Module, kind: str, config: Any, notes: Mapping[str, str] | None = None
) -> None:
    """Write weights with their config; matrices as float16, everything small as float32.

    The file appears whole or not at all. `notes` are further header strings.
    """
    tensors = {
        name: (value.half() if value.ndim > 1 and value.numel() > 4096 else value.float())
        for name, value in module.state_dict().items()
    }
    write(path, tensors, kind, config, notes)


def write(
    path: Path, tensors: Mapping[str, Tensor], kind: str, config: Any, notes: Mapping[str, str] | None = None
) -> None:
    """Write tensors as they are with the config of what takes them. The file appears whole or not at all."""
    from safetensors.torch import save_file

    header = {KIND: kind, CONFIG: json.dumps(dataclasses.asdict(config)), **(notes or {})}
    temporary = path.with_name(path.name + ".tmp")
    temporary.touch()
    mode = temporary.stat().st_mode  # as the user wants files to be, and safetensors does not make them
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, header)
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def header(path: Path) -> dict[str, str]:
    """The header strings of a safetensors file. Raises CheckpointError."""
    with _opened(path) as file:
        return file.metadata() or {}


def read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header strings and the tensors of a safetensors file. Raises CheckpointError."""
    with _opened(path) as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """How large the tensors of a safetensors file are; none is read. Raises CheckpointError."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error}); only safetensors are read"
        ) from error


def gather(path: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint: one file, an index of several, or the folder that holds either.

    Raises CheckpointError if a file is missing or does not hold what the index says it does.
    """
    if path.is_dir():
        index, single = path / INDEX, path / INDEX.removesuffix(".index.json")
        path = index if index.exists() else single
    if path.suffix != ".json":
        return read(path)[1]
    try:
        shards = json.loads(path.read_bytes())["weight_map"]
        files = sorted(set(shards.values()))
        outside = [name for name in files if Path(name).name != name]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not an index of safetensors files: {error!r}") from error
    if outside:
        raise CheckpointError(f"{path} names {outside[0]!r}, expected a file beside it")
    tensors: dict[str, Tensor] = {}
    for name in files:
        held = read(path.with_name(name))[1]
        if absent := [k for k, file in shards.items() if file == name and k not in held]:
            raise CheckpointError(
                f"{path.with_name(name)}: missing {absent[0]}, which {path.name} says it holds"
            )
        tensors |= held
    return tensors


def config(header: Mapping[str, str], kind: str, of: type[T], path: Path) -> T:
    """The config in a header. Raises CheckpointError if there is none or it is of another kind."""
    if header.get(KIND) != kind or CONFIG not in header:
        found = header.get(KIND, "nothing")
        raise CheckpointError(f"{path} says it holds {found!r}, expected a checkpoint of kind {kind!r}")
    try:
        data = json.loads(header[CONFIG])
    except ValueError as error:
        raise CheckpointError(f"{path}: the config in its header is not JSON") from error
    try:
        return build(of, data)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give a module its weights, strictly; they are converted to the module's dtypes.

    Raises CheckpointError naming what is missing, unexpected or mis-shaped.
    """
    want = module.state_dict()
    wrong = [
        *(f"missing {k}" for k in want if k not in tensors),
        *(f"unexpected {k}" for k in tensors if k not in want),
        *(
            f"{k} has shape {tuple(tensors[k].shape)}, expected {tuple(want[k].shape)}"
            for k in want
            if k in tensors and tensors[k].shape != want[k].shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(f"{path} does not fit: {'; '.join(wrong[:5])}{more}")
    module.load_state_dict({k: v.to(want[k].dtype) for k, v in tensors.items()}, assign=True)


def parameters(module: nn.Module) -> int:
    """How many values a module holds, buffers of statistics left out."""
    fixed = [b for name, b in module.named_buffers() if "running" not in name]
    return sum(p.numel() for p in module.parameters()) + sum(b.numel() for b in fixed)


def on_meta(make: typing.Callable[[], nn.Module]) -> nn.Module:
    """Build a module without memory for its weights."""
    with torch.device("meta"):
        return make()
