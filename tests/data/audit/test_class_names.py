"""Class names: which of them are taken for two spellings of one class, and which are not."""

from __future__ import annotations

import pytest

from convscope.data.audit.class_names import odd_names

ALIKE = [
    ("cat", "cat\u200b"),
    ("\ufeffcat", "cat"),
    ("cat", "cat\u00ad"),
    ("cat", "c\u0430t"),  # Cyrillic
    ("KOT", "\u041a\u041e\u0422"),
    ("\u03b1lpha", "alpha"),  # Greek
    ("\u043a\u043e\u0442", "\u041a\u041e\u0422"),
    ("s1", "s01"),
    ("class 1", "class 01"),
    ("img-007", "img 7"),
    ("cat", "_cat"),
    ("cat", "cat."),
    ("cat", "cat!"),
    ("cat", "[cat"),
    ("Cat", "cat "),
    ("cat dog", "cat-dog"),
    ("T-shirt", "tshirt"),
    ("ice cream", "icecream"),
    ("1.5", "1.50"),
    ("1", "+01"),
    ("\u2764", "\u2764\ufe0f"),
]
DIFFERENT = [
    ("C", "C++", "C#"),
    ("A", "A-", "A+", "A*"),
    ("1-2", "12", "1 3"),
    ("5 mm", "5 \u03bcm"),
    ("(", ")", "[", "]", ".", ",", "_", "-", "!", "?", "'", '"'),
    ("a", "\u0430", "\u03b1"),
    ("class 1.05", "class 1.5"),
    ("v1.1", "v1.10"),
    ("\u22645", ">5", "=5"),
    ("-1", "1", "10", "100", "10%"),
    ("s1", "s10", "s100"),
    ("10-20", "1-20", "10-2"),
    ("Mask", "No Mask", "with_mask"),
    ("\u0438", "\u0439"),
    ("\U0001f600", "\U0001f621"),
]


@pytest.mark.parametrize("names", ALIKE, ids=ascii)
def test_odd_names_spellings_of_one_class_are_warned_of(names: tuple[str, ...]) -> None:
    (issue,) = odd_names((*names, "other"))
    assert issue.text.startswith("class names that may be mistakes: similar: ")
    assert issue.text.count(" = ") == 1
    assert "other" not in issue.text


@pytest.mark.parametrize("names", DIFFERENT, ids=ascii)
def test_odd_names_different_classes_are_not(names: tuple[str, ...]) -> None:
    assert [issue for issue in odd_names(names) if "similar: " in issue.text] == []


def test_odd_names_invisible_differences_are_escaped() -> None:
    (issue,) = odd_names(("cat", "c\u0430t", "cat\u200b"))
    assert issue.text.endswith(r"similar: 'cat' = 'c\u0430t' = 'cat\u200b'")


def test_odd_names_missing_values_lists_and_decimals() -> None:
    (issue,) = odd_names(("nan", "['cat']", "3.0", "cow"))
    assert issue.text.endswith("like a missing value: 'nan'; like a list: \"['cat']\"; decimal numbers: '3.0'")
