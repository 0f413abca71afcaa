"""Markdown tables and the numbers in them."""

from collections.abc import Iterable, Sequence

LEAST_P = 0.0001  # the least p-value that is written out
NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> str:
    """Lay out a table; columns from `numbers_from` on are numbers, flush right."""
    rule = ["---" if column < numbers_from else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def percent(share: float) -> str:
    """Show a fraction in percent."""
    return f"{100 * share:.2f}"


def share(value: float) -> str:
    """Show a number in [0, 1] that is no percentage."""
    return f"{value:.3f}"


def signed(share: float) -> str:
    """Show a difference of fractions in points of percent."""
    shown = f"{100 * share:+.2f}"
    return "0.00" if shown[1:] == "0.00" else shown.replace("-", MINUS)


def probability(p: float) -> str:
    """Show a p-value."""
    return f"{p:.3g}" if p >= LEAST_P else f"&lt; {LEAST_P}"


def seconds(value: float) -> str:
    """Show a time."""
    if round(value, 1) < 60:  # noqa: PLR2004  # seconds of a minute
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def gigabytes(size: int | None) -> str:
    """Show an amount of memory."""
    return NOTHING if size is None else f"{size / 1e9:.2f} GB"


def megabytes(size: int | None) -> str:
    """Show the size of an artifact; of one that is not there, nothing."""
    return f"{size / 1e6:,.1f} MB" if size else NOTHING


def flops(number: int) -> str:
    """Show a number of floating point operations: three digits in billions, from 100 up all."""
    billions = number / 1e9
    return f"{billions:,.0f} G" if billions >= 99.95 else f"{billions:.3g} G"  # noqa: PLR2004


def count(number: float | None) -> str:
    """Show a whole number."""
    return NOTHING if number is None else f"{number:,.0f}"
