"""Consumes what `aioamqp_publish.py` published, in its order, and acknowledges each message."""

import asyncio
import os

import aioamqp


async def consume():
    transport, protocol = await aioamqp.connect("127.0.0.1", int(os.environ["AMQP_PORT"]))
    channel = await protocol.channel()
    await channel.basic_qos(prefetch_count=10, prefetch_size=0, connection_global=False)
    received, complete = [], asyncio.Event()

    async def take(channel, body, envelope, properties):
        assert properties.delivery_mode == 2, properties
        received.append((envelope.routing_key, body.decode()))
        await channel.basic_client_ack(envelope.delivery_tag)
        if len(received) == 1000:
            complete.set()

    await channel.basic_consume(take, queue_name="older")
    await complete.wait()
    assert received == [(f"number.{number}", str(number)) for number in range(1000)]
    # Behind the acknowledgements, on the same channel.
    assert (await channel.queue_declare("older", passive=True))["message_count"] == 0
    await protocol.close()
    transport.close()
    print("passed", flush=True)


asyncio.run(consume())
