"""A report in Markdown as one HTML page that needs nothing else and can be read on a phone, in light and in dark."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

import markdown
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dynaq.evaluation.report.plots import DARK, LIGHT


def page(text: str, title: str, images: Mapping[str, tuple[bytes, bytes]]) -> str:
    """Render the page.

    Args:
        text: Markdown; names in it are escaped already.
        title: of the window.
        images: file name in the text -> PNG for a light and for a dark page.
    """
    converter = markdown.Markdown(extensions=["tables", "toc"])
    body = converter.convert(text)
    body = re.sub(r"<table>.*?</table>", r'<div class="scroll" tabindex="0">\g<0></div>', body, flags=re.DOTALL)
    body = re.sub(r"(\[[-+]?[\d.]+,|\bp (?:=|&lt;)) ", r"\1&nbsp;", body)  # no line ends within an interval
    body = re.sub(r"<p>((?:<img [^>]*/>\s*)+)</p>", r'<div class="figures">\1</div>', body)

    def embedded(match: re.Match[str]) -> str:
        if match["name"] not in images:
            return ""
        light, dark = (f"data:image/png;base64,{base64.b64encode(each).decode()}" for each in images[match["name"]])
        return (
            f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
            f'<img alt="{match["alt"]}" src="{light}"></picture>'
        )

    body = re.sub(r'<img alt="(?P<alt>[^"]*)" src="(?P<name>[^"]*)" />', embedded, body)
    first, heading, rest = body.partition("<h2")
    sections = [(each["id"], each["name"]) for top in converter.toc_tokens for each in top["children"]]
    environment = Environment(
        loader=PackageLoader("dynaq.evaluation.report"), undefined=StrictUndefined, autoescape=True
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        sections=[(name, Markup(label)) for name, label in sections],  # noqa: S704 - headings of ours
        first=Markup(first),  # noqa: S704 - escaped where it was written
        rest=Markup(heading + rest),  # noqa: S704
        light=LIGHT,
        dark=DARK,
    )
