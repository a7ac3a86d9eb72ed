"""The page of a full study in a real browser: on a desk and on a phone, by day and by night."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.report.plots import DARK, LIGHT
from dynaq.evaluation.report.report import write_report
from tests.evaluation.a_night import night_of
from tests.evaluation.hand_made import study

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HEIGHT = 9000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium"),
]

# Told on the console, so that a page that could not speak there would fail.
MEASURE = """
<script>addEventListener("load", async () => {
  await Promise.all([...document.images].map(image => image.decode()));
  const root = document.documentElement, wide = box => box.scrollWidth > box.clientWidth;
  console.log("MEASURED" + JSON.stringify({
    width: innerWidth,
    page: root.scrollWidth,
    figures: [...document.images].map(image => image.clientWidth),
    boxes: [...document.querySelectorAll(".scroll")].filter(wide).length,
    fetched: performance.getEntriesByType("resource").map(each => each.name).filter(name => !name.startsWith("data:")),
    dark: document.images[0].currentSrc != document.images[0].src,
  }));
})</script>
"""


@pytest.fixture(scope="module")
def html(small_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    gains = {"cosine": 0.05, "hybrid": 0.09, "llm": 0.03, "ranker": 0.06, "bandit": 0.04, "no planning": 0.07}
    whole = study(gains, levels=(0, 0.25, 0.5, 0.75, 1))
    written = write_report(night_of(whole, small_snapshot.manifest), tmp_path_factory.mktemp("page"))
    written.write_text(written.read_text(encoding="utf-8") + MEASURE, encoding="utf-8")
    return written


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_is_silent(html: Path, tmp_path: Path, width: int, theme: object) -> None:
    dark, shot, device = theme is DARK, tmp_path / "page.png", tmp_path / "device.html"
    # A window cannot be narrower than 500 pixels; a frame in it can.
    frame = f'<iframe src="{html.as_uri()}" style="border: 0; width: {width}px; height: {HEIGHT}px"></iframe>'
    device.write_text(
        f'<!doctype html><link rel="icon" href="data:,"><body style="margin: 0">{frame}', encoding="utf-8"
    )
    command = [
        str(BROWSER),
        "--headless",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever is asked of the network fails, and is said
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size=1280,{HEIGHT}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--virtual-time-budget=10000",
        f"--screenshot={shot}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        device.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert len(said) == 1
    measured = json.loads(re.sub(r'.*MEASURED(.*)", source: .*', r"\1", said[0]))
    assert measured["width"] == width
    assert measured["page"] == width  # wide tables scroll in boxes of their own
    assert bool(measured["boxes"]) == (width < 600)
    assert min(measured["figures"]) >= min(width - 40, 480)  # as wide as a phone, so that letters can be read
    assert measured["fetched"] == []
    assert measured["dark"] == dark
    pixels = imread(shot)
    assert to_hex(pixels[2, 2]).upper() == (DARK if dark else LIGHT).paper
