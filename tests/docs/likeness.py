"""Whether an output matches the printed one. These may differ, as they do between runs: ids, times,
decimals, amounts with a unit, and numbers of four or more digits. `…` matches anything; alone on a
line, any lines. Everything else has to be the same, small numbers too."""

import re

_LOOSE = {
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": r"[0-9a-f-]{36}",
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d[:.]\d\d[\d.:+Z]*)?": r"\d{4}-[\dT :.+Z-]+",
    r"\d\d:\d\d:\d\d(?:\.\d+)?": r"[\d:.]+",
    r"\b(?=[a-f]*\d)[0-9a-f]{12,}\b": r"[0-9a-f]{12,}",
    r"\b\d+(?:\.\d+){3}\b": None,  # an IP address
    r"\b\d+(?:\.\d+){2}\b": r"\d+(?:\.\d+){2}",
    r"\b\d+\.\d+": r"\d+(?:\.\d+)?(?:e[+-]\d+)?",
    r"\b\d+(?= ?(?:ms|s|m|h|KB|MB|GB|%)(?!\w))": r"\d+",
    r"\b\d{1,3}(?:,\d{3})+\b|\d{4,}": r"[\d,]+",
    r"…": r".*",
    r"[ \t]+": r"[ \t]+",
}
_PARTS = re.compile("|".join(f"({part})" for part in _LOOSE))
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def plain(output: str) -> str:
    """The output without colours and trailing blanks."""
    lines = (line.rstrip() for line in _COLOURS.sub("", output).splitlines())
    return "".join(f"{line}\n" for line in lines)


def is_like(output: str, expected: list[str], *, goes_on: bool = False) -> bool:
    """With `goes_on`, more may follow."""
    pattern = "".join(map(_line, expected)) + ("(?:.*\n)*" if goes_on else "")
    return re.fullmatch(pattern, plain(output)) is not None


def _line(line: str) -> str:
    if line.strip() == "…":
        return "(?:.*\n)*?"
    pattern, end = "", 0
    line = line.rstrip()
    for part in _PARTS.finditer(line):
        loose = list(_LOOSE.values())[(part.lastindex or 1) - 1]
        pattern += re.escape(line[end : part.start()]) + (loose or re.escape(part[0]))
        end = part.end()
    return pattern + re.escape(line[end:]) + "\n"
