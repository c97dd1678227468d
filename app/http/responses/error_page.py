"""The HTML page of an error, for people who open an address of the server in a browser."""

from __future__ import annotations

from html import escape
from http.client import responses as phrases

from starlette.responses import HTMLResponse

from app.error_info import ErrorInfo

_HEADERS = {
    # Nothing of the page is code, and it loads nothing: whatever text an error quotes stays text.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Renorm</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }}
p {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
{paragraphs}
<p><a href="{root}/docs">Documentation of this server</a></p>
</body>
</html>
"""


def error_page(info: ErrorInfo, root: str = "") -> HTMLResponse:
    """Return a page with an error and its hint. ``root`` is the path that the server is mounted at."""
    title = f"{info.status} {phrases.get(info.status, 'Error')}"
    texts = filter(None, (info.message, info.hint))
    paragraphs = "\n".join(f"<p>{escape(text[:1].upper() + text[1:])}.</p>" for text in texts)
    page = _PAGE.format(title=title, paragraphs=paragraphs, root=escape(root))
    return HTMLResponse(page, info.status, {**_HEADERS, **info.headers})


def prefers_page(accept: str) -> bool:
    """Return whether an Accept header prefers HTML to JSON."""
    weights = dict(_media_weight(part) for part in accept.split(","))
    page = max(weights.get("text/html", 0.0), weights.get("application/xhtml+xml", 0.0))
    anything = weights.get("application/*", weights.get("*/*", 0.0))
    return page > weights.get("application/json", anything)


def _media_weight(media_range: str) -> tuple[str, float]:
    kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
    weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    try:
        return kind, float(weight)
    except ValueError:
        return kind, 0.0
