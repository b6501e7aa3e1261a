"""RTP packets that come late, twice, out of order or never."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from riverrun.streaming.jitter import Order, Packet, Timeline, conceal

FIRST, START = 65_530, 2**32 - 3000  # both wrap soon


def arrive(order: Order, numbers: list[int]) -> list[Packet]:
    """Packets of 960 ticks, in the order they come in."""
    given = []
    for n in numbers:
        given += order.put((FIRST + n) % 65_536, (START + 960 * n) % 2**32, bytes([n % 256]), n / 50)
    return given


def test_in_order_packets_are_given_at_once_across_both_wraps() -> None:
    order = Order()
    for n in range(20):
        (packet,) = arrive(order, [n])
        assert (packet.seq, packet.ticks, packet.data) == (FIRST + n, START + 960 * n, bytes([n]))


@given(st.permutations(range(30)), st.sets(st.integers(1, 29)), st.data())
def test_whatever_comes_in_whatever_order_is_given_once_and_in_order(
    numbers: list[int], lost: set[int], data: st.DataObject
) -> None:
    near = sorted(range(30), key=lambda n: n + data.draw(st.integers(0, 4)))
    for order_of in (numbers, near, [*near, *near]):
        given = arrive(Order(), [n for n in order_of if n not in lost])
        seen = [packet.data[0] for packet in given]
        assert seen == sorted(set(seen))
        assert all(p.ticks - given[0].ticks == 960 * (p.data[0] - seen[0]) for p in given)


def test_neighbours_that_change_places_cost_nothing() -> None:
    order = Order()
    assert [p.data[0] for p in arrive(order, [0, 2, 1, 3, 5, 4])] == [0, 1, 2, 3, 4, 5]
    assert not order.lost and not order.late


def test_a_lost_packet_holds_up_no_more_than_two() -> None:
    order = Order()
    assert [p.data[0] for p in arrive(order, [0, 2])] == [0]
    assert [p.data[0] for p in arrive(order, [3])] == [2, 3]
    assert order.lost == 1
    assert [p.data[0] for p in arrive(order, [4])] == [4], "nor does what comes after it wait"
    assert not arrive(order, [1]) and order.late == 1


def test_a_sender_that_begins_anew_is_followed() -> None:
    order = Order()
    arrive(order, [0, 1])
    assert [p.data for p in order.put(30_000, 5, b"new", 1.0)] == [b"new"]
    assert [p.data for p in order.put(30_001, 965, b"next", 1.0)] == [b"next"]


def test_what_is_missing_is_told_and_a_jump_begins_anew() -> None:
    line = Timeline(48_000)
    assert line.place(1000, 960) == 0
    assert line.place(1960 + 960, 960) == 960
    assert line.place(2920 + 960 + 48_001, 960) == 0, "more than a second is not filled"
    assert line.place(0, 960) == 0, "nor is time that runs backwards"


def test_capture_is_reckoned_from_the_quickest_packet_even_while_clocks_drift() -> None:
    line, worst = Timeline(48_000), 0.0
    dice = np.random.default_rng(0)
    for n in range(3000):  # a minute of a sender that is 0.1 % fast
        spoken = n / 50 / 1.001
        captured = line.captured(960 * n, spoken + 0.03 + dice.exponential(0.01))
        if n > 100:
            worst = max(worst, abs(captured - spoken - 0.03))
    assert worst < 0.012, "10 s of drift at most"


def test_a_loss_begins_without_a_jump_and_fades_to_silence() -> None:
    last = np.sin(np.arange(960) / 20).astype(np.float32)[:, None]
    filled = conceal(last, 2000)
    assert filled.shape == (2000, 1)
    assert filled[0] == last[-1] and not filled[960:].any()
    assert conceal(last[:0], 10).shape == (10, 1)
