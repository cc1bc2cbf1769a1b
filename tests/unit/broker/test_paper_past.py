"""A packed history answers as the plain list of its records does, and takes little memory."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from broker.api import TradeDeal
from broker.paper.past import Past

_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_NUMBERS = st.integers(0, 5)
_COMMENTS = st.sampled_from(["", "é:1", "x" * 31])
_MAGICS = st.integers(0, (1 << 64) - 1)
_DEALS = st.lists(st.tuples(_NUMBERS, _NUMBERS, st.integers(0, 3), _MAGICS, _FLOATS, _COMMENTS), max_size=20)


def _deal(at: int, order: int, position: int, time: int, magic: int, price: float, comment: str) -> TradeDeal:
    return TradeDeal(
        ticket=at, order=order, time=time // 1000, time_msc=time, type=0, entry=0, magic=magic, position_id=position,
        reason=3, volume=0.1, price=price, commission=0.0, swap=-0.0, profit=price, fee=0.0, symbol="EURUSD",
        comment=comment, external_id="",
    )  # fmt: skip


@given(_DEALS, st.integers(0, 20), _NUMBERS, st.integers(-1, 50), st.integers(-1, 50))
def test_it_answers_as_a_list_does(
    drawn: list[tuple[int, int, int, int, float, str]], length: int, wanted: int, first: int, last: int
) -> None:
    past = Past(TradeDeal, number="order", time="time_msc")
    plain: list[TradeDeal] = []
    time = 0
    for at, (order, position, step, magic, price, comment) in enumerate(drawn):
        time += step
        deal = _deal(at, order, position, time, magic, price, comment)
        past.append(deal)
        plain.append(deal)
    for _ in range(2):
        assert list(past) == plain == past[:] and len(past) == len(plain)
        assert all(type(each) is TradeDeal for each in past)
        assert past.numbered(wanted) == tuple(each for each in plain if each.order == wanted)
        assert past.of_position(wanted) == tuple(each for each in plain if each.position_id == wanted)
        assert [past[at] for at in past.between(first, last)] == [
            each for each in plain if first <= each.time_msc <= last
        ]
        assert list(reversed(past)) == plain[::-1]
        past.cut(length)  # and once more with what is left
        del plain[length:]


def test_a_number_that_no_ticket_can_be_finds_nothing() -> None:
    past = Past(TradeDeal, number="order", time="time_msc")
    past.append(_deal(1, 1, 1, 1, 1, 1.1, ""))
    assert past.numbered(1 << 63) == () and past.of_position(-(1 << 64)) == ()


def test_it_takes_a_fraction_of_what_its_records_take() -> None:
    def made(into: Past[TradeDeal] | list[TradeDeal]) -> int:
        tracemalloc.start()
        try:
            for at in range(2000):
                into.append(_deal(at + 10**6, at + 10**6, at + 10**6, at * 10**6, 10**6, at / 7, f"inst:{at}"))
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert made(Past(TradeDeal, number="order", time="time_msc")) < made([]) / 2
