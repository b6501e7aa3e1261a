"""From sprites to weights that show, in the parts that a stopped run goes on with."""

import json
import math
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from riverrun.cli import main
from riverrun.media import join
from riverrun.models import checkpoint
from riverrun.models.errors import ModelError
from riverrun.models.shown import Shown
from riverrun.models.speech.talk import talk
from riverrun.models.training import flowing, pictures, showing, stories, wording
from riverrun.models.training.holding import hold
from riverrun.models.training.loop import Alone
from riverrun.models.training.world.captions import vocabulary
from riverrun.models.training.world.labels import Labeler
from riverrun.models.training.world.render import Renderer
from riverrun.models.training.world.scenes import draw_story
from riverrun.models.video import causal, lite
from riverrun.models.video.caching import Caching
from riverrun.models.video.causal import Window
from riverrun.models.video.lite import ShowLiteNet
from tests.models.pictures import bank
from tests.models.video import shows
from tests.models.video.shows import config

CPU = Alone(torch.device("cpu"))
BANK = bank()
RECIPE = files("riverrun.models.training") / "recipes" / "show-lite.toml"
PLAN = showing.Plan(
    "sprites.npz",
    "out",
    config(words=vocabulary(), size=(16, 16), guidance=2.0),
    stills=pictures.Recipe(minutes=9, steps=2, batch=2, save_minutes=9),
    autoencoder=pictures.Recipe(minutes=9, steps=2, batch=2, save_minutes=9),
    reading=wording.Recipe(minutes=9, steps=2, batch=2, save_minutes=9),
    looks=flowing.Recipe(minutes=9, steps=2, batch=2, save_minutes=9),
    transformer=flowing.Recipe(minutes=9, steps=3, batch=2, save_minutes=9),
    folding=flowing.Recipe(minutes=9, steps=2, batch=2, save_minutes=9, guidance=2.0),
    reels=1,
    chunks=2,
)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with sprites; reels are short."""
    BANK.save(tmp_path / "sprites.npz")
    monkeypatch.setattr(stories, "REEL", 3)
    return tmp_path


def longer(plan: showing.Plan, **steps: int) -> showing.Plan:
    return replace(plan, **{name: replace(getattr(plan, name), steps=n) for name, n in steps.items()})


def test_sprites_become_weights_that_show_and_a_second_call_goes_on(base: Path) -> None:
    path = showing.run(PLAN, base, CPU)
    model = lite.load(path)
    assert PLAN.config.guidance == 2 and model.config.guidance == 1, "it is folded in"
    shown = join(list(talk(model, Shown("a red circle falls", 1.0)))).data
    assert shown.shape == (12, 16, 16, 3)
    first, again = load_file(path), load_file(showing.run(PLAN, base, CPU))
    assert all(torch.equal(first[name], again[name]) for name in first), "it was done"
    further = load_file(showing.run(longer(PLAN, folding=5), base, CPU))
    same = {name for name in first if torch.equal(first[name], further[name])}
    assert {name for name in first if name.startswith("vae.")} <= same and len(same) < len(first)
    log = (base / "out" / "folding" / "log.jsonl").read_text()
    rows = [json.loads(line) for line in log.splitlines()]
    assert [row["step"] for row in rows] == [2, 5] and rows[0]["first"] > 0


def test_an_autoencoder_may_be_given(base: Path) -> None:
    showing.run(PLAN, base, CPU)
    given = replace(longer(PLAN), weights="out/autoencoder/vae.safetensors", out="other")
    given = replace(
        given, stills=replace(PLAN.stills, minutes=0), autoencoder=replace(PLAN.autoencoder, minutes=0)
    )
    made = load_file(showing.run(given, base, CPU))
    vae = load_file(base / "out" / "autoencoder" / "vae.safetensors")
    assert all(torch.equal(made[f"vae.{name}"], value) for name, value in vae.items())


def test_latents_have_mean_0_and_deviation_1_as_far_as_what_was_seen_tells() -> None:
    torch.manual_seed(0)
    net = ShowLiteNet(config())
    frames = torch.randint(0, 256, (6, 9, 16, 24, 3), dtype=torch.uint8)
    pictures.normed(net.vae, frames)
    latents = net.vae.encode(frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1)
    by_channel = latents.transpose(0, 1).flatten(1)
    assert by_channel.mean(1).abs().max() < 1e-3 and (by_channel.std(1) - 1).abs().max() < 1e-3


def test_an_autoencoder_learns() -> None:
    torch.manual_seed(0)
    vae = ShowLiteNet(config()).vae
    hold(vae.temporal_vae, 1.0)
    course = pictures.Course(vae, pictures.Recipe(rate=3e-3), CPU, still=False)
    frames = torch.zeros(2, 9, 16, 24, 3, dtype=torch.uint8)
    frames[0], frames[1, :, :, 12:] = 220, 180
    found = [course.step(frames, 1.0) for _ in range(25)]
    assert found[-1]["far"] < 0.8 * found[0]["far"]


def told(latents: torch.Tensor) -> flowing.Reel:
    """Stories of two chunks with a caption each, and nothing but background."""
    labels = torch.zeros(*latents.shape[:2], 2, *latents.shape[3:], dtype=torch.long)
    captions = torch.tensor([[[1, 2], [3, 4]]]).expand(len(latents), -1, -1)
    return flowing.Reel(latents, latents[:, :, :, 0], labels, captions)


def test_an_autoencoder_goes_on_from_where_it_was() -> None:
    torch.manual_seed(0)
    vae = ShowLiteNet(config()).vae
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    pictures.Course(vae, pictures.Recipe(), CPU, still=False)
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


def test_the_2d_part_learns_alone() -> None:
    torch.manual_seed(0)
    vae = ShowLiteNet(config()).vae
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    pictures.Course(vae, pictures.Recipe(), CPU, still=True).step(
        torch.zeros(1, 1, 16, 24, 3, dtype=torch.uint8), 1.0
    )
    changed = {name for name, value in vae.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("spatial_vae.") for name in changed)


def test_a_transformer_learns_a_story() -> None:
    torch.manual_seed(0)
    net = ShowLiteNet(config())
    recipe = flowing.Recipe(rate=5e-3, silent=0.0, given=0.0)
    course = flowing.Course(net, recipe, CPU)
    latents = torch.randn(1, 2, *net.latent).expand(8, -1, -1, -1, -1, -1)
    reel = told(latents)
    found = [course.step(reel, 1.0) for _ in range(40)]
    for name in ("first", "later"):
        early, late = (
            float(torch.stack([row[name] for row in rows]).mean()) for rows in (found[:5], found[-5:])
        )
        assert late < 0.8 * early, name


def test_reels_hold_what_stories_show_and_what_they_say(base: Path) -> None:
    torch.manual_seed(0)
    net = ShowLiteNet(PLAN.config).eval()
    seconds = net.config.vae.group / 12
    reel = stories.reel(net, BANK, [5, 6], 3)
    assert reel.latents.shape == (2, 3, *net.latent) and reel.pictures.shape == (2, 3, 4, 4, 4)
    assert reel.captions.shape == (2, 3, stories.WORDINGS, 12)
    for n, seed in enumerate((5, 6)):
        story, start, scenes = stories.told(seed, BANK, 3, seconds)
        frames = Renderer(story, BANK, 16).frames(start + np.arange(27) / 12)
        pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        with torch.inference_mode():
            latents = net.vae.encode(pixels)[0]
        theirs = reel.latents[n].float().transpose(0, 1).flatten(1, 2)
        assert (latents - theirs).norm() < 0.05 * latents.norm(), "in half precision"
        changed = [k for k in range(1, 3) if scenes[k] != scenes[k - 1]]
        for k in range(1, 3):
            assert torch.equal(reel.captions[n, k], reel.captions[n, k - 1]) == (k not in changed)


def test_a_reel_of_another_version_is_told_of(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "00000.safetensors", {"latents": torch.zeros(1)}, "reel", PLAN.config.vae)
    with pytest.raises(ModelError, match=r"00000.safetensors holds \['latents'\].*delete it"):
        stories.reels(tmp_path)


def test_latents_have_labels_of_all_their_pictures() -> None:
    """The first latent of a group is of one picture, the others of four each."""
    net = ShowLiteNet(PLAN.config)
    times = np.arange(18) / 12
    for seed in range(4):
        story = draw_story(seed, "train", BANK)
        labels = stories.labels(story, BANK, times, net.config.vae, (16, 16))
        assert labels.shape == (2, 2, *net.latent[1:])
        pictures = np.stack([Labeler(story, BANK, 4).at(t) for t in times]).reshape(2, 9, 2, 4, 4)
        for k in (0, 1):
            assert (labels[k, :, 0].numpy() == pictures[k, 0]).all()
            for latent, part in ((1, slice(1, 5)), (2, slice(5, 9))):
                seen = (pictures[k, part, 0] > 0).any(0)
                assert ((labels[k, 0, latent].numpy() > 0) == seen).all()


def test_tokens_learn_to_name_what_they_show() -> None:
    """Where a caption alone says which thing it is, the loss falls below that of who knows but where things are."""
    torch.manual_seed(0)
    net = ShowLiteNet(config())
    course = flowing.Course(net, flowing.Recipe(rate=3e-2, silent=0.0, given=0.0, naming=1.0), CPU)
    reel = told(torch.randn(1, 2, *net.latent).expand(8, -1, -1, -1, -1, -1))
    one, other = (torch.full_like(reel.labels[:1], number) for number in (5, 9))
    turned = replace(
        reel,
        labels=torch.cat([one, other] * 4),
        captions=torch.tensor([[[1, 2]] * 2, [[3, 4]] * 2] * 4),
    )
    for _ in range(100):
        seen = course.step(turned, 1.0)
    assert float(seen["naming"]) < math.log(2), "two heads, each with two things that are as likely"
    again = flowing.Course(ShowLiteNet(config()), flowing.Recipe(naming=1.0), CPU)
    again.resume(course.state())
    assert course.namer is not None and again.namer is not None
    for name, value in again.namer.state_dict().items():
        assert torch.equal(value, course.namer.state_dict()[name])
    assert not net.dit.temporal_blocks[0]._forward_hooks, "nothing is left on the networks"


def test_what_names_is_taken_over_from_part_to_part(base: Path) -> None:
    naming = replace(PLAN.looks, naming=1.0)
    plan = replace(PLAN, looks=naming, transformer=replace(naming, steps=1, rate=0.0), weights=None)
    showing.run(plan, base, CPU)
    looks, chunks = (
        torch.load(base / "out" / part / "last.pt", weights_only=True)["course"]["namer"]
        for part in ("looks", "transformer")
    )
    assert looks["own"].any() and all(torch.equal(value, chunks[name]) for name, value in looks.items())


def test_guidance_is_folded_into_one_evaluation() -> None:
    net = shows.net().requires_grad_(True)
    recipe = flowing.Recipe(rate=3e-3, given=0.0, guidance=3.0, ema=0.9)
    latents = torch.randn(1, 2, *net.latent).expand(8, -1, -1, -1, -1, -1)
    reel = told(latents)
    course = flowing.Course(net, recipe, CPU)
    teacher = course.teacher
    assert teacher is not None
    found = [course.step(reel, 1.0) for _ in range(60)]
    assert float(found[-1]["first"]) < 0.5 * float(found[0]["first"])
    with torch.inference_mode():
        x, time, words = torch.randn(2, *net.latent), torch.full((2, 3), 0.8), reel.captions[:2, 0]
        past = causal.start(net.dit, 2, net.places)
        made, with_, without = (
            model.velocity(x, time, model.read(words, torch.tensor([mute] * 2)), past)[0]
            for model, mute in ((net, False), (teacher, False), (teacher, True))
        )
        guided = without + 3 * (with_ - without)
        assert (made - guided).norm() < 0.6 * (with_ - guided).norm(), "nearer to it than the teacher is"
    again = flowing.Course(shows.net().requires_grad_(True), recipe, CPU)
    again.resume(course.state())
    assert again.teacher is not None
    for name, value in again.teacher.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name]), "a run goes on with the teacher it had"


def test_losses_weigh_things_more() -> None:
    net = shows.net()
    latents = torch.randn(4, 1, *net.latent)
    half = torch.zeros(4, 1, 2, *net.latent[1:])
    half[..., :2] = 1
    captions = torch.tensor([[[1, 2]]]).expand(4, -1, -1)

    def loss(labels: torch.Tensor, things: float) -> float:
        torch.manual_seed(1)
        reel = flowing.Reel(latents, latents[:, :, :, 0], labels, captions)
        return float(flowing.losses(net, reel, flowing.Recipe(things=things))["first"])

    plain = loss(half, 0.0)
    one, other = loss(half, 3.0), loss(1 - half, 3.0)
    assert one != pytest.approx(plain) and loss(torch.ones_like(half), 3.0) == pytest.approx(plain)
    share = half.mean().item()
    whole = one * (1 + 3 * share) + other * (1 + 3 * (1 - share))
    assert whole == pytest.approx(5 * plain), "what one leaves out is in the other"


def test_scenes_change_where_a_chunk_begins() -> None:
    seen = set()
    for seed in range(40):
        story, start, scenes = stories.told(seed, BANK, 4, 0.75)
        k = scenes.index(1) if 1 in scenes else 4
        seen.add(k)
        assert k > 0 and (k == 4 or story.switches[0] == pytest.approx(start + 0.75 * k))
    assert seen == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"weights": "missing.safetensors"}, "no such file"),
        ({"sprites": "missing.npz"}, "no sprites at"),
        (
            {"stills": pictures.Recipe(minutes=0), "autoencoder": pictures.Recipe(minutes=0)},
            "nothing to begin with",
        ),
    ],
)
def test_what_is_missing_is_said(base: Path, change: dict[str, object], why: str) -> None:
    with pytest.raises(ModelError, match=why):
        showing.run(replace(PLAN, **change), base, CPU)  # type: ignore[arg-type]


def test_the_recipe_in_the_package_is_a_plan() -> None:
    plan = showing.read(Path(str(RECIPE)))
    net = ShowLiteNet(plan.config)
    assert net.latent == (16, 3, 12, 12)
    assert sum(value.numel() for value in net.state_dict().values()) * 2 < 25e6


def test_a_recipe_may_say_all_of_the_networks_but_their_words(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    own = (
        re.sub(r"(?m)^guidance = [\d.]+", "guidance = 2.0", RECIPE.read_text())
        + "[window]\nrecent = 6\nsink = 3\n[caching]\ndelta = 0.1\n"
    )
    path.write_text(own)
    read = showing.read(path).config
    assert (read.guidance, read.window, read.caching) == (2.0, Window(6, 3), Caching(delta=0.1))
    assert (read.steps, read.depth) == (8, 2) and read.words == vocabulary()
    for wrong, why in (
        (
            'words = ["a"]',
            "words is not known, expected keys alike, autoencoder, caching, chunks, depth, dit",
        ),
        ("config = 1", "config is not known"),
        ("steps = 2.5", "2.5 is not int"),
    ):
        path.write_text(f"{wrong}\n" + RECIPE.read_text().replace("steps = 8\n", "", 1))
        with pytest.raises(ModelError, match=f"own.toml is not a training config: .*{why}"):
            showing.read(path)


def test_a_size_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for size in ("[96, 104]", "[100, 100]", "[96]"):
        (tmp_path / "odd.toml").write_text(RECIPE.read_text().replace("[96, 96]", size))
        with pytest.raises(SystemExit):
            main(["train", "video", str(tmp_path / "odd.toml")])
        assert "expected twice one multiple of 8: the world is square" in capsys.readouterr().err
