"""`convscope` and `python -m convscope`: the command line.

Little is imported before Ctrl-C is handled.
"""

import os
import signal


def run() -> None:
    """Run the command line; a Ctrl-C before or after it ends the process without a traceback."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # it is ignored under nohup
        signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    from convscope.cli.main import main

    main()


if __name__ == "__main__":
    run()
