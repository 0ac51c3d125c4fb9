"""A proxy before DynamoDB that lets the function crash between two calls, or after a call was done and before its answer came."""

from __future__ import annotations

import http.client
import http.server
import threading
from urllib.parse import urlparse


class Proxy:
    """Passes everything on; `arm(n, after, strike)` calls `strike` at the n-th request from then on, and answers nothing."""

    def __init__(self, upstream: str):
        self._upstream = urlparse(upstream)
        self._lock = threading.Lock()
        self._left, self._after, self._strike = 0, False, None
        self.struck = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a killed function leaves its connections
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def arm(self, left: int, after: bool, strike) -> None:
        with self._lock:
            self._left, self._after, self._strike = left, after, strike

    def disarm(self) -> None:
        with self._lock:
            self._strike = None

    def close(self) -> None:
        self._server.shutdown()

    def _strikes(self):
        """What to do at this request: (strike or None, whether the request is passed on before)."""
        with self._lock:
            if self._strike is None:
                return None, True
            self._left -= 1
            if self._left > 0:
                return None, True
            strike, self._strike = self._strike, None
            self.struck += 1
            return strike, self._after

    def _handler(proxy):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                strike, passed_on = proxy._strikes()
                answer = self._pass_on(body) if passed_on else None
                if strike:
                    strike()
                    self.close_connection = True
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _pass_on(self, body):
                upstream = http.client.HTTPConnection(proxy._upstream.hostname, proxy._upstream.port, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                upstream.request("POST", self.path, body, headers)
                answer = upstream.getresponse()
                content = answer.read()
                upstream.close()
                return answer.status, answer.getheaders(), content

        return Handler
