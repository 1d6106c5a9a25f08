"""Where the broker listens during a test: the programs of the tutorials name the host alone, as their readers would."""

import os

import pika

pika.connection.Parameters.DEFAULT_PORT = int(os.environ["AMQP_PORT"])
