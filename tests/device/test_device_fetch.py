from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.cli import main
from accordion.device import Link, Model, Observer, Request, fetch, shed, upgrade, verify_model
from accordion.device.store import Store
from accordion.errors import DigestError, FormatError, TransferError, UnmeetableError, UsageError
from chain import WIDTH, K, X, add_version, answers  # type: ignore[import-not-found]
from serving import serving

SLOW = Link(rate_bps=2e6, rtt_s=0.01)  # all of the package in about a second


def ladder(model: Path) -> Ladder:
    with Model.open(model) as opened:
        return opened.ladder


def test_a_fetch_brings_the_whole_ladder_and_every_configuration_runs(endpoint: str, tmp_path: Path) -> None:
    result = fetch(endpoint, tmp_path / "m")
    assert result.configuration == K - 1
    assert [k for k, _ in result.ready] == list(range(K))
    assert result.bytes_reused == 0
    for k in range(K):
        answers(tmp_path / "m", k)
    assert verify_model(tmp_path / "m") == []


def test_max_bytes_bounds_what_is_sent(endpoint: str, tmp_path: Path) -> None:
    result = fetch(endpoint, tmp_path / "m", Request(max_bytes=100_000))
    assert result.configuration == 1
    assert result.bytes_received < 105_000


def test_fetch_plus_upgrade_is_one_fetch(endpoint: str, tmp_path: Path) -> None:
    whole = fetch(endpoint, tmp_path / "whole").bytes_received
    first = fetch(endpoint, tmp_path / "m", Request(max_bytes=100_000))
    second = upgrade(tmp_path / "m")
    assert second.configuration == K - 1
    assert second.bytes_reused == ladder(tmp_path / "m").configurations[first.configuration].bytes
    assert abs(first.bytes_received + second.bytes_received - whole) <= 0.01 * whole
    answers(tmp_path / "m", K - 1)


def test_upgrade_to_a_configuration(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=60_000))
    assert upgrade(tmp_path / "m", to=3).configuration == 3
    for nowhere in (99, -1):
        with pytest.raises(UsageError, match=f"no configuration {nowhere}"):
            upgrade(tmp_path / "m", to=nowhere)
    with pytest.raises(UsageError, match="whole number"):
        upgrade(tmp_path / "m", to=4.5)  # type: ignore[arg-type]
    with Model.open(tmp_path / "m") as model:
        assert model.configuration == 3
    assert upgrade(tmp_path / "m", to=np.int64(4)).configuration == 4
    assert shed(tmp_path / "m", np.int64(2))[0] == 2


def test_what_is_complete_at_the_deadline_is_the_answer_and_the_rest_is_kept(endpoint: str, tmp_path: Path) -> None:
    # The device believes in a fast link and gets a slow one.
    result = fetch(endpoint, tmp_path / "m", Request(deadline_s=0.7, throughput_bps=1e9), link=SLOW)
    assert not result.deadline_met
    assert 0 <= result.configuration < K - 1
    answers(tmp_path / "m", result.configuration)
    whole = fetch(endpoint, tmp_path / "whole").bytes_received
    rest = upgrade(tmp_path / "m")
    assert rest.configuration == K - 1
    assert rest.bytes_received + result.bytes_received <= whole


def test_nothing_complete_at_the_deadline(endpoint: str, tmp_path: Path) -> None:
    link = Link(rate_bps=2e5)
    with pytest.raises(UnmeetableError, match="are kept"):
        fetch(endpoint, tmp_path / "m", Request(deadline_s=0.5, throughput_bps=1e9), link=link)
    kept = sum(path.stat().st_size for path in (tmp_path / "m").rglob("*") if path.is_file())
    assert kept > 4000
    whole = fetch(endpoint, tmp_path / "whole").bytes_received
    assert fetch(endpoint, tmp_path / "m").bytes_received < whole - 4000


def test_a_fetch_that_was_cut_off_before_the_ladder_is_no_broken_model(
    package: Path, endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is there to run yet, and nothing that is there is wrong."""
    model = tmp_path / "m"
    base = endpoint.removesuffix("/chain")
    Store.begin(model, Layout.open(package).manifest("latest"), name="chain", url=base, reference=None)
    assert (model / "state.json").exists() and not (model / "ladder.json").exists()
    assert verify_model(model) == []
    for act in (lambda: Model.open(model), lambda: shed(model, 0)):
        with pytest.raises(UnmeetableError, match="no ladder yet"):
            act()
    assert main(["run", str(model), str(tmp_path / "none.npy")]) == 3
    assert "fetch it again" in capsys.readouterr().err
    assert main(["verify", str(model)]) == 0
    assert fetch(endpoint, model).configuration == K - 1


def test_a_ladder_of_another_version_is_a_finding(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    state = json.loads((tmp_path / "m" / "state.json").read_text())
    state["files"]["ladder.json"]["layer"] = "sha256:" + "0" * 64
    state["configuration"] = None
    (tmp_path / "m" / "state.json").write_text(json.dumps(state))
    assert any("another version's" in line for line in verify_model(tmp_path / "m"))
    with pytest.raises(FormatError, match="another version's"):
        Model.open(tmp_path / "m")


def test_what_had_arrived_of_another_model_goes(endpoint: str, served: str, tmp_path: Path) -> None:
    with pytest.raises(UnmeetableError, match="are kept"):
        fetch(endpoint, tmp_path / "m", Request(deadline_s=0.5, throughput_bps=1e9), link=Link(rate_bps=2e5))
    assert any((tmp_path / "m" / ".incoming").iterdir())
    fetch(f"{served}/precision", tmp_path / "m")
    fetch(f"{served}/precision", tmp_path / "alone")
    assert verify_model(tmp_path / "m") == []
    here, alone = (
        {path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*") if path.is_file()} for name in ("m", "alone")
    )
    assert here == alone


def test_a_missing_file_is_a_finding_and_not_the_end_of_the_check(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    gone = sorted((tmp_path / "m").glob("*.safetensors"))[-1]
    gone.unlink()
    problems = verify_model(tmp_path / "m")
    assert any(f"{gone} is missing" in problem for problem in problems)


def test_a_next_version_that_was_begun_goes_with_the_model_that_it_was_of(endpoint: str, served: str, tmp_path: Path) -> None:
    model = tmp_path / "m"
    fetch(endpoint, model, Request(max_bytes=60_000))
    (model / ".next").mkdir()
    (model / ".next" / "state.json").write_text("{")
    (model / ".signature.json").write_text("{}")
    next(iter(sorted(model.glob("*.safetensors")))).unlink()  # nothing of it can run any more
    fetch(f"{served}/precision", model)
    assert verify_model(model) == [] and not (model / ".next").exists() and not (model / ".signature.json").exists()


def test_a_folder_that_was_prepared_is_still_there_after_a_fetch_that_failed(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir(mode=0o750)
    before = (tmp_path / "m").stat()
    for place in ("m", "new"):
        with pytest.raises(TransferError):
            fetch("http://127.0.0.1:1/chain", tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m").stat().st_ino == before.st_ino
    assert list((tmp_path / "m").iterdir()) == []


def test_a_model_is_found_from_another_working_directory(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fetch(endpoint, "m", Request(max_bytes=100_000))
    with Model.open("m") as model:
        monkeypatch.chdir("/")
        model.run(X)
        assert model.refresh() == model.configuration


def test_no_configuration_lies_below_the_first(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=100_000))
    with Model.open(tmp_path / "m") as model:
        for act in (lambda: model.run(X, -1), lambda: model.session(-1), lambda: shed(tmp_path / "m", -1)):
            with pytest.raises(UsageError, match="there is no configuration -1"):
                act()
        model.run(X)
    assert verify_model(tmp_path / "m") == []


def test_a_deadline_is_tried_where_the_endpoint_has_forgotten_what_is_held(tmp_path: Path) -> None:
    add_version(tmp_path / "chain", "latest", 0)
    add_version(tmp_path / "next" / "chain", "latest", 5)
    with serving(tmp_path / "chain") as url:
        before = fetch(f"{url}/chain", tmp_path / "m", Request(max_bytes=100_000))
        (tmp_path / "chain").rename(tmp_path / "before")
        (tmp_path / "next" / "chain").rename(tmp_path / "chain")
        # By what it believes nothing arrives in time; the link is better than that.
        result = upgrade(tmp_path / "m", Request(reference="latest", deadline_s=60.0, throughput_bps=1.0))
    assert result.manifest != before.manifest
    assert result.deadline_met


def test_an_unmeetable_request_sends_nothing(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(UnmeetableError) as caught:
        fetch(endpoint, tmp_path / "m", Request(min_quality=0.999))
    assert caught.value.limit == "min_quality"
    assert not (tmp_path / "m" / "state.json").exists()


def test_another_version_takes_its_place_whole(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    with Model.open(tmp_path / "m") as model:
        before = model.run(X)["y"]
        result = upgrade(tmp_path / "m", Request(reference="v2"))
        assert [k for k, _ in result.ready] == [result.configuration]  # the old version's answers are none of this one
        np.testing.assert_array_equal(model.run(X)["y"], before)  # the session under way is the old one
        model.refresh()
        assert not np.allclose(model.run(X)["y"], before)
    assert result.bytes_reused > 75_000  # two segments are shared
    assert verify_model(tmp_path / "m") == []
    assert not (tmp_path / "m" / ".next").exists()


def test_a_version_that_did_not_arrive_whole_changes_nothing(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    with Model.open(tmp_path / "m") as model:
        old = model.manifest.digest
    result = upgrade(tmp_path / "m", Request(reference="v2", deadline_s=0.4, throughput_bps=1e9), link=SLOW)
    assert (result.manifest, result.deadline_met) == (old, False)
    answers(tmp_path / "m", K - 1)
    assert verify_model(tmp_path / "m") == []
    again = upgrade(tmp_path / "m", Request(reference="v2"))
    assert again.manifest != old


@pytest.mark.parametrize("again", [fetch, upgrade])
def test_what_is_complete_is_the_answer_to_a_deadline_that_nothing_can_keep(endpoint: str, tmp_path: Path, again: object) -> None:
    """By what the caller says of the link, not even the round trips end in time."""
    fetch(endpoint, tmp_path / "m", Request(max_bytes=100_000))
    request = Request(deadline_s=5.0, rtt_s=6.0, throughput_bps=1e9)
    result = fetch(endpoint, tmp_path / "m", request) if again is fetch else upgrade(tmp_path / "m", request)
    assert result.configuration >= 0
    assert verify_model(tmp_path / "m") == []


def test_a_deadline_that_passed_before_anything_was_waited_for_was_not_met(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    result = upgrade(tmp_path / "m", Request(deadline_s=1e-9))
    assert (result.configuration, result.deadline_met) == (K - 1, False)


def test_what_another_model_was_ready_for_is_not_told(endpoint: str, served: str, tmp_path: Path) -> None:
    told: list[int] = []

    async def ready(k: int, _seconds: float) -> None:
        told.append(k)

    fetch(endpoint, tmp_path / "m", Request(max_bytes=100_000))
    result = fetch(f"{served}/precision", tmp_path / "m", observer=Observer(ready=ready))
    assert told == [result.configuration] == [k for k, _ in result.ready]


def test_another_model_is_no_answer_to_a_deadline(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    with pytest.raises(UnmeetableError, match="nothing was complete"):
        fetch(endpoint.replace("/chain", "/nosuch"), tmp_path / "m", Request(deadline_s=1e-9))
    assert verify_model(tmp_path / "m") == []  # what lies there stays


def test_shed_gives_back_and_the_next_upgrade_brings_back(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    left, freed = shed(tmp_path / "m", 1)
    assert left == 1 and freed > 3 * 4 * WIDTH**2
    assert verify_model(tmp_path / "m") == []
    with Model.open(tmp_path / "m") as model:
        assert model.configuration == 1
        with pytest.raises(UnmeetableError):
            model.run(X, 4)
    upgrade(tmp_path / "m")
    answers(tmp_path / "m", K - 1)


def test_a_corrupt_file_never_runs_and_only_it_is_repaired(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    place = tmp_path / "m" / "002.safetensors"
    data = bytearray(place.read_bytes())
    data[-3] ^= 1
    place.write_bytes(data)
    with Model.open(tmp_path / "m") as model:
        model.run(X, 1)
        with pytest.raises(DigestError, match=r"002\.safetensors"):
            model.run(X, 2)
    assert any("002.safetensors" in problem for problem in verify_model(tmp_path / "m"))
    result = fetch(endpoint, tmp_path / "m")
    assert len(data) <= result.bytes_received < len(data) + 20_000
    answers(tmp_path / "m", K - 1)


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TransferError, match="can't reach"):
        fetch(f"http://127.0.0.1:{port}/chain", tmp_path / "m")


def test_an_unknown_name(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        fetch(endpoint + "-not", tmp_path / "m")
    with pytest.raises(UsageError):
        fetch(endpoint + ":v99", tmp_path / "m")


def test_a_folder_that_holds_something_else_is_left_alone(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear all")
    with pytest.raises(UsageError, match="holds something else"):
        fetch(endpoint, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def kept(model: Path) -> int:
    """Bytes of layers that are there, in their place or on their way."""
    held = {entry["layer"] for entry in json.loads((model / "state.json").read_bytes())["files"].values()}
    total = 0
    for layer in json.loads((model / "manifest.json").read_bytes())["layers"]:
        place = model / layer.get("annotations", {}).get("org.cncf.model.filepath", "nowhere")
        incoming = model / ".incoming" / layer["digest"].removeprefix("sha256:")
        if layer["digest"] in held or place.is_file():
            total += layer["size"]
        elif incoming.is_file():
            total += incoming.stat().st_size
    return total


def test_kill_9_at_random_moments_and_no_verified_byte_comes_twice(endpoint: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    model = tmp_path / "m"
    total = fetch(endpoint, tmp_path / "whole").bytes_received
    command = [sys.executable, "-m", "accordion.cli", "fetch", endpoint, "-o", str(model), "--limit-rate", "1Mbps", "--json"]
    before = 0
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 1.1))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if (model / "state.json").exists():
            now = kept(model)
            assert now >= before  # nothing that was there is lost
            before = now
            assert all("lacks" in line or "no ladder" in line for line in verify_model(model))
    rest = fetch(endpoint, model)
    assert rest.configuration == K - 1
    assert rest.bytes_received + before <= total + 4096
    answers(model, K - 1)


def test_every_stream_byte_after_a_cut_comes_once(endpoint: str, tmp_path: Path) -> None:
    counted = []
    observer = Observer(received=lambda _seconds, count: counted.append(count))
    first = None
    with contextlib.suppress(UnmeetableError):
        first = fetch(endpoint, tmp_path / "m", Request(deadline_s=0.6, throughput_bps=1e9), link=SLOW, observer=observer)
    second = fetch(endpoint, tmp_path / "m")
    whole = fetch(endpoint, tmp_path / "whole")
    sent = (first.bytes_received if first else counted[-1]) + second.bytes_received
    assert abs(sent - whole.bytes_received) <= 0.01 * whole.bytes_received


def test_an_upgrade_never_fails_an_inference(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m", Request(max_bytes=60_000))
    stop, failures, runs = threading.Event(), [], []
    with Model.open(tmp_path / "m") as model:

        def work() -> None:
            while not stop.is_set():
                try:
                    runs.append(model.run(X)["y"].shape)
                except Exception as error:
                    failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()

        async def ready(_k: int, _seconds: float) -> None:
            model.refresh()

        upgrade(tmp_path / "m", link=SLOW, observer=Observer(ready=ready))
        upgrade(tmp_path / "m", Request(reference="v2"), observer=Observer(ready=ready))
        shed(tmp_path / "m", 2)
        model.refresh()
        model.run(X)
        stop.set()
        for thread in threads:
            thread.join()
        assert model.configuration == 2
    assert failures == []
    assert len(runs) > 10


def test_what_another_thread_sheds_after_the_choice_is_not_missed(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(endpoint, tmp_path / "m")
    choices = []
    with Model.open(tmp_path / "m") as model:
        choose = model.choose

        def chosen_then_shed(*arguments: object, **keywords: object) -> int:
            choices.append(choose(*arguments, **keywords))
            if len(choices) == 1:
                shed(tmp_path / "m", 1)
                model.refresh()
            return choices[-1]

        monkeypatch.setattr(model, "choose", chosen_then_shed)
        assert model.run(X)["y"].shape
    assert choices[0] > 1 and choices[-1] == 1


def test_a_state_that_is_no_json_is_fetched_anew(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    (tmp_path / "m" / "state.json").write_text("{")
    assert verify_model(tmp_path / "m")
    result = fetch(endpoint, tmp_path / "m")
    assert result.configuration == K - 1
    assert result.bytes_received < 20_000  # the segments were recognised by their digests
    assert json.loads((tmp_path / "m" / "state.json").read_text())["configuration"] == K - 1


def test_a_broken_manifest_alone_comes_again(endpoint: str, tmp_path: Path) -> None:
    fetch(endpoint, tmp_path / "m")
    place = tmp_path / "m" / "manifest.json"
    size = place.stat().st_size
    place.write_bytes(place.read_bytes()[:-1])
    result = fetch(endpoint, tmp_path / "m")
    assert result.configuration == K - 1 and result.bytes_received <= size
    assert verify_model(tmp_path / "m") == []
