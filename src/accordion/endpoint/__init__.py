"""The network side: an ASGI application over package directories, a server for it, and the same as static files.

`export` needs nothing beyond the device's own dependencies; `create_app` and `serve` need the extra `endpoint`, so they are
imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accordion.endpoint.export import export
from accordion.errors import UsageError
from accordion.extras import how_to_install

if TYPE_CHECKING:
    from accordion.endpoint.app import create_app
    from accordion.endpoint.server import serve

__all__ = ["create_app", "export", "serve"]


def __getattr__(name: str) -> Any:
    try:
        if name == "create_app":
            from accordion.endpoint.app import create_app

            return create_app
        if name == "serve":
            from accordion.endpoint.server import serve

            return serve
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "accordion":
            raise
        raise UsageError(f"the endpoint needs {missing}: {how_to_install('endpoint')}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
