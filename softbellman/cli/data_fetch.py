"""`softbellman data fetch NAME DIR` and `softbellman data list`."""

from __future__ import annotations

import argparse
import shlex
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softbellman.cli.common import UserError, finite, help_width, positive

if TYPE_CHECKING:
    from softbellman.data.fetch import Fetched, Source

FETCH = """\
Downloads a public corpus, checks it, and prepares it as the settings in configs/ read it.
`softbellman data list` has the names, with licence and citation of each: mind them.

What was downloaded stays in DIR/downloads. An interrupted download continues when the command is
given again; a file that you put there yourself is not downloaded. Where no checksum is published,
that of the first download is printed and recorded, and later downloads are compared with it.

--url names a folder, such as http://mirror/corpora, that holds the same files by the same names.
Proxies are those of the environment (https_proxy).

examples:
  softbellman data fetch multi30k multi30k
  softbellman data fetch iwslt14 iwslt14 --url http://mirror.example/iwslt14
"""

LIST = """\
The corpora that `softbellman data fetch` knows: what they are, licence and citation, where their
files come from and what they are compared with.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of fetch."""
    parser.add_argument("name", metavar="NAME", help="of the corpus, see softbellman data list")
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder to write into")
    parser.add_argument("--url", metavar="URL", help="folder of the files, in place of their own address")
    parser.add_argument(
        "--timeout", metavar="S", type=finite, default=30.0, help="seconds after which a server has stalled"
    )
    parser.add_argument(
        "--attempts", metavar="N", type=positive, default=5, help="tries in a row that bring nothing new"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """The options of list."""
    parser.add_argument("names", metavar="NAME", nargs="*", help="corpora to describe (default: all)")


def run(options: Any) -> int:
    """Fetches a corpus."""
    from softbellman.data.fetch import Patience, fetch, find_source
    from softbellman.report.progress import Progress

    if options.timeout <= 0:
        raise UserError(f"--timeout must be positive, given {options.timeout:g}")
    source = find_source(options.name)
    progress = Progress(quiet=options.quiet)

    @contextmanager
    def count(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
        with progress.count(label, total, unit=unit) as bar:
            yield bar.update

    found = fetch(
        source,
        options.folder,
        mirror=options.url,
        patience=Patience(timeout=options.timeout, attempts=options.attempts),
        counter=count,
        say=lambda text: progress.warn(f"softbellman: {text}"),
    )
    print("\n".join(_report(source, found, options.folder)))
    return 0


def show(options: Any) -> int:
    """Lists the corpora."""
    from softbellman.data.fetch import find_source, read_sources

    names = options.names or list(read_sources())
    print("\n\n".join("\n".join(_describe(find_source(name))) for name in names))
    return 0


def _report(source: Source, found: Fetched, folder: Path) -> Iterator[str]:
    words = {
        "table": "as expected",
        "members": "its files are as expected",
        "record": "as at the first download",
        "nothing": "recorded; no checksum is published",
    }
    for file in found.downloads:
        yield f"{file.name}: {file.size:,} bytes, sha256 {file.sha256} ({words[file.by]})"
    yield f"{source.title}, in {folder}:"
    for name, lines in found.lines.items():
        published = source.lines[name]
        aside = "" if lines == published else f" (published: {published:,}; versions of the tokeniser differ)"
        yield f"  {name}: {lines:,} lines{aside}"
    yield from _terms(source)
    yield "Next:"
    for command in source.next:
        yield f"  {command.format(folder=shlex.quote(str(folder)))}"


def _describe(source: Source) -> Iterator[str]:
    size = "" if source.size is None else f", {source.size / 1e6:.1f} MB"
    many = "1 file" if len(source.files) == 1 else f"{len(source.files)} files"
    yield f"{source.name}: {source.title}"
    yield from _wrapped("what", source.about)
    yield from _wrapped("lines", ", ".join(f"{name} {count:,}" for name, count in source.lines.items()))
    yield from _terms(source)
    yield from _wrapped("homepage", source.homepage)
    yield from _wrapped("download", f"{many}{size} from {source.base}")
    yield from _wrapped("names", ", ".join(file.name for file in source.files))
    yield from _wrapped("sha256", source.checksums)


def _terms(source: Source) -> Iterator[str]:
    yield from _wrapped("licence", source.licence)
    yield from _wrapped("cite", source.citation)


def _wrapped(label: str, text: str) -> list[str]:
    """A label and a text behind it, which lines up over all labels."""
    return textwrap.wrap(
        f"{label:<10}{text}",
        width=help_width(),
        initial_indent="  ",
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )
