"""A user of `smartlog top` in a terminal: terminal.py PROGRAM ARGUMENTS...

Looks, sorts, makes the window larger, quits; says DONE when everything was as it should be.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

PATIENCE = 60.0


class Terminal:
    def __init__(self, command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # The variables of the tests are no settings of the program's.
            environment = {name: value for name, value in os.environ.items() if not name.startswith("SMARTLOG_")}
            os.execve(command[0], command, environment)
        self.shown = b""

    def resize(self, columns, lines):
        """What is drawn from now on begins with a whole screen."""
        self.shown = b""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, key):
        os.write(self.fd, key)

    def read(self):
        """Whether there is more to come."""
        if not select.select([self.fd], [], [], 0.5)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the program has ended
            return False
        self.shown += data
        return bool(data)

    def wait_for(self, words):
        ends = time.monotonic() + PATIENCE
        while words not in self.shown:
            if not self.read() or time.monotonic() > ends:
                sys.exit(f"{words!r} was not shown, but: {self.shown[-3000:]!r}")

    def end(self):
        while self.read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


terminal = Terminal(sys.argv[1:])
terminal.resize(80, 24)
terminal.wait_for(b"by severity")
terminal.wait_for(b"running")
terminal.press(b"s")
terminal.resize(120, 40)
terminal.wait_for(b"by volume")
terminal.press(b"?")
terminal.resize(100, 30)
terminal.wait_for(b"quit")
terminal.wait_for(b"warming")  # blanks are not always written: words are
terminal.press(b"\x7f")  # ends the help
terminal.press(b"q")
code = terminal.end()
if code != 0 or b"\x1b[?1049l" not in terminal.shown or b"\x1b[?25h" not in terminal.shown:
    sys.exit(f"it ended with {code} and left the terminal as it was: {terminal.shown[-300:]!r}")
print("DONE")
