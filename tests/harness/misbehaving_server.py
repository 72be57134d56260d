"""A local HTTP server that does to a download what real ones do."""

from __future__ import annotations

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><head><title>Sorry, too many requests</title></head><body>no</body></html>"


class Server:
    """Serves `files` (path -> bytes); the first part of a path says how: /drop/x, /html/x …

    `requests` lists (path, Range header or None) as they come; `etag` may be changed between requests.
    """

    def __init__(self, files):
        self.files, self.requests, self.etag, self.drops = files, [], None, {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                owner.serve(self, head=True)

            def do_GET(self):
                owner.serve(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def serve(self, handler, head=False):
        how, _, name = handler.path.lstrip("/").partition("?")[0].partition("/")
        asked = handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        body = self.files.get(name)
        if how == "redirect":
            return self.answer(handler, 302, b"", {"Location": f"/plain/{name}"})
        if how == "loop":
            return self.answer(handler, 302, b"", {"Location": handler.path})
        if how == "missing" or body is None:
            return self.answer(handler, 404, b"not here")
        if how == "html":
            return self.answer(handler, 200, PAGE, {"Content-Type": "text/html"})
        if how == "disguised":  # an error page that claims to be the file
            return self.answer(handler, 200, PAGE, {"Content-Type": "application/octet-stream"})
        if how == "browser":  # what figshare and Dataverse answer programs
            return self.answer(handler, 202, b"")
        if how == "empty":
            return self.answer(handler, 200, b"")
        if how == "pointer":
            return self.answer(handler, 200, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
        if how == "wrong":
            return self.answer(handler, 200, body[:-7] + b"another")
        if how == "busy" and self.drops.setdefault(handler.path, 2):
            self.drops[handler.path] -= 1
            return self.answer(handler, 503, b"later")
        etag = self.etag or f'"{hashlib.md5(body).hexdigest()}"'
        start = 0
        if asked and how not in ("norange", "truncate", "unsized"):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if handler.headers.get("If-Range") not in (None, etag):
                start = 0
            elif start >= len(body):
                return self.answer(handler, 416, b"", {"Content-Range": f"bytes */{len(body)}"})
        headers = {"ETag": etag, "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        status, rest = 200, body[start:]
        if start:
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if how == "unsized":  # no length is said, and not all comes
            handler.send_response(200)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(body[: len(body) // 2])
            handler.close_connection = True
            return None
        cut = {"drop": 300_000, "truncate": len(body) // 2, "norange": len(rest)}.get(how, len(rest))
        handler.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(rest))}.items():
            handler.send_header(key, value)
        handler.end_headers()
        if head:
            return None
        if how == "slow":
            for i in range(0, len(rest), 50_000):
                handler.wfile.write(rest[i : i + 50_000])
                handler.wfile.flush()
                time.sleep(0.05)
        else:
            handler.wfile.write(rest[:cut])
        if cut < len(rest):
            handler.close_connection = True
        return None

    @staticmethod
    def answer(handler, status, body, headers=None):
        handler.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(key, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
