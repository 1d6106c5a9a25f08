"""Stands in for the part of RabbitMQ's HTTP interface that AMQPStorm's tests clean up with: deleting queues and exchanges."""

import http.server
import threading
import urllib.parse

import pika


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_DELETE(self):
        _, _, kind, _, name = map(urllib.parse.unquote, self.path.split("/"))
        parameters = pika.ConnectionParameters("127.0.0.1", self.server.broker)
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            {"queues": channel.queue_delete, "exchanges": channel.exchange_delete}[kind](name)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def serve(broker):
    """Starts to listen on a free port, and gives it; what is deleted is in the broker on that port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.broker = broker
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port
