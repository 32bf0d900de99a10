"""Text in a table that somebody opens in a spreadsheet."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def safe(text: str) -> str:
    """A text that a spreadsheet shows and does not run, and that any file can hold: names of files may be no UTF-8."""
    text = f"'{text}" if text.startswith(FORMULA) else text
    return text.encode("utf-8", "backslashreplace").decode()
