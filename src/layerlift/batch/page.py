"""index.html: every clip of a batch at a glance, with its contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from layerlift.batch.ledger import FOLDER, PAGE, Record
from layerlift.whole import whole_file

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222; }
article { border-top: 1px solid #ccc; padding: 1rem 0; }
h2 { font-size: 1.1rem; margin: 0; }
img { max-width: 100%; height: auto; display: block; margin-top: .5rem; }
.failed h2 { color: #b00020; }
p { margin: .2rem 0; color: #555; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd; } p { color: #aaa; } }
"""


def write_page(folder: Path, records: Sequence[Record], waiting: int) -> Path:
    """Write the page into the folder of the results, those that failed first; `waiting` clips have not ended.

    Raises LayerliftError when it cannot be written.
    """
    failed = [record for record in records if record.state == "failed"]
    done = [record for record in records if record.state == "done"]
    said = [f"{len(done)} done", f"{len(failed)} failed", *([f"{waiting} to do"] if waiting else [])]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>layerlift batch: {', '.join(said)}</title><style>{_STYLE}</style>",
        f"<h1>{', '.join(said)}</h1>",
        *(_article(folder, record) for record in [*failed, *done]),
        "</html>\n",
    ]
    with whole_file(folder / PAGE, overwrite=True) as made:
        made.write_text("\n".join(parts), "utf-8", "replace")
    return folder / PAGE


def _article(folder: Path, record: Record) -> str:
    name = quote(record.name)
    log = f'<a href="{FOLDER}/logs/{name}.log">log</a>'
    size = f"{record.width}×{record.height}, {record.frames} frames, " if record.frames else ""
    lines = [f'<article class="{record.state}">']
    if record.state == "done":
        lines += [
            f'<h2><a href="{name}/">{escape(record.name)}</a></h2>',
            f"<p>{size}{record.seconds:.1f} s on {escape(record.device)}, {log}</p>",
        ]
        if (folder / record.name / "contact_sheet.png").is_file():
            sheet = f"{name}/contact_sheet.png"
            lines.append(f'<a href="{sheet}"><img loading="lazy" src="{sheet}" alt="{escape(record.name)}"></a>')
    else:
        tries = f"{record.tries} {'try' if record.tries == 1 else 'tries'}"
        lines += [
            f"<h2>{escape(record.name)}: failed</h2>",
            f"<p>{escape(record.message)}</p>",
            f"<p>{escape(record.line)}: {escape(record.clip)}, {tries}, {log}</p>",
        ]
    return "\n".join([*lines, "</article>"])
