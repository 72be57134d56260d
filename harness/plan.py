"""What fetching and using a card takes: downloads, disk, memory, hours. No network is asked."""

from __future__ import annotations

from pathlib import Path

from harness.addresses import web_page
from harness.cards import Card, RemoteFile
from harness.fetch import states

#: Cells per second for a rough idea of hours: foundation models on two cores, and on one data-centre GPU.
SLOW, FAST = 10, 500
#: What the engine holds besides the model: a block of stored values, and what tasks keep per cell.
ENGINE_GB, PER_CELL_KB = 1.5, 8


def size(number: float | None) -> str:
    """`1.27 GB`, `425.6 kB`; `?` for what is not known."""
    if number is None:
        return "?"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f} B"


def _size_of(file: RemoteFile) -> str:
    return size(file.bytes) if file.bytes or not file.about_bytes else f"about {size(file.about_bytes)}"


def download_size(card: Card) -> str:
    """The download in words: `1.27 GB`, `about 1 GB`, `over 1 GB` where the size of some files is not known."""
    if not card.bytes_known:
        return "?" if card.files else "nothing"
    prefix = "" if card.size_is == "exact" else f"{card.size_is} "
    return prefix + size(card.bytes_known)


def plan_lines(card: Card, folder: Path) -> list[str]:
    """The plan of a card, line by line."""
    here = {each.file.file: each.state for each in states(card, folder)}
    lines = [
        f"{card.kind} {card.name}: {card.facts.get('title') or card.facts.get('use') or card.owner}",
        f"  licence    {card.licence or 'none stated by the authors'}",
    ]
    if card.terms:
        lines.append(f"  terms      {card.terms} (--accept-licence)")
    for file in card.files:
        where = ", else ".join(web_page(source) for source in file.sources) or file.by_hand
        checked = file.checksum or "trusted on first use, or as the repository states"
        lines.append(f"  download   {file.file}  {_size_of(file)}  {here[file.file]}  from {where}  [{checked}]")
    unpacked = sum((file.bytes or file.about_bytes or 0) for file in card.files if file.unpack)
    missing = sum(file.bytes or file.about_bytes or 0 for file in card.files if here[file.file] == "missing")
    hedge = {"exact": "", "about": ", about", "over": ", and files of unknown size"}[card.size_is]
    lines += [
        f"  to         {folder}",
        f"  to fetch   {size(missing)}{hedge}",
        f"  disk       {size(card.bytes_known + unpacked)} at most{hedge}",
    ]
    cells = card.facts.get("cells")
    if cells:
        memory = ENGINE_GB + cells * PER_CELL_KB / 1e6
        lines += [
            f"  cells      {cells:,} x {card.facts.get('genes') or '?'} genes",
            f"  memory     about {memory:.1f} GB and the model: cells are read in blocks",
            f"  hours      to embed all once: {cells / SLOW / 3600:.1f} at {SLOW} cells/s (two cores), "
            f"{cells / FAST / 3600:.2f} at {FAST} cells/s (one GPU)",
        ]
    for key in ("counts", "subsampling", "citation", "note"):
        if card.facts.get(key):
            lines.append(f"  {key:<10} {' '.join(str(card.facts[key]).split())}")
    if card.kind == "dataset" and not card.facts.get("verified"):
        lines.append("  verified   no: this card was written from public descriptions, not from the file")
    return lines
