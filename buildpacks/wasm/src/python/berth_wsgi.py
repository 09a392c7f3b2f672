"""Answers the requests of wasi:http with a WSGI application (PEP 3333)."""

import io
import os
import random
import sys
import traceback
from urllib.parse import unquote_to_bytes

import MAIN as main
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import environment
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.wasi_http_types import (
    Fields,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

app = getattr(main, "app", None) or getattr(main, "application", None)
if not callable(app):
    raise SystemExit(
        "MAIN_FILE answers no requests: it has neither a class IncomingHandler nor a WSGI "
        "application of the name app or application"
    )

# As much as a stream takes in one call (wasi:io/streams).
PIECE_BYTES = 4096
# They belong to a connection and not to a message (RFC 9110, 7.6.1).
OF_CONNECTIONS = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}


class Input(io.RawIOBase):
    """The body of a request, read as it is asked for."""

    def __init__(self, stream):
        self.stream = stream

    def readable(self):
        return True

    def readinto(self, buffer):
        try:
            piece = self.stream.blocking_read(len(buffer))
        except Err as error:
            if isinstance(error.value, StreamError_Closed):
                return 0
            raise OSError("the body of the request ended early") from error
        buffer[: len(piece)] = piece
        return len(piece)


class Answer:
    """The response, whose head goes out with the first bytes of its body."""

    def __init__(self, out):
        self.out = out
        self.head = None
        self.body = None
        self.stream = None

    def start(self, status, headers, exc_info=None):
        if exc_info and self.body:
            raise exc_info[1].with_traceback(exc_info[2])
        if self.head and not exc_info:
            raise AssertionError("start_response was called a second time")
        self.head = (int(status.split(" ", 1)[0]), headers)
        return self.write

    def send_head(self):
        if self.head is None:
            raise AssertionError("start_response was not called")
        status, headers = self.head
        fields = [
            (name, value.encode("latin-1"))
            for name, value in headers
            if name.lower() not in OF_CONNECTIONS
        ]
        response = OutgoingResponse(Fields.from_list(fields))
        response.set_status_code(status)
        self.body = response.body()
        self.stream = self.body.write()
        ResponseOutparam.set(self.out, Ok(response))

    def write(self, data):
        if not data:
            return
        if self.body is None:
            self.send_head()
        for at in range(0, len(data), PIECE_BYTES):
            self.stream.blocking_write_and_flush(bytes(data[at : at + PIECE_BYTES]))

    def finish(self):
        if self.body is None:
            self.send_head()
        self.stream.__exit__(None, None, None)
        OutgoingBody.finish(self.body, None)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        # The configuration is that of the release, not that of the build.
        os.environ.update(environment.get_environment())
        # Without it, each request would see the numbers that the build began with.
        random.seed()
        answer = Answer(response_out)
        with request.consume() as body, body.stream() as stream:
            try:
                parts = app(environ(request, stream), answer.start)
                try:
                    for part in parts:
                        answer.write(part)
                finally:
                    if hasattr(parts, "close"):
                        parts.close()
            except Exception:
                traceback.print_exc()
                if answer.body is not None:
                    raise
                answer.head = (500, [("Content-Type", "text/plain")])
                answer.write(b"The application failed.\n")
            answer.finish()


def environ(request, stream):
    """What an application is told of a request."""
    method = request.method()
    name = getattr(method, "value", None) or type(method).__name__.removeprefix("Method_").upper()
    path, _, query = (request.path_with_query() or "/").partition("?")
    host, _, port = (request.authority() or "localhost").partition(":")
    scheme = type(request.scheme()).__name__.removeprefix("Scheme_").lower()
    told = {
        "REQUEST_METHOD": name,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": host,
        "SERVER_PORT": port or ("443" if scheme == "https" else "80"),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if scheme == "https" else "http",
        "wsgi.input": io.BufferedReader(Input(stream)),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in request.headers().entries():
        key = name.upper().replace("-", "_")
        # HTTP_PROXY would be taken for the variable of that name.
        if key == "PROXY":
            continue
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        value = value.decode("latin-1")
        told[key] = f"{told[key]}, {value}" if key in told else value
    return told
