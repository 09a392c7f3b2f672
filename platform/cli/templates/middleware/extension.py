"""Hides paths of apps from the world."""

import json

from wit_world import exports
from wit_world.imports import config
from wit_world.imports.berth_middleware_types import Reply

# An instance answers many requests, so the configuration is read once.
hidden = None


class RequestFilter(exports.RequestFilter):
    def on_request(self, request):
        """Nothing lets the request go on."""
        global hidden
        if hidden is None:
            hidden = tuple(json.loads(config.get("hidden") or "[]"))
        if not request.path().startswith(hidden):
            return None
        return Reply(404, [("content-type", b"text/plain")], b"not found\n")
