"""The default reporter."""

from __future__ import annotations

import pytest

from convscope._reporting import Reporter


def test_reporter_message_is_a_warning_of_one_line() -> None:
    with pytest.warns(UserWarning, match=r"^cat/a\\n\\x1b\[31m\.png: not an image$"):
        Reporter().message("cat/a\n\x1b[31m.png: not an image")
