"""A guest book in memory: small, but with a form, a template and a static file."""

import os
import threading
import time

from flask import Flask, redirect, render_template, request, url_for

app = Flask(__name__)
STARTED = time.time()
NOTES_MAX = 50

_notes: list[str] = []
_lock = threading.Lock()


@app.get("/")
def index():
    with _lock:
        notes = list(reversed(_notes))
    greeting = os.environ.get("GREETING", "Hello from Flask")
    return render_template("index.html", greeting=greeting, notes=notes)


@app.post("/notes")
def add():
    text = request.form.get("text", "").strip()[:200]
    if text:
        with _lock:
            _notes.append(text)
            del _notes[:-NOTES_MAX]
    return redirect(url_for("index"), code=303)


@app.get("/healthz")
def healthz():
    return {"up_s": round(time.time() - STARTED, 1)}
