// Takes the thousand messages in order, never more than ten at a time, and gives one of them back on the way.

const { assert, run } = require("./barn");

run(async (connection) => {
  const channel = await connection.createChannel();
  await channel.prefetch(10);
  const held = [];
  const taken = [];
  let returned = false;
  await new Promise((done, fail) => {
    channel
      .consume("hay", (message) => {
        try {
          held.push(message);
          assert.ok(held.length <= 10, `${held.length} are held`);
          // The first acknowledgement waits for all ten.
          if (taken.length + held.length < 10) return;
          const next = held.shift();
          if (taken.length === 500 && !returned) {
            returned = true;
            channel.nack(next);
            return;
          }
          channel.ack(next);
          taken.push(next);
          while (taken.length + held.length === 1000 && held.length > 0) {
            const last = held.shift();
            channel.ack(last);
            taken.push(last);
          }
          if (taken.length === 1000) done();
        } catch (error) {
          fail(error);
        }
      })
      .catch(fail);
  });
  const texts = taken.map((message) => message.content.toString());
  // What was given back comes again before what had not been handed out yet, behind the nine that were held.
  const expected = Array.from({ length: 1000 }, (_, n) => `bale ${n}`);
  expected.splice(509, 0, ...expected.splice(500, 1));
  assert.deepEqual(texts, expected);
  assert.ok(taken.every((message) => message.properties.deliveryMode === 2));
  assert.equal(taken[509].fields.redelivered, true);
  await channel.close();

  const after = await connection.createChannel();
  assert.equal((await after.checkQueue("hay")).messageCount, 0);
});
