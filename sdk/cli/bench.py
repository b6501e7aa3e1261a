"""riverrun bench: how good and how fast, beside others, on recordings nothing was trained on."""

import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from riverrun.models.evaluation.converters import System as Changer
    from riverrun.models.evaluation.heldout import Item
    from riverrun.models.evaluation.lines import Line
    from riverrun.models.evaluation.pairs import Material, Pair
    from riverrun.models.evaluation.peers import System
    from riverrun.models.evaluation.recordings import Packages
    from riverrun.models.evaluation.speakers import Talker
    from riverrun.models.evaluation.speaking import Bench, Judges, Sound
    from riverrun.models.training.world.sprites import Bank
    from riverrun.models.video.lite import ShowLiteNet

app = typer.Typer(add_completion=False, no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", "-o", help="The folder of tables, scores and pictures.")]
Model = Annotated[str | None, typer.Option(help="A name `riverrun models` lists, or weights.")]
Real = Annotated[int, typer.Option(min=1, help="Mixtures with real speech; fewer are another set.")]
Synthetic = Annotated[int, typer.Option(min=1, help="Mixtures with synthetic speech.")]


class Recogniser(Enum):
    """What counts the words that are wrong."""

    tiny = "tiny"
    base = "base"


@app.callback()
def bench() -> None:
    """Measure a model beside others; needs the extra `bench`."""


@app.command()
def restore(
    out: Out = Path("out/bench"),
    model: Model = None,
    real: Real = 42,
    synthetic: Synthetic = 32,
) -> None:
    """Judge speech restoration: noisy input, other systems, and ours, offline and streamed."""
    import torch

    from riverrun.measure import Clip, Streamed
    from riverrun.models.evaluation.peers import peers
    from riverrun.models.evaluation.recordings import Packages, cache
    from riverrun.models.evaluation.restoration import bench

    torch.set_num_threads(1)  # the real-time factors are of one core
    ours = loaded("restore", model)
    systems: list[System] = [Clip(*ours), Streamed(*ours)]
    packages = Packages(cache())
    kept = cache().parent / "scores"
    typer.echo(bench(peers(packages), systems, items(real, synthetic), out, kept, tell))
    typer.echo(f"also in {out}: table.md, scores.json, pictures", err=True)


@app.command()
def vocode(
    out: Out = Path("out/bench"),
    model: Model = None,
    real: Real = 42,
    synthetic: Synthetic = 32,
) -> None:
    """Judge mel vocoding beside Griffin-Lim, which sees the whole clip."""
    import torch

    from riverrun.measure import Streamed
    from riverrun.models.evaluation.restoration import GriffinLim, bench_vocoding

    torch.set_num_threads(1)
    systems: list[System] = [GriffinLim(32), GriffinLim(200), Streamed(*loaded("mel", model))]
    typer.echo(bench_vocoding(systems, items(real, synthetic), out, tell))


@app.command()
def autoencoder(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="What `riverrun train speech` made of it.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Recordings it has not learned from.")],
    count: Annotated[int, typer.Option(min=1, help="How many of them.")] = 60,
) -> None:
    """Judge what is left of recordings that have been latents of speech."""
    import torch

    from riverrun.models.evaluation.autoencoder import bench, recordings
    from riverrun.models.speech.vae import load

    torch.set_num_threads(1)
    model = load(weights)
    typer.echo(bench(model, list(recordings(folder, count, model.config.rate))))


@app.command()
def speak(
    model: Annotated[
        str | None, typer.Option(help="What `riverrun train speech` made. Default: only the others.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="Recordings with a manifest.jsonl; its split heldout is said. Default: Harvard sentences."
        ),
    ] = None,
    sentences: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Evaluations a chunk. Default: the model's own.")
    ] = None,
    best_of: Annotated[
        int, typer.Option(min=1, max=16, help="Judge ours also where it says each sentence so many times.")
    ] = 1,
    half: Annotated[bool, typer.Option("--half", help="Judge ours in half precision, too.")] = False,
    people: Annotated[bool, typer.Option(help="Clone people, too, whose recordings packages carry.")] = True,
    whisper: Annotated[Recogniser, typer.Option(help="Counts wrong words.")] = Recogniser.tiny,
    peers: Annotated[bool, typer.Option(help="Judge the other systems that are here, too.")] = True,
    keep: Annotated[Path | None, typer.Option(help="A folder for all that is said, as .wav.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every sentence instead of the table.")] = False,
) -> None:
    """Judge text to speech: ours in named and cloned voices, recordings, and other systems."""
    import torch

    from riverrun.models.evaluation import speakers
    from riverrun.models.evaluation.lines import harvard, read
    from riverrun.models.evaluation.recordings import Packages, cache
    from riverrun.models.evaluation.speaking import bench

    torch.set_num_threads(1)
    packages = Packages(cache())
    lines, voices = read(corpus, sentences) if corpus else (harvard(sentences), {})
    talkers = spoken(model, steps, bool(corpus), best_of, half)
    talkers += speakers.peers(packages, tell) if peers else []
    judges = listeners(packages, whisper, bool(voices) or (people and model is not None))
    done = bench(talkers, lines, voices, judges, keeping(keep), tell)
    theirs = cloned(packages, model, steps, lines, judges, keep) if model and people else None
    if as_json:
        document = done.document() | ({"people": theirs.document()} if theirs else {})
        typer.echo(json.dumps(document, indent=1))
    else:
        typer.echo(done.table() + (f"\n\nPeople:\n\n{theirs.table()}" if theirs else ""))


def cloned(
    packages: "Packages",
    model: str,
    steps: int | None,
    lines: "list[Line]",
    judges: "Judges",
    keep: Path | None,
) -> "Bench | None":
    """Judge ours in the voices of people, if they can be had."""
    from riverrun.measure import Cloned
    from riverrun.models.errors import ModelError
    from riverrun.models.evaluation.lines import people
    from riverrun.models.evaluation.speakers import Recorded, Talker
    from riverrun.models.evaluation.speaking import bench
    from riverrun.speaker import Speaker

    try:
        said, voices = people(packages, lines)
    except ModelError as error:
        tell(f"people are not cloned: {error}")
        return None
    talkers: list[Talker] = [Recorded(), Cloned(Path(model).stem, Speaker(model, steps=steps))]
    return bench(talkers, said, voices, judges, keeping(keep and keep / "people"), tell)


@app.command()
def convert(
    model: Annotated[
        str | None,
        typer.Option(help="convert-lite, or what `riverrun train voice` made. Default: only the others."),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(help="Recordings with a manifest.jsonl; the voices of its split heldout are converted."),
    ] = None,
    people: Annotated[
        bool, typer.Option(help="Convert people, too, whose recordings packages carry.")
    ] = True,
    pairs: Annotated[int, typer.Option(min=1, help="How many, of each of both.")] = 20,
    whisper: Annotated[Recogniser, typer.Option(help="Counts wrong words.")] = Recogniser.tiny,
    keep: Annotated[Path | None, typer.Option(help="A folder for all that is made, as .wav.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every pair instead of the tables.")] = False,
) -> None:
    """Judge voice conversion: ours live, in other voices and the own, the source, and a vocoder that moves pitch."""
    import torch

    from riverrun.models.evaluation.converting import bench
    from riverrun.models.evaluation.recordings import Packages, cache

    torch.set_num_threads(1)
    packages = Packages(cache())
    material = paired(packages, corpus, people, pairs)
    judges = listeners(packages, whisper, True)

    def kept(name: str, pair: "Pair", sound: "Sound", rate: int) -> None:
        if keep:
            stem = f"{pair.number:03}-{pair.source}-{pair.target}"
            store(keep / pair.part.replace(" ", "-"), name, stem, sound, rate)

    done = bench(changers(model), material, judges, kept, tell)
    typer.echo(json.dumps(done.document(), indent=1) if as_json else done.table())


def paired(packages: "Packages", corpus: Path | None, people: bool, count: int) -> "Material":
    """Who is converted into whom. Raises ModelError if there is nobody."""
    from riverrun.models.errors import ModelError
    from riverrun.models.evaluation import pairs

    found = [pairs.corpus(corpus, count)] if corpus else []
    try:
        found += [pairs.people(packages, count)] if people else []
    except ModelError as error:
        tell(f"people are not converted: {error}")
    if not found:
        raise ModelError("there is nobody to convert: name a --corpus")
    return found[0] if len(found) == 1 else found[0] + found[1]


def changers(model: str | None) -> "list[Changer]":
    """The source as it is, a vocoder, and our model, without what it is behind live."""
    from riverrun.models.evaluation.converters import Recorded, Streamed, World
    from riverrun.models.registry import MODELS
    from riverrun.models.voice.lite import load

    found: list[Changer] = [Recorded(), World()]
    if model:
        path = MODELS[model].path if model in MODELS else Path(model)
        ours = load(path)
        found += [Streamed(path.stem, ours, own=True), Streamed(path.stem, ours)]
    return found


def spoken(model: str | None, steps: int | None, corpus: bool, best_of: int, half: bool) -> "list[Talker]":
    """Recordings where there is a corpus, and our model in its voices, those of the corpus, and other manners."""
    from riverrun.measure import Cloned, Named
    from riverrun.models.evaluation.speakers import Recorded
    from riverrun.speaker import Speaker

    found: list[Talker] = [Recorded()] if corpus else []
    if model:
        name, speaker = Path(model).stem, Speaker(model, steps=steps)
        found += [Named(name, speaker), *([Cloned(name, speaker)] if corpus else [])]
        if best_of > 1:
            found += [Named(f"{name}, best of {best_of}", Speaker(model, steps=steps, best_of=best_of))]
        if half:
            found += [Named(f"{name}, half precision", Speaker(model, steps=steps, half=True))]
    return found


def listeners(packages: "Packages", whisper: Recogniser, voices: bool) -> "Judges":
    """The judges that can be had."""
    from riverrun.models.errors import ModelError
    from riverrun.models.evaluation.hearing import Whisper, tiny
    from riverrun.models.evaluation.likeness import Resemblyzer
    from riverrun.models.evaluation.speaking import Judges

    hear = Whisper(tiny() if whisper is Recogniser.tiny else packages.whisper())
    try:
        return Judges(whisper.value, hear, Resemblyzer(packages).embed if voices else None)
    except ModelError as error:
        tell(f"voices are not compared: {error}")
        return Judges(whisper.value, hear)


def keeping(folder: Path | None) -> "Callable[[str, Line, Sound, int], None]":
    """Write what is said to folder/SYSTEM/NUMBER.wav, if there is to be a folder."""

    def keep(name: str, line: "Line", sound: "Sound", rate: int) -> None:
        if folder:
            store(folder, name, f"{line.number:03}", sound, rate)

    return keep


def store(folder: Path, system: str, stem: str, sound: "Sound", rate: int) -> None:
    """Write what a system made to folder/SYSTEM/STEM.wav."""
    from riverrun.media import write

    path = folder / system.replace(" ", "-").replace(",", "") / f"{stem}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, sound[:, None], rate)


@app.command()
def video(
    model: Annotated[
        str | None,
        typer.Option(help="A name, or what `riverrun train video` made. Default: what comes along."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Random weights of a shape instead: stdit3-xl or show-lite.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="ROWSxCOLUMNS", help="Of a preset's pictures, such as 480x854.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Of a clip.")] = 27,
    steps: Annotated[
        list[int] | None, typer.Option(min=1, max=100, help="Evaluations. Default: 2, 4, 8 and 30.")
    ] = None,
    delta: Annotated[
        list[float] | None, typer.Option(min=0, help="Of TeaCache. Default: 0.05, 0.1 and 0.2.")
    ] = None,
    caching: Annotated[bool, typer.Option(help="Judge feature caching, at the most steps.")] = True,
    prompt: Annotated[
        str, typer.Option(help="Of the clips that are timed.")
    ] = "a red star moves to the left",
    scenes: Annotated[int, typer.Option(min=0, help="Held-out ones that captions are judged by.")] = 24,
    drift: Annotated[
        float, typer.Option(min=0, help="Seconds of a stream to compare with its beginning.")
    ] = 60,
    sprites: Annotated[
        Path | None, typer.Option(help="What `train sprites` wrote. Default: drawn once, into the cache.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Every clip instead of the tables.")] = False,
) -> None:
    """Judge what shows: speed by stage, streamed and whole, feature caching, and how captions are followed."""
    from riverrun.models.evaluation.showing import Plan, bench, of_world
    from riverrun.models.inference import inference

    name, net = shower(model, preset, size, frames, device)
    judged = of_world(net.config) and not preset
    deltas = tuple(delta or Plan.deltas) if caching else ()
    plan = Plan(prompt, frames, tuple(steps or Plan.steps), deltas, scenes * judged, 0.0 if preset else drift)
    with inference(threads):
        done = bench(name, net, plan, banked(sprites) if plan.scenes else None, tell)
    typer.echo(json.dumps(done.document(), indent=1) if as_json else done.table())


def shower(
    model: str | None, preset: str | None, size: str | None, frames: int, device: str
) -> "tuple[str, ShowLiteNet]":
    """The networks to judge and what they are called. Raises InvalidRequest for what does not show."""
    from riverrun import models
    from riverrun.local import OTHER
    from riverrun.models.evaluation.untrained import build

    if preset:
        return f"{preset} of random weights", build(preset, sides(size) if size else None, frames, device)
    if size:
        raise models.InvalidRequest("the size of a model's pictures is its own: name a --preset")
    name = model or models.for_task("show")
    found: Any = models.load(name, device)
    if not found.spec.shows:
        raise models.InvalidRequest(OTHER)
    return Path(name).stem, found.net


def sides(size: str) -> tuple[int, int]:
    """ROWSxCOLUMNS. Raises BadParameter."""
    rows, _, columns = size.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise typer.BadParameter(f"{size!r} is no ROWSxCOLUMNS, such as 480x854")
    return int(rows), int(columns)


def banked(sprites: Path | None) -> "Bank":
    """The sprites of the world, drawn on the first run. Raises ModelError."""
    from riverrun.models.evaluation.recordings import Packages, cache
    from riverrun.models.training.world.sprites import build, load

    path = sprites or cache() / "sprites.npz"
    if sprites is None and not path.exists():
        tell("drawing sprites, once")
        build([Packages(cache()).npm("emoji")]).save(path)
    return load(path)


@app.command()
def mark(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Speech. Default: the sample in the package.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many of its recordings.")] = 60,
    rate: Annotated[int, typer.Option(min=8000, help="At which they are marked, in Hz.")] = 24_000,
) -> None:
    """Measure what the mark of generated speech costs, and whether it is found, before and after Opus."""
    from importlib.resources import files

    import torch

    from riverrun.models.evaluation.autoencoder import recordings
    from riverrun.models.evaluation.marking import bench

    torch.set_num_threads(1)
    source = folder or Path(str(files("riverrun.assets") / "sample-clean.flac"))
    typer.echo(bench(list(recordings(source, count, rate)), rate, tell))


def loaded(task: str, model: str | None) -> tuple[str, Any]:
    """The name and the model to judge."""
    from riverrun import models

    name = model or models.for_task(task)
    return Path(name).stem, models.load(name)


def items(real: int, synthetic: int) -> "list[Item]":
    """The held-out set, its recordings fetched on the first run."""
    from riverrun.models.evaluation.heldout import fetched
    from riverrun.models.evaluation.recordings import Packages, cache

    return fetched(Packages(cache()), real, synthetic)


def tell(text: str) -> None:
    """Say how it goes."""
    typer.echo(text, err=True)
