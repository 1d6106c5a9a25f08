// What the programs share: a connection, reading a queue to its end.

const assert = require("node:assert/strict");
const amqp = require("amqplib");

const port = process.env.AMQP_PORT ?? "5672";

/** Runs `scenario(connection)`, closes the connection and says that it passed; a connection that fails ends the program. */
async function run(scenario) {
  const connection = await amqp.connect(`amqp://guest:guest@localhost:${port}`);
  const failures = [];
  connection.on("error", (error) => failures.push(error));
  await scenario(connection);
  await connection.close();
  assert.deepEqual(failures, []);
  console.log("passed");
}

/** The texts of all messages that wait in `queue`, which is empty then. */
async function drain(channel, queue) {
  const texts = [];
  for (;;) {
    const message = await channel.get(queue, { noAck: true });
    if (message === false) return texts;
    texts.push(message.content.toString());
  }
}

module.exports = { assert, drain, run };
