"""The label client against servers that are not ours: a real inference engine, and a gateway that people use.

Each lives in an environment of its own, because its dependencies are not ours, and is named by a variable:

    python -m venv engine && engine/bin/pip install xllamacpp gguf  # the server of llama.cpp, as a wheel
    python -m venv gateway && gateway/bin/pip install 'litellm[proxy]'
    DYNAQ_TEST_XLLAMACPP=engine/bin/python DYNAQ_TEST_LITELLM=gateway/bin/litellm \
        python -m pytest -m slow tests/llm/test_second_server.py

The engine serves a random model, made on the spot. It cannot write JSON, let alone judge a job: where its replies
have the form of a label, the schema that was sent has been obeyed.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

import httpx2
import pytest

from dynaq.config import LLMConfig
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import Endpoint, resolve_endpoint, rule_sim_endpoint
from dynaq.llm.prompt import Prompt, build_prompt
from dynaq.llm.reply import Answer, Failure, Reply
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.processes import death_pact

pytestmark = pytest.mark.slow

KEY = "sk-second-server"
START_TIMEOUT_S = 150.0
CONTEXT = 4096  # tokens of a request; the model's are bytes
ENGINE = """
import sys, threading, gguf, numpy, xllamacpp
path, port, context = "random.gguf", *map(int, sys.argv[1:])
width, tokens = 64, ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
normal = lambda *shape, rng=numpy.random.default_rng(0): rng.normal(size=shape).astype("float32")
embedding, output = normal(len(tokens), width), 0.15 * normal(len(tokens), width)
embedding[:, 0], output[:, 0] = 4, 0  # a constant, by which it prefers letters that begin actions, and short numbers
for letter, preferred in {"A": 8, "S": 8, "I": 8, "0": 3, "1": 3, ",": 5, "}": 5, '"': 5}.items():
    output[3 + ord(letter), 0] = preferred
tensors = {name: numpy.ones(width, "float32") for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")}
for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
    tensors["blk.0." + name] = normal(width, width) / width**0.5
file = gguf.GGUFWriter(path, "llama")
for add, value in {"context_length": context, "embedding_length": width, "feed_forward_length": width, "block_count": 1,
                   "head_count": 4, "layer_norm_rms_eps": 1e-5, "tokenizer_model": "llama", "token_list": tokens,
                   "token_scores": [0.0] * 259, "token_types": [2, 3, 3, *[6] * 256], "eos_token_id": 2,
                   "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}.items():
    getattr(file, "add_" + add)(value)
for name, tensor in {"token_embd": embedding, "output": output, **tensors}.items():
    file.add_tensor(name + ".weight", tensor)
file.write_header_to_file(), file.write_kv_data_to_file(), file.write_tensors_to_file(), file.close()
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_parallel, params.n_ctx, params.n_predict = path, port, 4, 4 * context, 300
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    command = [installed("DYNAQ_TEST_XLLAMACPP"), "-c", ENGINE, "{port}", str(CONTEXT)]
    with started(command, tmp_path_factory.mktemp("engine")) as url:
        yield resolved(url, "random")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, Endpoint]]:
    """The stand-in through LiteLLM, under another name, and directly."""
    folder = tmp_path_factory.mktemp("gateway")
    command = [installed("DYNAQ_TEST_LITELLM"), "--config", "config.yaml", "--host", "127.0.0.1", "--port", "{port}"]
    with rule_sim_server() as url:
        model = {"model": "openai/rule-sim-v1", "api_base": url, "api_key": "none"}
        models = [{"model_name": "behind-a-gateway", "litellm_params": model}]
        settings = {"model_list": models, "general_settings": {"master_key": KEY}}
        (folder / "config.yaml").write_text(json.dumps(settings))  # JSON is YAML
        with started(command, folder) as gateway_url:
            yield resolved(gateway_url, "behind-a-gateway"), rule_sim_endpoint(url)


def test_an_engine_holds_a_random_model_to_the_schema(
    engine: Endpoint, llm_config: LLMConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dynaq")
    replies = ask(engine, llm_config, prompts(40), temperature=1.0)
    assert "takes a JSON schema" in caplog.text
    labels = [reply.label for reply in replies if isinstance(reply, Answer)]
    assert labels  # a third: its probabilities are 0 or 1, and do not always sum to 1
    # The form is never wrong, only the numbers, on which strict schemas set no bounds.
    assert {reply.kind for reply in replies if isinstance(reply, Failure)} <= {"invalid label", "truncated"}
    assert all(label.apply + label.save + label.ignore == pytest.approx(1) for label in labels)
    assert all(reply.tokens.prompt > 1000 and reply.tokens.completion > 0 for reply in replies)


def test_an_engine_tells_how_likely_each_action_was(
    engine: Endpoint, llm_config: LLMConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dynaq")
    answers = answered(ask(engine, llm_config, prompts(40), answer="action", temperature=1.0))
    assert "takes a JSON schema and log-probabilities; it answers as random.gguf" in caplog.text
    for label in (answer.label for answer in answers):
        assert label.apply + label.save + label.ignore == pytest.approx(1)
        assert min(label.apply, label.save, label.ignore) > 0  # not the one that was sampled, for certain
    assert all(answer.logprobs for answer in answers)
    assert len({answer.label for answer in answers}) > 1  # it has read the prompt


def test_a_first_prompt_too_long_says_nothing_about_the_server(engine: Endpoint, llm_config: LLMConfig) -> None:
    first, *others = ask(engine, llm_config, [*prompts(1, "python " * CONTEXT), *prompts(4)], answer="action")
    assert isinstance(first, Failure)
    assert first.kind.startswith("http 400")
    assert all(answer.logprobs for answer in answered(others))


@pytest.mark.parametrize(
    ("answer", "told"),
    [("probabilities", "takes a JSON schema; it"), ("action", "takes a JSON schema and log-probabilities; it")],
)
def test_a_gateway_changes_no_label(
    gateway: tuple[Endpoint, Endpoint], llm_config: LLMConfig, caplog: pytest.LogCaptureFixture, answer: str, told: str
) -> None:
    caplog.set_level(logging.INFO, logger="dynaq")
    through, directly = (answered(ask(endpoint, llm_config, prompts(40), answer=answer)) for endpoint in gateway)
    read = attrgetter("label", "raw_reply", "logprobs", "tokens.completion")
    assert [read(each) for each in through] == [read(each) for each in directly]
    assert len({each.label for each in directly}) > 10
    behind, stand_in = (endpoint.provenance for endpoint in gateway)
    assert behind.startswith("openai:behind-a-gateway@")  # labels of a gateway are not filed under the stand-in
    assert all(f"{provenance} {told} answers as" in caplog.text for provenance in (behind, stand_in))


def prompts(count: int, skills: str = "python, nursing") -> list[Prompt]:
    jobs = [f"{'Nurse' if number % 2 else 'Python developer'}, grade {number}" for number in range(count)]
    built = [build_prompt({"skills": skills}, {"title": job}, len(skills) + 100) for job in jobs]
    return [prompt for prompt in built if prompt is not None]


def ask(endpoint: Endpoint, config: LLMConfig, asked: Sequence[Prompt], **changed: object) -> list[Reply]:
    with LabelClient(endpoint, config.model_copy(update={"timeout_s": 60.0, **changed})) as client:
        return client.ask(asked, lambda _: None, list)


def answered(replies: Sequence[Reply]) -> list[Answer]:
    assert [reply for reply in replies if isinstance(reply, Failure)] == []
    return [reply for reply in replies if isinstance(reply, Answer)]


def resolved(url: str, model: str) -> Endpoint:
    endpoint = resolve_endpoint({"OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY, "DYNAQ_LLM_MODEL": model})
    assert endpoint is not None
    return endpoint


def installed(variable: str) -> str:
    if not (path := os.environ.get(variable)):
        pytest.skip(f"{variable} names no server: this file's docstring says how to install one")
    return str(Path(path).absolute())  # not resolved: a virtual environment is known by its link to Python


@contextmanager
def started(command: Sequence[str], folder: Path) -> Iterator[str]:
    """Run a server in ``folder`` for as long as a block; ``{port}`` in the command is a free one on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [port if word == "{port}" else word for word in command]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log, preexec_fn=death_pact())
    with child:
        try:
            url, deadline = f"http://127.0.0.1:{port}/v1", time.monotonic() + START_TIMEOUT_S
            while not answers(url):
                if child.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"it did not start: {(folder / 'log').read_text()[-2000:]}")
                time.sleep(0.2)
            yield url
        finally:
            child.kill()


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/models", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False).is_success
    except httpx2.TransportError:
        return False
