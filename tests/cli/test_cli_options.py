import argparse
from pathlib import Path

import pytest

from accordion.cli import main, options


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (options.seconds, "300ms", 0.3),
        (options.seconds, "2h", 7200.0),
        (options.data, "10MiB", 10 * 2**20),
        (options.bits_per_second, "100Mbps", 1e8),
        (options.index, "0", 0),
        (options.count, "50e6", 50_000_000),
        (options.number, "-1.5", -1.5),
        (options.fraction, "0.95", 0.95),
        (options.port, "65535", 65535),
    ],
)
def test_what_people_write_is_read(convert, text, value):
    assert convert(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("convert", "text"),
    [
        (options.seconds, "banana"),
        (options.seconds, "0s"),
        (options.seconds, "-1s"),
        (options.data, "0"),
        (options.data, "10 bananas"),
        (options.bits_per_second, "0Mbps"),
        (options.index, "-1"),
        (options.index, "1.5"),
        (options.index, "9007199254740993"),
        (options.count, "0"),
        (options.count, "inf"),
        (options.count, "1e999"),
        (options.number, "nan"),
        (options.number, "much"),
        (options.fraction, "1"),
        (options.port, "65536"),
    ],
)
def test_nonsense_is_refused_with_the_text_in_one_line(convert, text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        convert(text)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tag_that_is_none_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["package", str(tmp_path / "nowhere"), "-o", str(tmp_path / "p"), "--tag", "a b"]) == 2
    assert "'a b' is no tag" in capsys.readouterr().err
