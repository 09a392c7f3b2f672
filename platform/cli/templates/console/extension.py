"""Shows whom to ask about an app."""

import json

from wit_world import exports
from wit_world.exports.pages import Page
from wit_world.imports import config


class Pages(exports.Pages):
    def pages(self):
        return [Page("owner", "Owner", "app", [])]

    def render(self, request):
        owner = json.loads(config.get("owners") or "{}").get(request.app)
        text = f"Ask {owner} about {request.app}." if owner else f"Nobody is named for {request.app}."
        return json.dumps({"blocks": [{"type": "text", "text": text}]})
