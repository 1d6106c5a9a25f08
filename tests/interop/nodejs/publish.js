// A thousand persistent messages, all under way at once, each with its confirm.

const { assert, run } = require("./barn");

run(async (connection) => {
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue("hay", { durable: true });
  const confirmed = [];
  for (let n = 0; n < 1000; n++) {
    channel.sendToQueue("hay", Buffer.from(`bale ${n}`), { persistent: true }, (error) => {
      assert.equal(error, null);
      confirmed.push(n);
    });
  }
  await channel.waitForConfirms();
  assert.deepEqual(confirmed, Array.from({ length: 1000 }, (_, n) => n));
});
