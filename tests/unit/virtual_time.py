"""An event loop whose clock jumps to what comes next, so that hours pass in no time."""

import asyncio
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    """Looks for events and never waits: the time that it was to wait for has passed."""

    def __init__(self):
        super().__init__()
        self.passed = 0.0

    def select(self, timeout=None):
        events = super().select(0)
        if not events:
            if timeout is None:
                raise AssertionError("everybody waits and nothing will ever happen")
            self.passed += max(0.0, timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 0; ``time`` is also the clock of what is tested."""

    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self):
        return self._jumping.passed


def run_virtually(main):
    """Run a coroutine function; it is given the clock."""

    def loop():
        made = VirtualLoop()
        clocks.append(made.time)
        return made

    clocks = []
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.get_loop()
        return runner.run(main(clocks[0]))
