"""What servers that are made up for one test have in common."""

from __future__ import annotations

import http.server


class Plain(http.server.BaseHTTPRequestHandler):
    """Says nothing on the console; `send` answers with a status and a body."""

    def send(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
