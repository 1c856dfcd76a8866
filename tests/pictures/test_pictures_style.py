"""Writing a picture: both files whole, or what was there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from accordion.errors import StorageError, UsageError
from accordion.pictures.style import new_figure, readable, save


@pytest.mark.parametrize("name", [".", "..", "/", "..png", "...svg"])
def test_what_is_no_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    with pytest.raises(UsageError, match="is no name for a picture: name a file"):
        save(new_figure(1, 1), Path(name))
    assert not list((tmp_path / "folder").iterdir()) and [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_name_may_have_other_dots(tmp_path: Path) -> None:
    names = [path.name for name in ("a.b", "a.c.png", "d.svg") for path in save(new_figure(1, 1), tmp_path / name)]
    assert names == ["a.b.png", "a.b.svg", "a.c.png", "a.c.svg", "d.png", "d.svg"]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_where_one_file_cannot_be_the_other_is_not_written(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"p.{suffix}").mkdir()
    with pytest.raises(StorageError, match=rf"can't write .*/p\.{suffix}: a folder"):
        save(new_figure(1, 1), tmp_path / "p")
    assert [path.name for path in tmp_path.iterdir()] == [f"p.{suffix}"]


LIMITED = """
import resource, sys
from pathlib import Path
from accordion.errors import StorageError
from accordion.pictures.style import new_figure, readable, save
figure = new_figure(6, 4)
figure.subplots()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    save(figure, Path(sys.argv[1]))
except StorageError as error:
    print(error)
"""


def test_on_a_full_disk_the_old_picture_stays(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in save(new_figure(1, 1), tmp_path / "p")}
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path / "p")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path / 'p.png'} is not drawn: can't write into")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_short_logarithmic_axis_is_labelled_with_numbers(tmp_path: Path) -> None:
    figure = new_figure(4, 3)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_xlim(0.2, 4)
    readable(axes.xaxis)
    figure.canvas.draw()
    assert [label.get_text() for label in axes.get_xticklabels() if label.get_text()][-4:] == ["0.5", "1", "2", "5"]
    assert not [label.get_text() for label in axes.get_xticklabels(minor=True) if label.get_text()]
