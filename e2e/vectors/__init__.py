"""Requests that a gateway must refuse, or must pass byte for byte, by the row of the table of bad inputs that they belong to
(a letter for the group, a number for the row). Each module has `ROWS`; `tests/bad_input.py` sends them."""
