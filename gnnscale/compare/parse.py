"""Reads ``gas(num_parts=40, batch_size=10)``, a name and arguments that are plain values, and what seeds may be."""

from __future__ import annotations

import ast
from typing import Any

#: More are a slip of the keyboard.
MOST_SEEDS = 10_000

_CLOSING = {"(": ")", "[": "]", "{": "}"}


def split_list(text: str) -> list[str]:
    """Split at the commas that stand outside brackets and quotes.

    Parameters
    ----------
    text : str
        What stands after ``--samplers``, ``--dataset`` or ``--model``.

    Returns
    -------
    list of str
        The entries, without surrounding blanks. Empty entries are kept, so that they can be refused.

    Raises
    ------
    ValueError
        A bracket or a quote is not closed.

    Examples
    --------
    >>> split_list("full, neighbor(fanouts=[5, 5]), gas")
    ['full', 'neighbor(fanouts=[5, 5])', 'gas']
    """
    entries, entry, expected, quote = [], "", [], ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _CLOSING:
            expected.append(_CLOSING[character])
        elif character in _CLOSING.values():
            if not expected or expected.pop() != character:
                raise ValueError(f"{text!r} has a {character!r} that nothing opened: check its brackets.")
        elif character == "," and not expected:
            entries.append(entry.strip())
            entry = ""
            continue
        entry += character
    if quote or expected:
        raise ValueError(f"{text!r} lacks a closing {quote or expected[-1]!r}.")
    return [*entries, entry.strip()]


def split_name(text: str) -> tuple[str, str, str]:
    """The name before the arguments, the bracket that begins them, and what follows it.

    Examples
    --------
    >>> split_name("runs (old)/my_sampler.py:MySampler(k=5)")
    ('runs (old)/my_sampler.py:MySampler', '(', 'k=5)')
    """
    file, ending, rest = text.strip().rpartition(".py:")
    if "(" in file and file.count("(") != file.count(")"):  # .py: stands in an argument
        file, ending, rest = "", "", text.strip()
    name, bracket, inside = rest.partition("(")
    return f"{file}{ending}{name.strip()}", bracket, inside


def parse_choice(text: str) -> tuple[str, dict[str, Any]]:
    """Read a name with its arguments; nothing is evaluated but plain values.

    Parameters
    ----------
    text : str
        ``name`` or ``name(argument=value, ...)``, each value a Python literal.

    Returns
    -------
    tuple of (str, dict)
        The name and its arguments.

    Raises
    ------
    ValueError
        The text has another form.

    Examples
    --------
    >>> parse_choice("gas(num_parts=40, batch_size=10)")
    ('gas', {'num_parts': 40, 'batch_size': 10})
    """
    name, bracket, inside = split_name(text)
    if not name:
        raise ValueError(f"{text!r} does not begin with a name; write it like gas or gas(num_parts=40).")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"_({inside}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        call = None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"{text!r} cannot be read; write it like gas(num_parts=40, batch_size=10).")
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError(f"{text!r} has an argument without a name; write it like gas(num_parts=40).")
    arguments: dict[str, Any] = {}
    for keyword in call.keywords:
        argument = str(keyword.arg)
        if argument in arguments:
            raise ValueError(f"{text!r} gives {argument} twice.")
        try:
            arguments[argument] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, RecursionError, MemoryError):
            raise ValueError(
                f"{argument} in {text!r} is not a plain value; allowed are numbers, text in quotes, "
                "lists, True, False and None."
            ) from None
    return name, arguments


def format_choice(name: str, arguments: dict[str, Any]) -> str:
    """Write what :func:`parse_choice` reads.

    Examples
    --------
    >>> format_choice("neighbor", {"fanouts": [5, 5]})
    'neighbor(fanouts=[5, 5])'
    """
    inside = ", ".join(f"{argument}={value!r}" for argument, value in arguments.items())
    return f"{name}({inside})" if inside else name


def parse_seeds(value: Any) -> list[int]:
    """The seeds that are meant: a number says how many, a list says which; both may be text.

    Raises
    ------
    ValueError
        It is neither.

    Examples
    --------
    >>> parse_seeds(3), parse_seeds("5,7"), parse_seeds([4])
    ([0, 1, 2], [5, 7], [4])
    """
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if not parts or not all(part.isdecimal() for part in parts):
            raise ValueError(f"seeds is {value!r}; it must be a number such as 3, or a list such as 0,5,7.")
        value = [int(part) for part in parts] if "," in value else int(parts[0])
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        if value > MOST_SEEDS:
            raise ValueError(f"seeds is {value}; that many runs will not end, use at most {MOST_SEEDS:,}.")
        return list(range(value))
    whole = isinstance(value, list) and all(type(seed) is int and 0 <= seed < 2**63 for seed in value)
    if not whole or not value or len(set(value)) < len(value):
        raise ValueError(
            f"seeds is {value!r}; it must be a whole number from 1 up (3 means seeds 0, 1 and 2) "
            "or a list of different whole numbers from 0 up."
        )
    return value
