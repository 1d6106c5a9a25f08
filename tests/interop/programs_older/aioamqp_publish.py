"""Publishes a thousand persistent messages with confirms, through a topic exchange."""

import asyncio
import os

import aioamqp


async def publish():
    transport, protocol = await aioamqp.connect("127.0.0.1", int(os.environ["AMQP_PORT"]))
    channel = await protocol.channel()
    await channel.exchange_declare("older.x", "topic", durable=True)
    await channel.queue_declare("older", durable=True)
    await channel.queue_bind("older", "older.x", "number.#")
    await channel.confirm_select()
    for number in range(1000):
        # Returns with the confirm.
        await channel.publish(str(number), "older.x", f"number.{number}", properties={"delivery_mode": 2})
    await protocol.close()
    transport.close()
    print("passed", flush=True)


asyncio.run(publish())
