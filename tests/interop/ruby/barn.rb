# frozen_string_literal: true

# What the programs share: a connection, reading a queue to its end, and saying that everything came true.

require "bunny"

$stdout.sync = true

# Runs the block with a connection, closes it and says that it passed. Whatever fails ends the program.
def run(**options)
  options = {host: "127.0.0.1", port: ENV.fetch("AMQP_PORT", "5672").to_i, logger: Logger.new($stdout, level: :warn), **options}
  # In milliseconds: how long an answer may take, on whatever machine.
  connection = Bunny.new(continuation_timeout: 60_000, **options)
  connection.start
  yield connection
  connection.close
  puts "passed"
end

def check(found, expected)
  raise "#{expected.inspect} was expected, #{found.inspect} came" unless found == expected
end

# The texts of all messages that wait in the queue, which is empty then.
def drain(queue)
  texts = []
  loop do
    _, _, text = queue.pop
    return texts if text.nil?

    texts << text
  end
end
