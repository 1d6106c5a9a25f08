// What goes wrong on a channel ends that channel alone: the connection and its other channels go on.

const { assert, drain, run } = require("./barn");

run(async (connection) => {
  const steady = await connection.createConfirmChannel();
  const { queue } = await steady.assertQueue("", { exclusive: true });

  async function fails(code, words, act) {
    const channel = await connection.createChannel();
    const errors = [];
    channel.on("error", (error) => errors.push(error));
    const closed = new Promise((resolve) => channel.on("close", resolve));
    await assert.rejects(act(channel));
    await closed;
    assert.deepEqual(errors.map((error) => error.code), [code]);
    assert.match(errors[0].message, words);
    // A message on another channel, there and back.
    steady.sendToQueue(queue, Buffer.from(`after ${code}`));
    await steady.waitForConfirms();
    assert.deepEqual(await drain(steady, queue), [`after ${code}`]);
  }

  await fails(404, /NOT_FOUND - no queue 'none' in vhost '\/'/, (channel) => channel.checkQueue("none"));
  await fails(404, /NOT_FOUND - no exchange 'none' in vhost '\/'/, (channel) => channel.checkExchange("none"));
  await fails(406, /PRECONDITION_FAILED - inequivalent arg 'durable'/, async (channel) => {
    await channel.assertQueue("solid", { durable: true });
    await channel.assertQueue("solid", { durable: false });
  });
  await fails(403, /ACCESS_REFUSED/, (channel) => channel.assertExchange("amq.mine", "direct"));
  await steady.deleteQueue("solid");
});
