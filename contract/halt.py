"""End a run whose answer nobody wants any more, from another thread."""

import onnxruntime as ort

from contract.errors import RunHalted


class Halt:
    """Given to one run, or to several one after the other; asked at most once, at any time."""

    def __init__(self) -> None:
        self._asked = False
        self._options: ort.RunOptions | None = None

    @property
    def asked(self) -> bool:
        """Whether the run is to end."""
        return self._asked

    def ask(self) -> None:
        """Let the run end behind the node of the graph that it is at (some milliseconds)."""
        # In this order; `watch` has the other, so that none misses what the other has done.
        self._asked = True
        if self._options is not None:
            self._options.terminate = True

    def watch(self, options: ort.RunOptions) -> None:
        """Watch over a run that begins now with these options.

        Raises:
            RunHalted: it was asked already.
        """
        self._options = options
        if self._asked:
            raise RunHalted("the run was ended before it began")
