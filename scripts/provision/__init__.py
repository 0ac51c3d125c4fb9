"""Real services for tests: installed once, started on free ports, stopped without a trace.

    scripts/services start kafka postgres
          |
          v
    registry.py   which services there are, in the order of starting
          |
          v
    core.py       install -> prepare (once) -> launch -> wait until it answers -> services.env
          |                         |                         |
          v                         v                         v
    install.py    the cache   services/NAME.py          process.py   what runs, what is left

Everything binds 127.0.0.1. Versions are pinned where they are named: next to what needs them.
Standard library only, so that it runs on a machine with nothing but Python 3.9 or newer, and Linux only, for it
reads /proc.
"""
