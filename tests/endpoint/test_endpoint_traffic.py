from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from accordion.endpoint.traffic import SECONDS, Traffic


def lines(registry: CollectorRegistry, name: str) -> list[str]:
    return sorted(
        line for line in generate_latest(registry).decode().splitlines() if line.startswith(name) and "_created" not in line
    )


def test_what_is_counted_is_shown() -> None:
    registry, traffic = CollectorRegistry(), Traffic()
    registry.register(traffic)
    assert lines(registry, "accordion_http_requests_total") == []
    for _ in range(3):
        traffic.note("blob", "GET", 200, 1000, 0.002)
    traffic.note("blob", "GET", 404, 20, 0.001)
    traffic.note("plan", "POST", 200, 500, 0.5)
    traffic.underway, traffic.transfers = 2, 1
    assert lines(registry, "accordion_http_requests_total") == [
        'accordion_http_requests_total{method="GET",route="blob",status="200"} 3.0',
        'accordion_http_requests_total{method="GET",route="blob",status="404"} 1.0',
        'accordion_http_requests_total{method="POST",route="plan",status="200"} 1.0',
    ]
    assert 'accordion_http_sent_bytes_total{route="blob"} 3020.0' in lines(registry, "accordion_http_sent_bytes_total")
    assert lines(registry, "accordion_http_requests_underway") == ["accordion_http_requests_underway 2.0"]
    assert lines(registry, "accordion_transfers_underway") == ["accordion_transfers_underway 1.0"]


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.00100001, 0.3, 99.9, 100.0, 1e6])
def test_a_time_is_counted_where_the_library_would_count_it(seconds: float) -> None:
    ours, theirs, traffic = CollectorRegistry(), CollectorRegistry(), Traffic()
    ours.register(traffic)
    traffic.note("plan", "POST", 200, 0, seconds)
    Histogram("accordion_http_request_seconds", "x", ["route"], buckets=SECONDS, registry=theirs).labels("plan").observe(seconds)
    assert lines(ours, "accordion_http_request_seconds") == lines(theirs, "accordion_http_request_seconds")
