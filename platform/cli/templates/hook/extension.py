"""Tells a chat channel how deployments end."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config, log, secrets
from wit_world.imports.types import Error
from wit_world.imports.http_out import Request


class Handler(exports.Handler):
    def on_event(self, event):
        """An `Err` that is raised is tried again later."""
        app = json.loads(event.payload)["app"]
        if event.kind == "deployment.failed":
            text = f"{setting('mention')} the deployment of {app} failed"
        else:
            text = f"{app} was deployed"
        # The address is a secret: the host puts it in, this code never sees it.
        request = Request("POST", "")
        request.set_secret_url(secrets.open("webhook-url"))
        request.set_header("content-type", b"application/json")
        request.set_body(json.dumps({"text": text}, separators=(",", ":")).encode())
        status = request.send().status
        log.line("info", f"{event.kind}: the channel answered {status}")
        if status >= 300:
            retry = status >= 500 or status == 429
            raise Err(Error("refused", f"the channel answered {status}", retry, []))


def setting(name):
    """A value of the configuration, which comes as JSON."""
    value = config.get(name)
    return "" if value is None else json.loads(value)
