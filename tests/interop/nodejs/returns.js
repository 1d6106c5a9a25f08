// A message that must be routed and cannot be comes back, before its confirm.

const { assert, run } = require("./barn");

run(async (connection) => {
  const channel = await connection.createConfirmChannel();
  const events = [];
  channel.on("return", (message) => events.push(message));
  const publish = (key, options) =>
    channel.publish("amq.direct", key, Buffer.from(key), options, (error) => {
      assert.equal(error, null);
      events.push(`confirmed ${key}`);
    });

  publish("nowhere, and it matters", { mandatory: true, messageId: "17", headers: { kind: "letter" } });
  await channel.waitForConfirms();
  publish("nowhere, and it does not matter", {});
  await channel.waitForConfirms();
  const { queue } = await channel.assertQueue("", { exclusive: true });
  await channel.bindQueue(queue, "amq.direct", "somewhere");
  publish("somewhere", { mandatory: true });
  await channel.waitForConfirms();

  const [returned, ...confirms] = events;
  assert.deepEqual(confirms, [
    "confirmed nowhere, and it matters",
    "confirmed nowhere, and it does not matter",
    "confirmed somewhere",
  ]);
  assert.equal(returned.content.toString(), "nowhere, and it matters");
  const { replyCode, replyText, exchange, routingKey } = returned.fields;
  assert.deepEqual(
    { replyCode, replyText, exchange, routingKey },
    { replyCode: 312, replyText: "NO_ROUTE", exchange: "amq.direct", routingKey: "nowhere, and it matters" },
  );
  assert.equal(returned.properties.messageId, "17");
  assert.deepEqual(returned.properties.headers, { kind: "letter" });
});
