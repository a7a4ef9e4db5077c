"""Runs a program as `python` does, but ends at once when it fails: `python -m mxnet_container.worker train.py ARGS`.

MXNet has a process that exits wait for the other workers, which would wait for this one's gradients for ever.
"""

import contextlib
import os
import runpy
import sys


def main() -> None:
    """Run the program; return only when it has ended well."""
    name = sys.argv[1]
    try:
        if name == "-m":
            name, sys.argv[:] = sys.argv[2], sys.argv[2:]
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = sys.argv[1:]
            sys.path[0] = os.path.dirname(os.path.abspath(name))
            runpy.run_path(name, run_name="__main__")
    except SystemExit as stop:
        if stop.code is None or stop.code == 0:
            raise
        if not isinstance(stop.code, int):
            print(stop.code, file=sys.stderr)
        _exit(stop.code if isinstance(stop.code, int) else 1)
    except BaseException:
        try:
            sys.excepthook(*sys.exc_info())
        finally:
            _exit(1)


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # The program may have closed it, or put something else in its place.
            stream.flush()
    os._exit(code & 0xFF or 1)


if __name__ == "__main__":
    main()
