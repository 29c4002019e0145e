"""HTTP servers on loopback ports, each in its own threads, and requests that are passed on to a local AWS."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Seconds. Generous: it only ends what hangs.
ANSWER_TIMEOUT = 60


class Server(ThreadingHTTPServer):
    """Serves on a free loopback port until `stop`. Its handlers find what they work for in `server.owner`."""

    daemon_threads = True

    def __init__(self, handler, owner):
        super().__init__(("127.0.0.1", 0), handler)
        self.owner = owner
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """Ignores broken connections: tests kill the processes at the other end."""

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Reads request bodies and answers with whole bodies. Logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def forward(address, path, headers, body):
    """Passes a request on to a host and port, and returns the status and the body of the answer."""
    connection = http.client.HTTPConnection(address, timeout=ANSWER_TIMEOUT)
    try:
        # The Host header stays as it is, because the signature covers it.
        kept = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        connection.request("POST", path, body, kept)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
