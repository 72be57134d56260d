"""A large page, smaller: figures of other heads, tables of all numbers and the runs travel compressed.

The template marks what may; `board.js` unpacks it when the page opens, before anything else. A small page stays as it
is.
"""

from __future__ import annotations

import base64
import gzip
import re

#: Characters of a page that is packed; one of less is read by any browser, without a script, as it is.
LARGE = 4_000_000
_PUT_AWAY = re.compile(r"<!--put-away-->\n?(.*?)<!--/put-away-->\n?", re.DOTALL)


def pack(page: str) -> str:
    """The page with its marks resolved: packed where it is large. Labels are escaped, and can hold no mark."""
    return _PUT_AWAY.sub(_plain if len(page) <= LARGE else _packed, page)


def _plain(part: re.Match[str]) -> str:
    return part[1]


def _packed(part: re.Match[str]) -> str:
    packed = base64.b64encode(gzip.compress(part[1].encode(), mtime=0)).decode()
    return (
        f'<script type="application/gzip" data-packed>{packed}</script>'
        "<noscript>Packed here, and unpacked by a script. Scores are in leaderboard.csv, the rest in the run "
        "records.</noscript>\n"
    )
