from accordion.artifact.ladder import Blocks, Configuration, Ladder
from accordion.artifact.quality import Quality
from accordion.artifact.tensor_spec import TensorSpec
from accordion.cli.table import columns, ladder_table, profile_table


def quality(value: float, unit: str = "fraction", direction: str = "higher") -> Quality:
    return Quality("accuracy", direction, unit, value, (value - 0.01, value + 0.01), 0.95, "clopper-pearson", 360, "digits", "test")


def ladder(*values: float) -> Ladder:
    spec = (TensorSpec("x", "float32", ("n", 1)),)
    rows = tuple(
        Configuration(
            k, Blocks(k + 1, (k + 1, 0)), "float32", k + 1, "g", 10 ** (3 + k), 5000 * k, 12 * 1000**k, "input", quality(value)
        )
        for k, value in enumerate(values)
    )
    return Ladder("image-classification", "right-to-left", spec, spec, rows)


def test_a_line_for_each_configuration_with_the_contracts_columns():
    lines = ladder_table(ladder(0.5, 0.9125))
    assert lines[0].split() == ["k", "blocks", "precision", "bytes", "share", "parameters", "MACs", "quality", "interval"]
    assert lines[2].split() == [
        "1", "2", "(2+0)", "float32", "10,000", "100.0%", "5,000", "12.0", "k", "91.25", "%", "90.25–92.25", "%",
    ]  # fmt: skip
    assert len({len(line) for line in lines[:3]}) == 1
    assert "360 samples of digits test, 95% interval (clopper-pearson)" in "\n".join(lines)


def test_what_a_model_folder_holds_is_marked():
    lines = ladder_table(ladder(0.5, 0.6, 0.7), complete=1)
    assert [line.endswith("here") for line in lines[1:4]] == [True, True, False]


def test_figures_stand_flush_right():
    assert columns([["a", "bb", "c", "d"], ["10", "2", "ccc", "44"]]) == [" a  bb  c     d", "10   2  ccc  44"]


def test_the_profile_has_no_bytes_yet():
    fields = {
        "configurations": [
            {
                "index": 0,
                "blocks": {"total": 1, "by_stage": [1, 0]},
                "precision": "float32",
                "parameters": 1234,
                "macs": 5,
                "latency_s": {"median": 0.00125},
                "quality": quality(0.5).to_json(),
            }
        ]
    }
    lines = profile_table(fields)
    assert "bytes" not in lines[0]
    assert "1.25 ms" in lines[1]
    del fields["configurations"][0]["latency_s"]
    assert "ms" not in profile_table(fields)[1]
