"""`sciwm doctor`: what is installed, fast or slow, and why."""


def doctor() -> int:
    """Says what is installed here and how fast it is; what makes it slower than it could be is marked SLOW,
    with the remedy.
    """
    from sciwm.interfaces.installation import report

    print("\n".join(report()))
    return 0
