"""What scheduling costs: the queue, a lane's whole turn, stacking states; and a data centre of 100 devices, simulated.

python -m tests.benchmarks.scheduling [queue] [turn] [stack] [fleet]
"""

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from riverrun.media import Chunk
from riverrun.models import load
from riverrun.models.contract import Outputs, Port, Spec, StreamModel
from riverrun.models.state import State, leaves
from riverrun.streaming.batch import gather, sit
from riverrun.streaming.engine import Engine
from riverrun.streaming.lane import Lane
from riverrun.streaming.scheduler import Costs, Fence, Piece, Queue
from riverrun.streaming.session import Live, Session
from tests.benchmarks.fleet import fleet

SIZES = (1, 100, 1000)  # sessions
RATE, HOP = 16_000, 256
MOST = 16  # rows of a step
HOPS, TURNS = 18, 20_000  # that wait in a session, and of all sessions in a measurement


def queue(steps: int = 4000) -> None:
    """One pop, and the push of what came back, as sessions step in turn."""
    print(f"{'sessions':>8} {'rows a step':>11} {'queue us a step':>15} {'us a row':>9}")
    for sessions in SIZES:
        line, dice = Queue(Costs()), random.Random(0)
        for i in range(sessions):
            line.push(Piece(str(i), "hop", Fence.LIVE, dice.random() * HOP / RATE, most=MOST), 0.0)
        rows, begun = 0, time.perf_counter()
        for _ in range(steps):
            taken = line.pop(0.0)
            rows += len(taken)
            for piece in taken:
                line.push(replace(piece, due=piece.due + HOP / RATE), 0.0)
        spent = 1e6 * (time.perf_counter() - begun)
        print(f"{sessions:>8} {rows / steps:>11.1f} {spent / steps:>15.1f} {spent / rows:>9.2f}")


@dataclass(frozen=True)
class Request:
    """Nothing to ask for."""


class Idle:
    """A filter that does nothing at all; `spent` is the time it took for that."""

    request = Request

    def __init__(self) -> None:
        port = Port("audio", RATE, HOP)
        self.spec = Spec(port, (port,), 0, MOST)
        self.spent, self.steps = 0.0, 0

    def open(self, request: Request) -> State:
        return {"x": torch.zeros(1, 1)}

    def update(self, state: State, request: Request) -> State:
        return state

    def close(self, state: State) -> None:
        pass

    def key(self, state: State) -> Hashable:
        return 0

    def step(self, inputs: Sequence[Chunk | None], state: State) -> tuple[Outputs, State]:
        begun = time.perf_counter()
        outputs: Outputs = [(chunk,) for chunk in inputs]
        self.steps += 1
        self.spent += time.perf_counter() - begun
        return outputs, state


async def turn() -> None:
    """A lane's whole turn, from one step to the next, less the model's own time; `cpu` is of the lane's thread."""
    print(
        f"{'sessions':>8} {'steps':>6} {'rows a step':>11} {'overhead us a step':>18} {'cpu':>6} {'us a row':>9}"
    )
    for sessions in SIZES:
        model = Idle()
        with Engine(capacity=sessions, lanes=1) as engine:
            engine.add("idle", model)
            names = [await engine.open("idle", {}, live=Live()) for _ in range(sessions)]
            lane, times = engine.lanes[0], []
            for _ in range(max(1, TURNS // sessions // HOPS)):
                for name in names:
                    session = engine.seats[name].session
                    for _ in range(HOPS):
                        chunk = Chunk(np.zeros((HOP, 1), np.float32), session.fed, RATE)
                        session.feed(chunk, time.monotonic())
                times.append(await asyncio.wrap_future(lane.call(lambda: emptied(lane))))  # noqa: B023
                for name in names:
                    engine.seats[name].session.poll()
            wall, cpu = (
                1e6 * (sum(column) - model.spent) / lane.steps for column in zip(*times, strict=True)
            )
            rows = lane.rows / lane.steps
            print(
                f"{sessions:>8} {lane.steps:>6} {rows:>11.1f} {wall:>18.0f} {cpu:>6.0f} {wall / rows:>9.1f}"
            )


def emptied(lane: Lane) -> tuple[float, float]:
    """Seconds that a lane takes until nothing waits, in its own thread; and its processor's."""
    for seat in lane.seats.values():
        lane.look(seat)
    wall, cpu = time.perf_counter(), time.thread_time()
    while len(lane.queue):
        lane._answer()
        lane._step()
    return time.perf_counter() - wall, time.thread_time() - cpu


@torch.inference_mode()
def stacking(name: str = "restore-lite", count: int = 60) -> None:
    """What a step of seats costs beside the model: those that stay together, and those that sat elsewhere before.

    `pooled` is what it would cost if all states were rows of one store: to take rows out of it and put them back.
    """
    torch.set_num_threads(1)
    model = load(name)
    tensors = [leaf for _, leaf in leaves(model.open(model.request())) if isinstance(leaf, torch.Tensor)]
    size = sum(leaf.nbytes for leaf in tensors)
    print(f"{name}: a state has {len(tensors)} tensors of {size / 1024:.0f} KiB together; medians in us")
    print(
        f"{'rows':>4} {'step':>8} {'stay':>6} {'regrouped':>9} {'of a step':>9} {'pooled':>8} {'one copy':>8}"
    )
    for rows in (2, 4, 8, 16):
        tables = [Table(model, i, rows) for i in range(2)]
        step = median(tables[0].step, count)
        stay = median(lambda: gather(tables[0].seats), count, before=tables[0].step)  # noqa: B023
        dice = random.Random(0)
        regrouped = median(lambda: gather(tables[0].seats), count, before=lambda: swap(tables, dice))  # noqa: B023
        store = [leaf.repeat(4 * rows, *[1] * (leaf.ndim - 1)) for leaf in tensors]
        pooled = median(lambda: taken(store, dice.sample(range(4 * rows), rows)), count)  # noqa: B023
        copy = torch.zeros(2, rows * size // 4)
        once = median(lambda: copy[0].copy_(copy[1]), count)  # noqa: B023
        print(
            f"{rows:>4} {1e6 * step:>8.0f} {1e6 * stay:>6.0f} {1e6 * regrouped:>9.0f} {regrouped / step:>9.1%} "
            f"{1e6 * pooled:>8.0f} {1e6 * once:>8.0f}"
        )


class Table:
    """Seats that step together."""

    def __init__(self, model: StreamModel, number: int, rows: int) -> None:
        self.model = model
        self.seats = [sit(f"{number} {i}", model, model.request(), Session(model.spec)) for i in range(rows)]
        data = np.random.default_rng(0).normal(0, 0.1, (HOP, 1)).astype(np.float32)
        self.inputs = [Chunk(data, 0, RATE)] * rows

    def step(self) -> None:
        """Stack the states, if need be, and have the model make one hop."""
        batch = gather(self.seats)
        _, batch.state = self.model.step(self.inputs, batch.state)


def swap(tables: Sequence[Table], dice: random.Random) -> None:
    """Seat everyone anew, and step once so."""
    everyone = [seat for table in tables for seat in table.seats]
    for turn in range(2):
        dice.shuffle(everyone)
        for i, table in enumerate(tables):
            table.seats = everyone[i::2]
            if not turn:
                table.step()


def taken(store: list[torch.Tensor], which: list[int]) -> None:
    """Take rows out of a store and put them back, as a step would that may take any of them."""
    index = torch.tensor(which)
    for leaf in store:
        leaf.index_copy_(0, index, leaf.index_select(0, index))


def median(call: Callable[[], object], count: int, before: Callable[[], object] = lambda: None) -> float:
    """Seconds that a call takes, what comes before each left out."""
    times = []
    for _ in range(count):
        before()
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main(parts: Sequence[str]) -> None:
    """Print the tables that were asked for."""
    everything = {"queue": queue, "turn": lambda: asyncio.run(turn()), "stack": stacking, "fleet": fleet}
    for name in parts or everything:
        everything[name]()
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
