"""What an operator does beside the protocol: users, permissions, virtual hosts, policies. Doing it again changes nothing."""

import subprocess

SECONDS = 30


class Haypile:
    """With the commands of the binary, on the data directory of a server that runs."""

    def __init__(self, binary, directory):
        self._binary = binary
        self._place = ["--data-dir", str(directory)]

    def virtual_host(self, name):
        self._do("vhosts", "add", name)

    def user(self, name, password):
        self._do("users", "add", name, given=password)

    def permit(self, user, configure, write, read, virtual_host="/"):
        self._do("users", "permit", user, configure, write, read, "--vhost", virtual_host)

    def policy(self, name, pattern, definition, apply_to, priority=0, kind=()):
        options = ["--apply-to", apply_to, "--priority", str(priority), *kind]
        self._do("policies", "set", name, pattern, definition, *options)

    def operator_policy(self, name, pattern, definition, apply_to):
        self.policy(name, pattern, definition, apply_to, kind=["--operator"])

    def _do(self, *command, given=""):
        _run([self._binary, *command, *self._place], given)


class RabbitMQ:
    """With `rabbitmqctl`, as a command that knows which node is meant."""

    def __init__(self, command):
        self._command = command

    def virtual_host(self, name):
        self._do("add_vhost", name)

    def user(self, name, password):
        self._do("add_user", name, password)

    def permit(self, user, configure, write, read, virtual_host="/"):
        self._do("set_permissions", "-p", virtual_host, user, configure, write, read)

    def policy(self, name, pattern, definition, apply_to, priority=0, command="set_policy"):
        self._do(command, "--apply-to", apply_to, "--priority", str(priority), name, pattern, definition)

    def operator_policy(self, name, pattern, definition, apply_to):
        self.policy(name, pattern, definition, apply_to, command="set_operator_policy")

    def _do(self, *command):
        _run([*self._command, "-q", *command], "")


def _run(command, given):
    done = subprocess.run(command, input=given, text=True, capture_output=True, timeout=SECONDS)
    if done.returncode != 0 and "already" not in done.stdout + done.stderr:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
