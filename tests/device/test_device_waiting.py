"""A delivery that is waited for step by step, and the event loop that must not be held up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from accordion.device import Fetch, Link, Model, fetch, upgrade
from accordion.errors import TransferError, UsageError
from chain import K, answers  # type: ignore[import-not-found]

SLOW = Link(rate_bps=2e6, rtt_s=0.01)  # all of the package in about a second


async def test_a_caller_runs_each_configuration_while_the_next_arrives(endpoint: str, tmp_path: Path) -> None:
    seen = []
    async with Fetch(endpoint, tmp_path / "m", link=SLOW) as delivery:
        async for k, _seconds in delivery:
            seen.append(k)
            answers(tmp_path / "m", k)
    assert seen == list(range(K))
    assert delivery.result.configuration == K - 1


async def test_a_delivery_is_told_to_the_end_however_often_one_asks(endpoint: str, tmp_path: Path) -> None:
    delivery = Fetch(endpoint, tmp_path / "m")
    with pytest.raises(UsageError, match="async with"):
        _ = [one async for one in delivery]
    async with asyncio.timeout(60), delivery:
        assert len([one async for one in delivery]) == K
        assert [one async for one in delivery] == []
        with pytest.raises(UsageError, match="under way"):
            async with Fetch(endpoint, tmp_path / "n", link=SLOW) as slow:
                await slow.__aenter__()
    async with asyncio.timeout(60), delivery:  # once more, with everything there
        assert [k for k, _ in [one async for one in delivery]] == [K - 1]
    assert delivery.result.bytes_reused > 0


async def test_what_made_a_delivery_fail_is_told_once_at_least(endpoint: str, tmp_path: Path) -> None:
    unknown = endpoint.replace("/chain", "/nosuch")
    with pytest.raises(UsageError, match="nosuch"):
        async with Fetch(unknown, tmp_path / "a") as unseen:
            assert unseen._task is not None
            await asyncio.wait([unseen._task])
    async with Fetch(unknown, tmp_path / "b") as delivery:
        with pytest.raises(UsageError, match="nosuch"):
            _ = [one async for one in delivery]
    with pytest.raises(UsageError, match="nosuch"):
        _ = delivery.result


async def test_an_event_loop_is_not_held_up(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="async with Fetch"):
        fetch(endpoint, tmp_path / "m")
    with pytest.raises(TransferError) as caught:
        await asyncio.to_thread(fetch, "http://127.0.0.1:1/chain", tmp_path / "n")
    whole, causes = caught.value, []
    while (whole := whole.__cause__ or whole.__context__) is not None:  # type: ignore[assignment]
        causes.append(str(whole))
    assert not any("event loop" in cause for cause in causes)
    result = await asyncio.to_thread(fetch, endpoint, tmp_path / "m")
    with pytest.raises(UsageError, match="async with Fetch"):
        upgrade(tmp_path / "m")
    assert result.configuration == K - 1


async def test_leaving_early_keeps_what_arrived(endpoint: str, tmp_path: Path) -> None:
    async with Fetch(endpoint, tmp_path / "m", link=SLOW) as delivery:
        async for _k, _seconds in delivery:
            break
    with Model.open(tmp_path / "m") as model:
        assert model.configuration == 0
    with pytest.raises(UsageError, match="left before it had ended"):
        _ = delivery.result
