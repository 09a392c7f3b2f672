"""A small Wasm app that the push builds: `GET /` greets with `GREETING`, `POST /` sends back what it gets."""

import os


def app(environ, start_response):
    text = [("Content-Type", "text/plain; charset=utf-8")]
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/":
            start_response("200 OK", text)
            return [f"{os.environ.get('GREETING', 'Hello')} from Python\n".encode()]
        case "POST", "/":
            start_response("200 OK", text)
            return [environ["wsgi.input"].read()]
        case _:
            start_response("404 Not Found", text)
            return [b"there is nothing here\n"]
