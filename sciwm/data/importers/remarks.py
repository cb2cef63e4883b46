"""What an importer has to say about a source besides its frames."""

from collections import Counter
from collections.abc import Iterable


class Remarks:
    """Collects, while a source is read, what its reader should tell the user."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}
        self._left_out: Counter[str] = Counter()
        self._unread: dict[str, None] = {}

    def say(self, sentence: str) -> None:
        """A sentence, reported once however often it is said."""
        self._sentences[sentence] = None

    def leave_out(self, what: str, count: int) -> None:
        """Parts of frames that are not imported, such as virtual sites."""
        self._left_out[what] += count

    def leave_unread(self, names: Iterable[str]) -> None:
        """Names of what the source holds and nobody takes."""
        self._unread.update(dict.fromkeys(names))

    @property
    def left_out(self) -> list[str]:
        """One line per kind of thing."""
        return [f"{count} {what}" for what, count in self._left_out.items()]

    @property
    def warnings(self) -> list[str]:
        """All sentences."""
        found = list(self._sentences)
        if self._unread:
            found.append(f"not imported, though the source holds them: {', '.join(self._unread)}")
        return found
