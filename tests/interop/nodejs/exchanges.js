// Each type of exchange, and one bound to another: which messages go where.

const { assert, drain, run } = require("./barn");

run(async (connection) => {
  const channel = await connection.createConfirmChannel();
  const queue = async () => (await channel.assertQueue("", { exclusive: true })).queue;

  await channel.assertExchange("weather", "topic", { durable: true });
  const [everything, north, rain] = [await queue(), await queue(), await queue()];
  await channel.bindQueue(everything, "weather", "#");
  await channel.bindQueue(north, "weather", "north.*");
  await channel.bindQueue(rain, "weather", "*.rain.#");
  for (const key of ["north.rain", "south.rain.heavy", "north", "south.sun", "north.sun"]) {
    channel.publish("weather", key, Buffer.from(key));
  }

  await channel.assertExchange("calls", "fanout", { durable: false });
  const ears = [await queue(), await queue()];
  for (const ear of ears) await channel.bindQueue(ear, "calls", "ignored");
  channel.publish("calls", "whatever", Buffer.from("an eagle"));

  await channel.assertExchange("plants", "headers", { autoDelete: true });
  const [all, any] = [await queue(), await queue()];
  await channel.bindQueue(all, "plants", "", { "x-match": "all", green: true, height: 3 });
  await channel.bindQueue(any, "plants", "", { "x-match": "any", green: true, height: 3 });
  const plant = (name, headers) => channel.publish("plants", "", Buffer.from(name), { headers });
  plant("grass", { green: true, height: 3 });
  plant("moss", { green: true, height: 1 });
  plant("straw", { green: false, height: 2 });

  await channel.assertExchange("orders", "direct", { durable: true });
  await channel.assertExchange("archive", "fanout", { durable: true, internal: true });
  const [express, archived] = [await queue(), await queue()];
  await channel.bindQueue(express, "orders", "express");
  await channel.bindExchange("archive", "orders", "express");
  await channel.bindExchange("archive", "orders", "slow");
  await channel.bindQueue(archived, "archive", "");
  for (const key of ["express", "slow", "lost"]) channel.publish("orders", key, Buffer.from(key));
  await channel.unbindExchange("archive", "orders", "slow");
  channel.publish("orders", "slow", Buffer.from("slow, not archived"));

  // Confirmed means routed: whatever is to be in a queue is there.
  await channel.waitForConfirms();
  const found = async (name) => (await drain(channel, name)).sort();
  assert.deepEqual(await found(everything), ["north", "north.rain", "north.sun", "south.rain.heavy", "south.sun"]);
  assert.deepEqual(await found(north), ["north.rain", "north.sun"]);
  assert.deepEqual(await found(rain), ["north.rain", "south.rain.heavy"]);
  for (const ear of ears) assert.deepEqual(await found(ear), ["an eagle"]);
  assert.deepEqual(await found(all), ["grass"]);
  assert.deepEqual(await found(any), ["grass", "moss"]);
  assert.deepEqual(await found(express), ["express"]);
  assert.deepEqual(await found(archived), ["express", "slow"]);

  for (const name of ["weather", "calls", "orders", "archive"]) await channel.deleteExchange(name);
});
