import pytest

from accordion.errors import UsageError
from accordion.registry import Reference, is_url, parse_reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://localhost:5000/name", Reference("http://localhost:5000", "name")),
        ("http://localhost:5000/name:v1", Reference("http://localhost:5000", "name", "v1")),
        ("https://example.org/a/b-c:1.0", Reference("https://example.org", "a/b-c", "1.0")),
        (f"http://[::1]:80/n@{DIGEST}", Reference("http://[::1]:80", "n", DIGEST)),
    ],
)
def test_an_address_is_taken_apart_and_put_together_again(text, expected):
    assert is_url(text)
    assert parse_reference(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "name", "ftp://h/name", "http://", "http://host", "http://host/", "http:///name", "http://h/na me", "http://h/../x", "http://h/a//b",
        "http://h/name:", "http://h/name:ta/g", "http://h/name@v1", "http://h/name@sha256:00", "http://u:p@h/name", "http://h/n?x=1",
        "http://h/n#x", "http://h:port/n", "http://[::1/n", "http://h/" + "n" * 2000, "http://h/n\n",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_one_line(text):
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert "\n" not in str(caught.value)
