"""Admission: what steps cost on this machine, and whether it can hold one session more."""

import math
import time
from typing import Any

import numpy as np
import torch

from riverrun.media import Chunk
from riverrun.models.checking import sample
from riverrun.models.contract import StreamModel
from riverrun.models.state import stack
from riverrun.streaming.batch import Seat, sit
from riverrun.streaming.errors import AtCapacity
from riverrun.streaming.lane import Lane
from riverrun.streaming.scheduler import BUCKETS, LIMIT, Fence, Load, demand, feasible
from riverrun.streaming.session import Session

AGAIN = 5.0  # seconds after which a full engine may have room
MEASURED = 5  # steps of each size that tell what one costs
CHUNKS = 2  # of speech or pictures that tell what one costs, after the first, which has more to do
ENOUGH = 30.0  # seconds of making them
SAID = 200  # symbols that last longer than they
PROMPT = "a red ball"  # of which pictures are made that nobody sees


def admit(lane: Lane, model: str, session: Session, count: int, capacity: int) -> None:
    """Raises AtCapacity if the machine cannot hold one more session of this kind."""
    if count >= capacity:
        raise AtCapacity(f"{count} sessions are open, and no more are taken: try again later", AGAIN)
    if session.fence is Fence.BATCH or not any(seat.session.live for seat in lane.seats.values()):
        return  # one alone may always try: what is known of the costs may be out of date
    loads, longest, shortest = _loads(lane, model, session)
    costs = lane.queue.costs
    need = max(demand(loads, costs) * lane.drag * lane.apart, lane.load())
    if need > LIMIT or not feasible(need, longest, shortest):
        raise AtCapacity(
            f"{need:.0%} of the time would be needed with one more stream of {model}, and {LIMIT:.0%} is the "
            f"limit: try again later, or elsewhere",
            AGAIN,
        )


def _loads(lane: Lane, model: str, session: Session) -> tuple[dict[Any, Load], float, float]:
    """What the live sessions of a lane need with one more, its longest piece, anybody's, and the shortest delay."""
    loads: dict[Any, Load] = {}
    shortest = math.inf
    seats = [(seat.what, seat.session) for seat in lane.seats.values() if seat.session.live]
    for what, one in [*seats, (model, session)]:
        known = loads.get(what, Load(0, one.period, one.spec.max_batch))
        loads[what] = Load(known.rows + one.rows, min(known.period, one.period), known.most)
        if one.live:
            shortest = min(shortest, one.live.delay if one.spec.takes else one.live.first)
    models = {model, *(seat.what for seat in lane.seats.values())}
    return loads, max(map(lane.queue.costs.longest, models)), shortest


def measure(lane: Lane, what: str, model: StreamModel) -> None:
    """Note what hops cost, or chunks that are generated, for steps of each size, with states that nobody else sees."""
    takes = model.spec.takes
    if symbols := model.spec.symbols:
        _generates(lane, what, model, model.request(symbols * math.ceil(SAID / len(symbols))))
    if model.spec.shows:
        _generates(lane, what, model, model.request(PROMPT))
    if takes is None or takes.kind != "audio":
        return
    data = np.random.default_rng(0).normal(0, 0.1, (takes.hop, takes.channels)).astype(np.float32)
    hops = (
        getattr(model, "period", takes.hop) // takes.hop
    )  # from one window, or as much work as one, to the next
    early = hops * math.ceil(
        model.spec.latency / takes.hop / hops
    )  # hops of which nothing is given yet, at less cost
    for rows in (size for size in BUCKETS if size <= model.spec.max_batch):
        state = stack([model.open(sample(model)) for _ in range(rows)])
        took = list[float]()
        for turn in range(early + hops * MEASURED):
            inputs: list[Chunk | None] = [Chunk(data, turn * takes.hop, takes.rate)] * rows
            start = time.perf_counter()
            while True:
                outputs, state = model.step(inputs, state)
                if any(made is not None for made in outputs[0]):
                    break
                inputs = [None] * rows
            took.append((time.perf_counter() - start) / hops)
        windows = (sum(took[at : at + hops]) for at in range(early, len(took), hops))
        cost = min(windows)  # what else runs on the machine can only add
        lane.queue.costs.learn(what, rows, cost)
        if cost > takes.hop / takes.rate:
            return  # more rows do not keep pace, either


def _generates(lane: Lane, what: str, model: StreamModel, request: Any) -> None:
    """Note what a chunk of speech, or of pictures, costs: all the steps from one to the next.

    Of a model that makes several in one go, its `period`, each costs its share of that; the first go may give more.
    """
    port = model.spec.gives[0]
    share = getattr(model, "period", port.hop) // port.hop
    early, wanted = 2 * share - 1, 2 * share - 1 + max(CHUNKS, share)
    for rows in (1, min(4, model.spec.max_batch)):
        state = stack([model.open(request) for _ in range(rows)])
        took, begun, last = list[float](), time.perf_counter(), False
        while not last and len(took) < wanted and sum(took) < ENOUGH:
            made: Any = None
            while made is None:
                outputs, state = model.step([None] * rows, state)
                made = outputs[0][0]
            last, now = made.last, time.perf_counter()
            took, begun = [*took, now - begun], now
        goes = [sum(took[at : at + share]) / share for at in range(early, len(took) - share + 1)]
        cost = min(goes, default=sum(took) / len(took))  # what else runs on the machine can only add
        lane.queue.costs.learn(what, rows, cost)
        if cost > port.hop / port.rate:
            return  # more rows do not keep pace, either


def seated(
    name: str, model: StreamModel, request: Any, session: Session, saved: bytes | None, device: str, what: str
) -> Seat:
    """As `sit`. Raises AtCapacity where there is no memory for a state."""
    try:
        return sit(name, model, request, session, saved, device, what)
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        raise AtCapacity(
            f"there is no memory for another session of {what}: try again later", AGAIN
        ) from error
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise AtCapacity(
            f"there is no memory for another session of {what}: try again later", AGAIN
        ) from error
