"""Admission: what steps cost on this machine, and whether it can hold one session more."""

import math
import time
from typing import Any

import numpy as np
import torch

from riverrun.media import Chunk
from riverrun.models.contract import StreamModel
from riverrun.models.state import stack
from riverrun.streaming.batch import Seat, sit
from riverrun.streaming.errors import AtCapacity
from riverrun.streaming.lane import Lane
from riverrun.streaming.scheduler import BUCKETS, LIMIT, Fence, Load, demand, feasible
from riverrun.streaming.session import Session

AGAIN = 5.0  # seconds after which a full engine may have room
MEASURED = 5  # steps of each size that tell what one costs


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
    seats = [(seat.what, seat.session) for seat in lane.seats.values() if seat.session.fence is Fence.LIVE]
    for what, one in [*seats, (model, session)]:
        known = loads.get(what, Load(0, one.period, one.spec.max_batch))
        loads[what] = Load(known.rows + one.rows, min(known.period, one.period), known.most)
        shortest = min(shortest, one.live.delay if one.live else math.inf)
    models = {model, *(seat.what for seat in lane.seats.values())}
    return loads, max(map(lane.queue.costs.longest, models)), shortest


def measure(lane: Lane, what: str, model: StreamModel) -> None:
    """Note what a filter's hops cost, for steps of each size, with states that nobody else sees."""
    takes = model.spec.takes
    if takes is None or takes.kind != "audio":
        return
    data = np.random.default_rng(0).normal(0, 0.1, (takes.hop, takes.channels)).astype(np.float32)
    for rows in (size for size in BUCKETS if size <= model.spec.max_batch):
        state = stack([model.open(model.request()) for _ in range(rows)])
        best = math.inf  # what else runs on the machine can only add
        for turn in range(MEASURED):
            inputs: list[Chunk | None] = [Chunk(data, turn * takes.hop, takes.rate)] * rows
            start = time.perf_counter()
            while True:
                outputs, state = model.step(inputs, state)
                if any(made is not None for made in outputs[0]):
                    break
                inputs = [None] * rows
            best = min(best, time.perf_counter() - start)
        lane.queue.costs.learn(what, rows, best)


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
