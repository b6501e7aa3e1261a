"""Sessions: whatever goes in, in whatever pieces, comes out with its own ticks; and what is refused."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from riverrun.media import Chunk, join
from riverrun.models.contract import Port, Spec, StreamModel
from riverrun.streaming.batch import Seat, advance, sit
from riverrun.streaming.errors import ProtocolError
from riverrun.streaming.scheduler import Fence
from riverrun.streaming.session import Live, Session
from tests.models.toys import Loudness, Painter, Smooth, Teller, Text

Audio = NDArray[np.float32]
SPEC = Smooth().spec


def sound(ticks: int, channels: int = 1, seed: int = 0) -> Audio:
    return (np.random.default_rng(seed).normal(size=(ticks, channels)) * 0.2).astype(np.float32)


def pieces(data: Audio, sizes: Sequence[int], rate: int, pts: int = 0) -> list[Chunk]:
    """Data cut into sizes that repeat."""
    chunks: list[Chunk] = []
    at = 0
    while at < len(data):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(Chunk(data[at : at + size], pts + at, rate))
        at += size
    return chunks


def stream(
    model: StreamModel, chunks: Sequence[Chunk], session: Session, request: object = None
) -> list[Chunk]:
    """Feed chunks one by one and step as far as it goes after each."""
    seat = sit("test", model, request or Loudness(), session)
    out = []
    for chunk in chunks:
        session.feed(chunk)
        out += steps(seat)
    session.finish()
    return out + steps(seat)


def steps(seat: Seat) -> list[Chunk]:
    out = []
    while seat.piece(0):
        advance([seat])
        assert seat.error is None
        out += seat.session.poll()
    return out + seat.session.poll()


@given(
    ticks=st.integers(0, 700),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    hop=st.integers(1, 70),
    latency=st.integers(0, 150),
    evaluations=st.integers(1, 3),
)
def test_any_cutting_gives_the_same_as_the_whole(
    ticks: int, sizes: list[int], hop: int, latency: int, evaluations: int
) -> None:
    model, data = Smooth(hop=hop, latency=latency, evaluations=evaluations), sound(ticks)
    out = stream(model, pieces(data, sizes, 16_000, pts=77), Session(model.spec))
    assert [chunk.last for chunk in out] == [False] * (len(out) - 1) + [True]
    got = join(out)
    assert (got.pts, got.rate, got.data.shape) == (77 if ticks else 0, 16_000, data.shape)
    if ticks:
        assert np.abs(got.data - model.whole(data, Loudness())).max() < 1e-5


@given(
    ticks=st.integers(1, 4_000),
    sizes=st.lists(st.integers(1, 900), min_size=1, max_size=4),
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000, 96_000]),
    channels=st.sampled_from([1, 2, 3]),
)
def test_any_cutting_at_any_rate_keeps_length_and_channels(
    ticks: int, sizes: list[int], rate: int, channels: int
) -> None:
    model, data = Smooth(), sound(ticks, channels)
    whole = stream(model, pieces(data, [ticks], rate, 5), Session(model.spec, rate, channels))
    parts = stream(model, pieces(data, sizes, rate, 5), Session(model.spec, rate, channels))
    for out in (whole, parts):
        assert out[-1].last and join(out).data.shape == data.shape and (out[0].pts, out[0].rate) == (5, rate)
    assert np.abs(join(whole).data - join(parts).data).max() < 1e-5
    assert all(chunk.data.dtype == np.float32 for chunk in parts)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_output_is_in_time_with_the_input(rate: int) -> None:
    model = Smooth(latency=4)
    t = np.arange(rate // 2) / rate
    data = (0.3 * np.sin(2 * np.pi * 440 * t) * np.hanning(len(t)))[:, None].astype(np.float32)
    got = join(stream(model, pieces(data, [500], rate), Session(model.spec, rate)))
    assert np.abs(got.data - data).max() < 0.02  # a tick late would be 0.05 off


def test_channels_are_rows_that_stay_apart() -> None:
    model, data = Smooth(), sound(500, 2)
    session = Session(model.spec, channels=2)
    assert session.rows == 2
    got = join(stream(model, pieces(data, [90], 16_000), session)).data
    for i in (0, 1):
        assert np.abs(got[:, i] - model.whole(data[:, i : i + 1], Loudness())[:, 0]).max() < 1e-5


def test_output_comes_as_soon_as_the_latency_says() -> None:
    for rate in (16_000, 48_000):
        model = Smooth(hop=256, latency=256)
        session = Session(model.spec, rate)
        seat = sit("test", model, Loudness(), session)
        data, out = sound(rate // 2), 0
        for chunk in pieces(data, [48], rate):
            session.feed(chunk)
            out += sum(map(len, steps(seat)))
            assert chunk.end - out <= session.latency * rate + 48 + 2
        assert 0.032 <= session.latency < 0.045


def test_what_does_not_follow_on_is_refused() -> None:
    session = Session(SPEC)
    session.feed(Chunk(sound(10), 100, 16_000))
    for bad, why in [
        (Chunk(sound(10), 111, 16_000), "tick 111 .* expected 110"),
        (Chunk(sound(10), 110, 48_000), "rate 48000, expected 110 of 16000"),
        (Chunk(sound(10, 2), 110, 16_000), r"\(10, 2\), expected \[t, 1\]"),
        (Chunk(sound(16_001), 110, 16_000), "15990 of 16000 are free"),
    ]:
        with pytest.raises(ProtocolError, match=why):
            session.feed(bad)
    session.feed(Chunk(sound(10), 110, 16_000, last=True))
    session.finish()
    with pytest.raises(ProtocolError, match="finished"):
        session.feed(Chunk(sound(10), 120, 16_000))


def test_streams_a_model_cannot_take_are_refused() -> None:
    stereo = Port("audio", 16_000, 32, channels=2)
    with pytest.raises(ProtocolError, match="3 channels, this model has 2"):
        Session(Spec(stereo, (stereo,)), channels=3)
    video = Port("video", 24, 1)
    with pytest.raises(ProtocolError, match="pictures at 30"):
        Session(Spec(video, (video,)), rate=30)
    for rate in (-1, 999, 10**9, Fraction(44_101, 2)):
        with pytest.raises(ProtocolError, match=f"rate is {rate}, expected 1000 to 384000"):
            Session(SPEC, rate)
    with pytest.raises(ProtocolError, match="17 channels, the limit is 16"):
        sit("test", Smooth(), Loudness(), Session(SPEC, channels=17))
    with pytest.raises(ProtocolError, match="use update"):
        Session(Teller.spec).feed(Chunk(sound(1), 0, 24_000))


def test_credit_bounds_what_waits_and_comes_back() -> None:
    model = Smooth()
    session = Session(model.spec, queue=0.01)
    seat = sit("test", model, Loudness(), session)
    assert session.credit == session.limit == 160
    session.feed(Chunk(sound(160), 0, 16_000))
    assert session.credit == 0
    assert seat.piece(0)
    advance([seat])
    assert session.credit == 32


def test_a_reader_that_does_not_poll_stops_the_model() -> None:
    model = Teller()
    session = Session(model.spec, queue=0.02)
    seat = sit("test", model, Text("one two three four five"), session)
    while seat.piece(0):
        advance([seat])
    assert [len(chunk) for chunk in session.poll()] == [240, 240] and session.ready()


def test_a_generator_comes_at_the_rate_asked_for() -> None:
    model = Teller()
    session = Session(model.spec, rate=48_000)
    got = join(steps(sit("test", model, Text("one two three"), session)))
    alone = join(steps(sit("test", model, Text("one two three"), Session(model.spec))))
    assert got.last and (len(got), got.rate, got.pts) == (2 * len(alone), 48_000, 0)
    assert np.abs(got.data[::2] - alone.data)[50:-50].max() < 0.2


def test_two_ports_end_one_by_one() -> None:
    ports = (Port("video", 25, 1), Port("audio", 16_000, 640))
    session = Session(Spec(None, ports))
    picture = np.zeros((1, 2, 2, 3), np.uint8)
    session.give([(Chunk(picture, 0, 25, last=True), None)])
    assert not session.done
    session.give([(None, Chunk(sound(640), 0, 16_000, last=True))])
    assert session.done and session.poll(0)[0].last and session.poll(1)[0].last


def test_pictures_go_through_whole_hops_too() -> None:
    port = Port("video", Fraction(30_000, 1_001), 4)
    session = Session(Spec(port, (port,), latency=2))
    frames = np.random.default_rng(0).integers(0, 255, (6, 2, 3, 3), np.uint8)
    session.feed(Chunk(frames, 0, port.rate, last=True))
    late, out = np.zeros((2, 2, 3, 3), np.uint8), []
    while session.ready():
        (hop,) = session.take()
        assert hop is not None
        data = np.concatenate([late, hop.data])
        late = data[-2:]
        session.give([(Chunk(data[:4], hop.pts - 2, port.rate),)])
        out += session.poll()
    assert np.array_equal(join(out).data, frames) and out[-1].last


def test_a_wrong_answer_is_an_error() -> None:
    for chunk in (Chunk(sound(31), -20, 16_000), Chunk(sound(32), 0, 16_000)):
        session = Session(SPEC)
        session.feed(Chunk(sound(40), 0, 16_000))
        assert session.ready() and session.take()
        with pytest.raises(ValueError, match=r"expected \(-20, 32\)"):
            session.give([(chunk,)])


def test_a_live_filter_is_due_a_delay_after_its_capture() -> None:
    session = Session(SPEC, live=Live(delay=0.05))
    session.feed(Chunk(sound(160), 0, 16_000), captured=100.01)
    assert session.due(0) == pytest.approx((-math.inf, 100.05)) and session.fence is Fence.LIVE
    assert session.ready() and session.take()
    assert session.due(0)[1] == pytest.approx(100.052)
    session.feed(Chunk(sound(160), 160, 16_000), captured=101.02)  # the source stalled for a second
    assert session.due(0)[1] == pytest.approx(101.052)
    session.relax(True)
    assert session.due(0)[1] == pytest.approx(101.102)
    session.relax(False)
    assert session.due(0)[1] == pytest.approx(101.052)


def test_a_live_generator_is_due_before_it_plays_and_not_wanted_long_before() -> None:
    session = Session(Teller.spec, live=Live(arrival=10, first=0.5, margin=0.1, lead=2))
    assert session.due(10) == (-math.inf, 10.5) and session.fence is Fence.INTERACTIVE
    session.give([(Chunk(sound(24_000), 0, 24_000),)])
    assert session.due(10.4) == pytest.approx((9.5, 11.4))
    session.played(10.3)
    assert session.due(10.4) == pytest.approx((9.3, 11.2))
    session.played(12.3)  # paused for two seconds
    assert session.due(10.4) == pytest.approx((11.3, 13.2))


def test_a_generator_begins_nothing_beyond_where_it_may_go() -> None:
    session = Session(Painter().spec, live=Live(until=3))
    chunk = Chunk(np.zeros((3, 32, 48, 3), np.uint8), 0, 12)
    assert session.ready()
    session.give([(None, None)])
    session.played(0.0, until=0)
    assert session.ready(), "what is begun is ended"
    session.give([(chunk, None)])
    session.poll()
    assert not session.ready()
    session.played(0.0, until=4)
    assert session.ready()
    session.played(0.0)
    assert session.ready(), "as far as it likes"


def test_nobody_waits_for_a_batch_session() -> None:
    assert Session(SPEC).due(5) == (-math.inf, 5) and Session(SPEC).fence is Fence.BATCH
