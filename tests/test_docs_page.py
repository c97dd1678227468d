"""The page of documentation in a real browser, used as somebody does who sees it for the first time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.app.fakes import Client
from tests.end_to_end.test_command import images, png
from tests.served import served

SEEN = [png(pixels) for pixels in images("fog")[:2]]
PATIENCE_MS = 30_000
NEVER = {"POST /v1/admin/reset": "all=true"}
"""What is refused as it stands, and a word of the way out."""


class Operation(NamedTuple):
    """One call, and one of the types that its body can have."""

    tag: str
    name: str
    summary: str
    kind: str


def operations() -> list[Operation]:
    """Those that take something: JSON first, because a page keeps a file that was chosen, and would send it as JSON."""
    document: dict[str, Any] = Client().app.openapi()
    return [
        Operation(said["tags"][0], said["operationId"], f"{method.upper()} {path}", kind)
        for path, methods in document["paths"].items()
        for method, said in methods.items()
        for kind in sorted(said.get("requestBody", {}).get("content", {"": {}}), key=lambda kind: "json" not in kind)
        if said.get("parameters") or kind
        # What differs in a version of a path or in the format of a picture alone is the same to a page.
        if "{version}" not in path and kind not in {"image/jpeg", "image/webp"}
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        known = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
        found = next(filter(None, [*known, *filter(os.path.exists, [playwright.chromium.executable_path])]), None)
        if found is None:
            reason = "there is no Chromium: apt install chromium, or .venv/bin/playwright install chromium"
            # A machine that checks what is submitted has to have one.
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        # As root, in a container, there is no sandbox; it opens nothing but this server.
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        with playwright.chromium.launch(executable_path=found, args=flags, timeout=2 * PATIENCE_MS) as running:
            yield running


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as server:
        yield server.url


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """The page as it opens, which asks nobody but the server for anything."""
    with browser.new_page(viewport={"width": 1300, "height": 1200}) as page:
        page.set_default_timeout(PATIENCE_MS)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{url}/docs")
        page.add_style_tag(content="* {transition: none !important; animation: none !important}")
        page.locator(".opblock").first.wait_for()
        yield page
        assert [one for one in asked if not one.startswith((url, "data:"))] == []


@pytest.fixture
def fresh(browser: Browser, url: str) -> Iterator[Page]:
    with opened(browser, url) as page:
        yield page


@pytest.fixture(scope="module")
def kept(browser: Browser, url: str) -> Iterator[Page]:
    """A page for several operations, because opening it takes seconds."""
    with opened(browser, url) as page:
        yield page


@pytest.fixture
def page(kept: Page) -> Iterator[Page]:
    """The kept page, afterwards left as it opened: fields keep their text, and what is open makes each click slow."""
    yield kept
    for operation in kept.locator(".opblock.is-open").all():
        for field in operation.locator("tr[data-param-in=query] input:enabled").all():
            field.fill("")
        for field in operation.locator("tr[data-param-in=query] select:enabled").all():
            field.select_option("")
        operation.get_by_role("button", name="Cancel").click()
        operation.locator(".opblock-summary-control").click()


def tried(page: Page, tag: str, name: str) -> Locator:
    """An operation, opened, after a click at "Try it out"."""
    operation = page.locator(f"#operations-{tag}-{name}")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    return operation


def choose(operation: Locator, content: bytes, name: str = "image.png") -> None:
    operation.locator("input[type=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def executed(page: Page, operation: Locator) -> tuple[int, str]:
    """The status and the body that a click at "Execute" leads to, as the page shows them."""
    with page.expect_response(lambda response: "/static-offline-docs/" not in response.url) as sent:
        operation.get_by_role("button", name="Execute").click()
    shown = operation.locator(".live-responses-table tr.response").first
    shown.locator(".response-col_status", has_text=str(sent.value.status)).wait_for()
    return sent.value.status, shown.inner_text()


def test_a_newcomer_chooses_a_file_and_gets_a_prediction_and_then_another(fresh: Page) -> None:
    operation = tried(fresh, "predict", "predict")
    for step, content in enumerate(SEEN, 1):
        choose(operation, content, f"frame-{step}.png")
        status, shown = executed(fresh, operation)
        assert status == 200, shown
        operation.locator(".live-responses-table", has_text=f'"step": {step}').wait_for()
        assert '"label"' in operation.locator(".live-responses-table").inner_text()


@pytest.mark.parametrize("operation", operations(), ids=lambda one: f"{one.summary} {one.kind}".strip())
def test_every_operation_works_as_the_page_fills_it_in(operation: Operation, page: Page, url: str) -> None:
    assert httpx.post(f"{url}/v1/predict", content=SEEN[0], timeout=60).status_code == 200  # so that there is a stream
    block = tried(page, operation.tag, operation.name)
    if operation.kind:
        block.locator(".opblock-section-request-body select.content-type").select_option(operation.kind)
    for name, value in {"stream": "default", "name": "adabn"}.items():  # which nobody but the person knows
        for field in block.locator(f"tr[data-param-in=path][data-param-name={name}] input").all():
            field.fill(value)
    if operation.kind.startswith(("image/", "multipart/", "application/octet-stream")):
        choose(block, SEEN[0])
    if operation.summary.endswith("/infer") and operation.kind == "application/octet-stream":
        block.locator("tr[data-param-name=Inference-Header-Content-Length] input").fill("0")
    status, shown = executed(page, block)
    way_out = NEVER.get(operation.summary)
    assert status == (200 if way_out is None else 422), shown
    assert way_out is None or way_out in shown


@pytest.mark.parametrize(
    ("field", "value"), [("all", "true"), ("stream", "default"), ("strategy", "adabn")], ids=lambda value: value
)
def test_a_newcomer_resets_by_the_fields_above_the_body(field: str, value: str, page: Page) -> None:
    block = tried(page, "admin", "reset")
    row = block.locator(f"tr[data-param-in=query][data-param-name={field}]")
    if field == "all":
        row.locator("select").select_option(value)
    else:
        row.locator("input").fill(value)
    status, shown = executed(page, block)
    assert status == 200, shown
    assert '"forgotten"' in shown


@pytest.mark.parametrize("example", ["One stream", "All states of one strategy", "Everything"])
def test_a_newcomer_resets_by_an_example(example: str, page: Page) -> None:
    block = tried(page, "admin", "reset")
    block.locator(".examples-select select").select_option(label=example)
    status, shown = executed(page, block)
    assert status == 200, shown


def test_the_page_says_of_what_type_each_field_is(page: Page) -> None:
    block = tried(page, "predict", "predict")
    types = block.locator(".parameter__type").all_inner_texts()
    assert types
    assert "never" not in " ".join(types)


def test_fields_of_the_page_are_sent_once(page: Page) -> None:
    operation = tried(page, "predict", "predict")
    operation.locator(".opblock-section-request-body select.content-type").select_option("multipart/form-data")
    for name, value in {"stream": "hall", "strategy": "unmix_tns", "params": '{"components": 4}', "top_k": "2"}.items():
        operation.locator(f"tr[data-param-name={name}] input").fill(value)
    operation.locator("tr[data-param-name=update] select").select_option("false")
    choose(operation, SEEN[0])
    status, shown = executed(page, operation)
    assert status == 200, shown
    for words in ('"stream": "hall"', '"strategy": "unmix_tns"', '"updated": false', '"components": 4'):
        assert words in shown
