"""Public corpora: downloaded, checked and prepared as the settings in `configs/` read them.

Modules: `sources` (the table `sources.yaml`), `transfer` (one file over https, resumable), `archive` (members of an archive),
`recipes` and `iwslt14` (from what was downloaded to what is read), `corpus` (all of it).
"""

from softbellman.data.fetch.corpus import Fetched, fetch
from softbellman.data.fetch.sources import Member, RemoteFile, Source, find_source, read_sources
from softbellman.data.fetch.transfer import DownloadError, Patience, download

__all__ = [
    "DownloadError",
    "Fetched",
    "Member",
    "Patience",
    "RemoteFile",
    "Source",
    "download",
    "fetch",
    "find_source",
    "read_sources",
]
