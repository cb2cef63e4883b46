"""Frames by number, as people write them on a command line."""


def frames_named(words: str, count: int) -> list[int]:
    """The frames that numbers and slices separated by commas name, of so many, in the order named.

    Raises:
        ValueError: If a word is neither, or names none of them.
    """
    chosen: list[int] = []
    for word in words.split(","):
        try:
            numbers = [int(part) if part.strip() else None for part in word.split(":")]
            several = list(range(count))[slice(*numbers)] if ":" in word else [int(word)]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{word!r} names no frames; give numbers or slices such as 0,10 or :20 or ::5"
            ) from error
        if not several or not -count <= several[0] < count:
            raise ValueError(
                f"among {count} frames there is none that {word!r} names; choose among 0 to {count - 1}"
            )
        chosen += [k % count for k in several]
    return chosen
