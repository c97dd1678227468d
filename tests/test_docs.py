"""What the documentation shows works as shown."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import uvicorn
from PIL import Image
from typer.testing import CliRunner

from adapters import STRATEGIES, AdaptiveModel, kind_of, name_of, names, strategy, whole
from adapters.checks import check_adapter
from app.auth.keys import write_keys
from app.cli import cli
from app.configuration import configuration
from app.evaluation.report.rows import COLUMNS, read_csv
from app.evaluation.types import PROTOCOLS, WALK
from app.models.resnet20 import ResNet20
from benchmarks.results import __main__ as results
from benchmarks.results import long_stream as results_long
from benchmarks.results import page as results_page
from benchmarks.results import readme_table as results_readme
from benchmarks.results.plan import cells
from tests.app.fakes import Client
from tests.app.observability.test_traces import receiving

ROOT = Path(__file__).parent.parent
ADVICE = (
    "CONTRIBUTING.md, 'Add a strategy', says how to describe it in docs/strategies.md, and how to get its row in "
    "docs/results.md: `make results DATA=FOLDER`, or without data `python -m benchmarks.results --texts-only`"
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_strategy_of_the_plugin_page_passes_the_battery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In a module of its own: dataclasses look their annotations up there.
    (tmp_path / "halfway.py").write_text(blocks(ROOT / "docs" / "plugin.md", "python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = __import__("halfway")
    check_adapter(module.Halfway())
    network = ResNet20()
    bn, half = (AdaptiveModel(network, strategy) for strategy in ("bn", module.Halfway(share=1.0)))
    images = torch.rand(4, 3, 32, 32)
    assert torch.allclose(bn(images), half(images), atol=1e-5)


def test_the_linear_strategy_of_the_plugin_page_passes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (page,) = [block for block in blocks(ROOT / "docs" / "plugin.md", "python") if "class Following(Linear)" in block]
    (tmp_path / "following.py").write_text(page)
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = __import__("following")
    check_adapter(module.Following(share=0.3))
    assert module.Following().linear


def test_the_python_of_the_models_page_runs() -> None:
    torch.manual_seed(0)
    scope: dict[str, Any] = {"network": ResNet20().eval(), "images": torch.rand(4, 3, 32, 32)}
    exec(blocks(ROOT / "docs" / "models.md", "python")[-1], scope)  # noqa: S102
    assert scope["logits"].shape == (4, 10)
    assert len(scope["model"].state_dict()["streams"]) == 1


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_strategy_is_in_the_tables(name: str) -> None:
    for page in (ROOT / "docs" / "results.md", ROOT / "docs" / "strategies.md"):
        assert f"| `{name}` |" in page.read_text(), f"docs/{page.name} has no row for {name}: {ADVICE}"


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_strategy_is_described_among_those_of_its_kind(name: str) -> None:
    page = (ROOT / "docs" / "strategies.md").read_text()
    sections = dict(re.findall(r"^## (\w+)s\n(.*?)(?=^## )", page, re.DOTALL | re.MULTILINE))
    section = sections[kind_of(STRATEGIES[name]).capitalize()]
    for text in (f"| `{name}` |", f"- **`{name}`**"):
        assert text in section, f"docs/strategies.md has no '{text}' among the {kind_of(STRATEGIES[name])}s: {ADVICE}"


@pytest.mark.parametrize("name", names("learner"))
def test_the_strategies_page_says_which_adapter_a_learner_goes_with(name: str) -> None:
    adapter = name_of(whole(strategy(name)).adapter)
    assert f"| `{name}` | `{adapter}` |" in (ROOT / "docs" / "strategies.md").read_text()


def test_the_table_of_the_readme_is_made_of_the_measured_figures() -> None:
    page = (ROOT / "README.md").read_text()
    assert page == results_readme.put(page, results.make_table(ROOT / "docs"))


def test_the_page_of_results_is_made_of_the_measured_figures() -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    assert page == results.make_page(ROOT / "docs", results_page.told_about(page))
    assert "| machine |" in page
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users)\b", page) == []
    sizes = [path.stat().st_size for path in (ROOT / "docs" / "images" / "results").iterdir()]
    assert len(sizes) == len(results_page.PICTURES)
    assert max(sizes) < 300_000


@pytest.mark.parametrize("place", [("adabn", "continual", "iid"), ("unmix_tns", "clean", "dirichlet:0.1")])
def test_figures_of_the_page_are_means_of_the_rows(place: tuple[str, str, str]) -> None:
    with (ROOT / "docs" / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["strategy"], row["protocol"], row["order"]) == place]
    own = [float(row["error"]) for row in rows if row["batch"] == "1"]
    section = (ROOT / "docs" / "results.md").read_text().split(f"## {place[1]}, {place[2]}\n")[1]
    (line,) = re.findall(rf"^\| `{place[0]}` \| \**([\d.]+) ", section.split("\n## ")[0], re.MULTILINE)
    assert float(line) == pytest.approx(sum(own) / len(own), abs=0.0501)


def test_every_cell_of_the_study_was_measured_or_is_told_to_be_missing() -> None:
    measured, wanted = {one.cell for one in read_csv(ROOT / "docs" / "results.csv")}, set(cells())
    assert measured <= wanted
    missing = len(wanted - measured)
    page = (ROOT / "docs" / "results.md").read_text()
    assert (f"| unfinished | {missing} of {len(wanted)} cells are missing |" in page) == bool(missing)
    followed = {cell for cell in measured if (cell.protocol, cell.batch) == (results_long.PROTOCOL, results_long.BATCH)}
    long = results_long.read(ROOT / "docs" / "results-long.csv")
    lengths = {(cell.strategy, cell.order, n) for cell in followed for n in (*results_long.FIRST, 15_000)}
    assert {row[:3] for row in long} == lengths


def test_the_errors_of_the_readme_are_those_of_make_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe,) = re.findall(r"/renorm (evaluate (?:.*\\\n)*.*)\n", (ROOT / "Makefile").read_text())
    made = recipe.replace("$(or $(DATA),benchmarks/sample)", "benchmarks/sample").replace("$(ARGS)", "")
    words = shlex.split(made.replace("\\\n", " ").replace("results/errors", str(tmp_path)))
    monkeypatch.chdir(ROOT)
    # No pictures, which take most of the time, and are not looked at.
    monkeypatch.setattr("app.evaluation.plots.write.write_plots", lambda *_, **__: [])
    done = CliRunner().invoke(cli, words, env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    (shown,) = [block for block in blocks(ROOT / "README.md", "text") if "to source" in block]
    for name in ("source", "auto"):
        told, found = (
            re.findall(rf"^{name} +([\d.]+) +([-+.\d]+)", text, re.MULTILINE) for text in (shown, done.stdout)
        )
        # Another machine may round a logit otherwise: one image of 600 is 0.17 points.
        assert [float(one) for one in found[0]] == pytest.approx([float(one) for one in told[0]], abs=0.4)


def test_the_page_of_evaluations_has_every_protocol_option_and_column() -> None:
    page = (ROOT / "docs" / "evaluate.md").read_text()
    for name in (*PROTOCOLS, WALK, "iid", "dirichlet:0.1", "sorted", "ptta", "stretches:200", "one_class"):
        assert f"| `{name}` |" in page
    assert ", ".join(f"`{name}`" for name in COLUMNS) in page
    options = typer.main.get_command(cli).commands["evaluate"].params  # type: ignore[attr-defined]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


COMMANDS = f"""
renorm() {{
  if [ "$1" = serve ]; then shift; set -- config "$@"; fi  # the same options, but it ends
  "{sys.executable}" -m app "$@"
}}
curl() {{ command curl -sS "$@"; }}
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server whose keys are those of ``keys.toml``, as the pages have it."""
    write_keys(tmp_path / "keys.toml", [])
    app = Client(keys=tmp_path / "keys.toml").app
    # The server knows the keys that commands make at once, where the page waits a second.
    monkeypatch.setattr("app.auth.keys.CHECK_S", 0.0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield int(listening.getsockname()[1])
        server.should_exit = True
        thread.join()


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs bash and curl")
@pytest.mark.parametrize("page", ["configuration.md", "security.md"])
def test_commands_of_the_page_do_what_it_says(page: str, served: int, tmp_path: Path) -> None:
    script = "set -e\n" + COMMANDS + "".join(blocks(ROOT / "docs" / page, "sh"))
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{served}").replace("sleep 1.1", "")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RENORM_")}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_of_the_configuration_page_is_one(tmp_path: Path) -> None:
    (file,) = blocks(ROOT / "docs" / "configuration.md", "toml")
    (tmp_path / "r.toml").write_text(file)
    settings = configuration({}, tmp_path / "r.toml").settings()
    assert settings.labels == tmp_path / "labels.txt"
    assert settings.timeout == 2.5


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs bash and curl")
def test_the_observability_page_logs_and_traces_as_it_says(tmp_path: Path) -> None:
    page = ROOT / "docs" / "observability.md"
    scrape, logging, call, install, tracing, traced = blocks(page, "sh")
    assert install == "pip install 'renorm[traces]'\n"
    with socket.socket() as free, receiving() as collector:
        free.bind(("127.0.0.1", 0))
        ours, theirs = f"127.0.0.1:{free.getsockname()[1]}", f"127.0.0.1:{collector.server_port}"
        # One server with the options of both commands; `exec`, so that it is the server that is told to end.
        options = logging.removeprefix("renorm serve").strip()
        serve = f"{tracing.strip()} {options} --port {free.getsockname()[1]} --threads 1 --device cpu"
        serve = serve.replace("127.0.0.1:4318", theirs).replace(" renorm serve", f" exec {sys.executable} -m app serve")
        free.close()
        output, errors = _served(serve, (call + traced + scrape).replace("127.0.0.1:8000", ours), tmp_path)
    assert output.count('"model":"cifar10-resnet20"') == 2
    assert 'renorm_images_total{strategy="auto"} 2.0\n' in output
    told = [json.loads(line) for line in errors.splitlines()]
    lines = [line for line in told if line["logger"] == "renorm.access"]
    assert [line["logger"] for line in told if line not in lines] == ["renorm.server"] * 3
    assert [(line["message"], line["stream"]) for line in lines] == [("POST /v1/predict 200", "camera-7")] * 2
    assert lines[0]["request_id"] == "order-4711"
    (_, taken), *_ = collector.taken
    (resource,) = taken.resource_spans
    assert "line-3" in {one.value.string_value for one in resource.resource.attributes}
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    names = [span.name for span in spans if span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"]
    assert names == ["decode", "queue", "forward", "POST /v1/predict"]


def _served(serve: str, script: str, home: Path) -> tuple[str, str]:
    """What a script prints beside a server, and what the server writes to standard error."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RENORM_", "OTEL_"))}
    errors, output = home / "errors.txt", home / "output.txt"
    with errors.open("w") as log, output.open("w") as shown:
        server = subprocess.Popen(["bash", "-c", serve], cwd=ROOT, env=environment, stdout=shown, stderr=log)
    try:
        for _ in range(600):
            if "Listening on" in output.read_text() or '"ready;' in errors.read_text():
                break
            assert server.poll() is None, errors.read_text()
            time.sleep(0.1)
        done = subprocess.run(["bash", "-ec", script], cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        server.terminate()
        server.wait(20)
    assert done.returncode == 0, done.stderr + errors.read_text()
    return done.stdout, errors.read_text()


def test_the_commands_of_the_drift_page_measure_and_use_a_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (commands,) = blocks(ROOT / "docs" / "drift.md", "sh")
    measure, serve = (shlex.split(line)[1:] for line in commands.splitlines())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clean").mkdir()
    for number, pixels in enumerate(np.load(ROOT / "benchmarks" / "sample" / "clean.npy")[:40]):
        Image.fromarray(pixels).save(tmp_path / "clean" / f"{number}.png")
    measured = CliRunner().invoke(cli, measure)
    assert measured.exit_code == 0, measured.output
    described = CliRunner().invoke(cli, ["describe", "--json", *serve[1:]])
    assert json.loads(described.stdout)["drift_baseline"] == "measured"
