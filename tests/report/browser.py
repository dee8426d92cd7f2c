"""Opens a page in headless Chromium and says what it holds there; pages of the package have no scripts of their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--enable-logging=stderr",
)  # fmt: skip
PROBE = """<script>
const pictures = [...document.images].map(picture => picture.complete && picture.naturalWidth > 0);
const loaded = performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !name.startsWith("data:"));
const targets = [...document.querySelectorAll('a[href^="#"]')].filter(link => !document.getElementById(link.hash.slice(1)));
document.documentElement.setAttribute("data-seen", JSON.stringify({
  pictures, loaded, dangling: targets.map(link => link.hash), mode: document.compatMode,
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth, text: document.body.innerText,
}));
</script>"""


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page."""

    pictures: list[bool]
    """Whether each was decoded."""
    loaded: list[str]
    """Addresses of what was loaded beside the page."""
    dangling: list[str]
    """Links within the page that lead nowhere."""
    mode: str
    """`CSS1Compat` where the page has a document type."""
    wide: int
    """Pixels by which the page is wider than the window."""
    text: str
    """Its text as it is shown."""
    complaints: list[str]
    """Messages on the console."""


def browse(page: Path, folder: Path, *, width: int = 1200) -> Seen:
    """Open a copy of a page with a probe at its end; skips the test where no browser is installed."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no headless browser on this machine")
    text = page.read_text(encoding="utf-8")
    body, end = text.rsplit("</body>", 1)
    probed = folder / "probed.html"
    policy = re.compile(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>'
    )  # would keep the probe from running
    probed.write_text(policy.sub("", body) + PROBE + "</body>" + end, encoding="utf-8")
    command = [
        browser,
        *OPTIONS,
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},1600",
        "--dump-dom",
    ]
    result = subprocess.run(
        [*command, probed.resolve().as_uri()], check=True, timeout=120, capture_output=True, text=True
    )
    found = re.search(r'data-seen="([^"]*)"', result.stdout)
    assert found, result.stdout[:2000]
    complaints = [line for line in result.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(**json.loads(unescape(found[1])), complaints=complaints)


def assert_sound(seen: Seen) -> None:
    """Every picture is shown, nothing is loaded, every link leads somewhere, no sideways scrolling, nothing on the console."""
    assert seen.pictures and all(seen.pictures)
    assert seen.loaded == seen.dangling == seen.complaints == []
    assert seen.mode == "CSS1Compat" and seen.wide <= 0
