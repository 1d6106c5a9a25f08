// Every type of a field table, and every property of a message, come back as they went.

const { assert, run } = require("./barn");

// The values, and what the client makes of them when it reads them: numbers come back without the name of their type.
const typed = (type, value) => ({ "!": type, value });
const fields = {
  string: ["heu, foin, sénó, 干草", undefined],
  empty: ["", undefined],
  bytes: [Buffer.from([0, 1, 254, 255]), undefined],
  yes: [true, undefined],
  no: [false, undefined],
  nothing: [null, undefined],
  int8: [typed("int8", -128), -128],
  uint8: [typed("uint8", 255), 255],
  int16: [typed("int16", -32768), -32768],
  uint16: [typed("uint16", 65535), 65535],
  int32: [typed("int32", -2147483648), -2147483648],
  uint32: [typed("uint32", 4294967295), 4294967295],
  int64: [typed("int64", Number.MIN_SAFE_INTEGER), Number.MIN_SAFE_INTEGER],
  float: [typed("float", -0.5), -0.5],
  double: [typed("double", Math.PI), Math.PI],
  timestamp: [typed("timestamp", 1700000000), undefined],
  decimal: [typed("decimal", { places: 2, digits: 12345 }), undefined],
  array: [["a", 1, [true, null], { deep: "er" }], undefined],
  table: [{ of: { tables: { of: ["tables"] } }, nothing: {} }, undefined],
};
const sent = Object.fromEntries(Object.entries(fields).map(([name, [value]]) => [name, value]));
const expected = Object.fromEntries(
  Object.entries(fields).map(([name, [value, read]]) => [name, read === undefined ? value : read]),
);

run(async (connection) => {
  const channel = await connection.createConfirmChannel();
  // A durable queue and a persistent message: what comes back has been through the log's format.
  await channel.assertQueue("tables", { durable: true, arguments: sent });
  const properties = {
    contentType: "text/plain",
    contentEncoding: "identity",
    headers: sent,
    deliveryMode: 2,
    priority: 7,
    correlationId: "correlation",
    replyTo: "answers",
    messageId: "message",
    timestamp: 1700000000,
    type: "letter",
    userId: "guest",
    appId: "barn",
  };
  channel.sendToQueue("tables", Buffer.from("body"), properties);
  await channel.waitForConfirms();

  const message = await channel.get("tables", { noAck: true });
  const { headers, ...others } = message.properties;
  assert.deepEqual(headers, expected);
  for (const [name, value] of Object.entries(others)) {
    assert.deepEqual(value, properties[name], name);
  }
  assert.equal(message.content.toString(), "body");

  // The queue's arguments are the same ones the second time.
  await channel.assertQueue("tables", { durable: true, arguments: sent });

  // Bindings with such arguments can be told from each other.
  await channel.bindQueue("tables", "amq.headers", "", sent);
  channel.publish("amq.headers", "", Buffer.from("matched"), { headers: sent });
  channel.publish("amq.headers", "", Buffer.from("not matched"), { headers: { ...sent, yes: false } });
  await channel.waitForConfirms();
  assert.equal((await channel.get("tables", { noAck: true })).content.toString(), "matched");
  assert.equal(await channel.get("tables", { noAck: true }), false);
  await channel.unbindQueue("tables", "amq.headers", "", sent);
  channel.publish("amq.headers", "", Buffer.from("matched"), { headers: sent });
  await channel.waitForConfirms();
  assert.equal((await channel.deleteQueue("tables")).messageCount, 0);
});
