from __future__ import annotations

import base64
import json
import logging
import math
import socket
import time
import traceback
from collections.abc import Callable, Sequence

import pytest
from pydantic import SecretStr
from scripted_server import Response, Script, Served, completion, refusal

from dynaq.config import LLMConfig
from dynaq.errors import ConfigError, TransientError
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import Endpoint, resolve_endpoint
from dynaq.llm.label import LABEL_SCHEMA, Label
from dynaq.llm.prompt import Prompt, build_prompt, instructions
from dynaq.llm.reply import Answer, Failure, Reply, Tokens

KEY = "sk-very-secret-0123456789"
PAID = Tokens(prompt=300, completion=20)
Serve = Callable[[Script], Served]


def prompts(count: int) -> list[Prompt]:
    built = [build_prompt({"skills": "python"}, {"title": f"Job {number}"}, 100) for number in range(count)]
    return [prompt for prompt in built if prompt is not None]


def at(url: str) -> Endpoint:
    return Endpoint("gpt-x", SecretStr(url), SecretStr(KEY))


def ask(served: Served, config: LLMConfig, count: int = 1) -> list[Reply]:
    delivered: dict[int, Reply] = {}
    with LabelClient(at(served.url), config) as client:
        replies = client.ask(prompts(count), delivered.update, list)
    assert delivered == dict(enumerate(replies))
    return replies


def test_a_request_holds_all_that_the_protocol_wants(serve: Serve, llm_config: LLMConfig) -> None:
    served = serve(lambda _: completion())
    (reply,) = ask(served, llm_config)
    assert isinstance(reply, Answer)
    assert reply.label == Label(0.2, 0.3, 0.5, "skills")
    assert (reply.model, reply.tokens) == ("gpt-x-2025", Tokens(300, 0, 20))
    assert 0 < reply.latency_s < 5
    (body,) = served.asked
    assert (body["model"], body["temperature"]) == ("gpt-x", 0.0)
    assert body["messages"][0] == {"role": "system", "content": instructions("probabilities", True)}
    assert "Job 0" in body["messages"][1]["content"]
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["response_format"]["json_schema"]["schema"] == LABEL_SCHEMA
    assert served.paths == ["/v1/chat/completions"]
    assert served.headers[0]["authorization"] == f"Bearer {KEY}"


def test_azure_is_asked_by_deployment(serve: Serve, llm_config: LLMConfig) -> None:
    served = serve(lambda _: completion())
    resource = served.url.removesuffix("/v1")
    endpoint = Endpoint("deployed", SecretStr(resource), SecretStr(KEY), azure_version="2025-01-01")
    with LabelClient(endpoint, llm_config) as client:
        (reply,) = client.ask(prompts(1), lambda _: None, list)
    assert isinstance(reply, Answer)
    assert served.paths == ["/openai/deployments/deployed/chat/completions?api-version=2025-01-01"]
    assert served.headers[0]["api-key"] == KEY


def test_replies_keep_their_order_and_calls_their_bound(serve: Serve, llm_config: LLMConfig) -> None:
    def slow_for_some(number: int) -> Response:
        time.sleep(0.1 if number % 3 == 0 else 0.01)
        return completion() if number % 2 else completion("no label")

    served = serve(slow_for_some)
    replies = ask(served, llm_config.model_copy(update={"concurrency": 4}), 20)
    shown = [body["messages"][1]["content"] for body in served.asked]
    for prompt, reply in zip(prompts(20), replies, strict=True):
        (number,) = (place for place, text in enumerate(shown) if f"{prompt.job}\n" in text)
        assert isinstance(reply, Answer if number % 2 else Failure)
    assert len(served.asked) == 20
    assert served.most_in_flight == 4


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (completion("{"), Failure("invalid json", PAID)),
        (completion('{"apply": 2, "save": 0, "ignore": 0, "reason": "pay"}'), Failure("invalid label", PAID)),
        (completion('{"apply": 0.2, "sa', finish="length"), Failure("truncated", PAID)),
        (completion(refusal="I will not play anyone."), Failure("refusal", PAID)),
        (completion("", finish="content_filter"), Failure("refusal", PAID)),
        (completion(""), Failure("empty reply", PAID)),
        (completion([{"type": "text"}]), Failure("invalid reply", PAID)),
        (Response(200, b'{"choices": []}'), Failure("invalid reply")),
        (Response(200, b'{"choices": [{"message": null}]}'), Failure("invalid reply")),
        (Response(200, b"[]"), Failure("invalid reply")),
        (Response(200, b"null"), Failure("invalid reply")),
        (Response(200, b'{"choices": ['), Failure("invalid reply")),
        (Response(200, b"<html>Welcome</html>", {"Content-Type": "text/html"}), Failure("invalid reply")),
        (Response(200, completion().body, cut=30), Failure("connection")),
        (refusal(400, f"bad key {KEY}", "unsupported_value"), Failure("http 400 unsupported_value")),
        (refusal(400, "bad", f"key {KEY}"), Failure("http 400")),
        (refusal(429, "pay first", "insufficient_quota"), Failure("http 429 insufficient_quota")),
        (Response(502, b"<html>Bad gateway</html>"), Failure("http 502")),
        (Response(200, b"{}", {"Content-Type": "application/json", "Content-Encoding": "gzip"}), Failure("connection")),
    ],
)
def test_a_failure_is_of_a_kind_and_never_a_label(
    serve: Serve, llm_config: LLMConfig, answer: Response, failure: Failure
) -> None:
    assert ask(serve(lambda _: answer), llm_config) == [failure]


def test_half_a_character_and_an_endless_name_can_be_stored(serve: Serve, llm_config: LLMConfig) -> None:
    body = json.loads(completion('{"apply": 0.2, "save": 0.3, "ignore": 0.5, "reason": "skills"}').body)
    body["model"] = "\ud800" + "m" * 5000
    body["usage"] = {"prompt_tokens": 2**80, "completion_tokens": -3, "prompt_tokens_details": {"cached_tokens": 2**90}}
    body["choices"][0]["message"]["content"] = '\ud800 {"apply": 0.2, "save": 0.3, "ignore": 0.5, "reason": "skills"}'
    (reply,) = ask(serve(lambda _: Response(200, json.dumps(body).encode())), llm_config)
    assert isinstance(reply, Answer)
    assert reply.model == "?" + "m" * 99
    assert reply.raw_reply.startswith("? {")
    assert reply.tokens == Tokens(2**31 - 1, 2**31 - 1, 0)


def test_a_server_that_hangs_is_a_timeout(serve: Serve, llm_config: LLMConfig) -> None:
    def hang(_: int) -> Response:
        time.sleep(3)
        return completion()

    started = time.perf_counter()
    assert ask(serve(hang), llm_config.model_copy(update={"timeout_s": 0.2})) == [Failure("timeout")]
    assert time.perf_counter() - started < 3


def test_no_server_is_a_connection_failure(llm_config: LLMConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert ask(Served(url), llm_config, 3) == [Failure("connection")] * 3


@pytest.mark.parametrize(
    "first", [refusal(500, "oops"), Response(200, completion().body, cut=30), refusal(429, "slow down")]
)
def test_what_may_pass_is_retried(serve: Serve, llm_config: LLMConfig, first: Response) -> None:
    served = serve(lambda number: completion() if number else first)
    (reply,) = ask(served, llm_config.model_copy(update={"max_retries": 1}))
    assert isinstance(reply, Answer)
    assert len(served.asked) == 2


def test_retry_after_is_honoured(serve: Serve, llm_config: LLMConfig) -> None:
    asked_at = []

    def busy_once(number: int) -> Response:
        asked_at.append(time.perf_counter())
        return completion() if number else refusal(429, "slow down", **{"Retry-After": "1"})

    (reply,) = ask(serve(busy_once), llm_config.model_copy(update={"max_retries": 1}))
    assert isinstance(reply, Answer)
    assert asked_at[1] - asked_at[0] >= 1


def test_retries_are_one_layer_and_only_for_what_may_pass(serve: Serve, llm_config: LLMConfig) -> None:
    config = llm_config.model_copy(update={"max_retries": 1})
    failing, wrong, unreadable = (
        serve(lambda _: refusal(503, "")),
        serve(lambda _: refusal(400, "")),
        serve(lambda _: completion("{")),
    )
    for served, calls in ((failing, 2), (wrong, 3), (unreadable, 1)):  # wrong: with less and less in the request
        ask(served, config)
        assert len(served.asked) == calls


@pytest.mark.parametrize(("status", "named"), [(401, "OPENAI_API_KEY"), (404, "'gpt-x'.*DYNAQ_LLM_MODEL")])
def test_a_refused_key_or_unknown_model_stops_at_once(
    serve: Serve, llm_config: LLMConfig, status: int, named: str
) -> None:
    served = serve(lambda number: completion() if number < 10 else refusal(status, f"Incorrect key: {KEY}"))
    delivered: dict[int, Reply] = {}
    with LabelClient(at(served.url), llm_config) as client, pytest.raises(ConfigError, match=named) as caught:
        client.ask(prompts(200), delivered.update, list)
    assert len(delivered) == 10, "paid for, so delivered"
    assert 10 < len(served.asked) <= 10 + llm_config.concurrency
    assert KEY not in str(caught.value)
    assert served.url not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_text_that_a_gateway_forbids_is_a_missing_label(serve: Serve, llm_config: LLMConfig) -> None:
    served = serve(lambda number: refusal(403, "this text?") if number == 2 else completion())
    failures = [reply for reply in ask(served, llm_config, 5) if isinstance(reply, Failure)]
    assert failures == [Failure("http 403")]
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        ask(serve(lambda _: refusal(403, "no key")), llm_config)


def test_an_error_of_the_store_stops_asking(serve: Serve, llm_config: LLMConfig) -> None:
    def store(_: Sequence[tuple[int, Reply]]) -> None:
        raise TransientError("the store is gone")

    served = serve(lambda _: completion())
    with LabelClient(at(served.url), llm_config) as client, pytest.raises(TransientError, match="store is gone"):
        client.ask(prompts(200), store, list)
    assert len(served.asked) <= llm_config.concurrency


def test_no_call_starts_before_the_reply_before_it_is_stored(serve: Serve, llm_config: LLMConfig) -> None:
    served = serve(lambda _: completion())
    stored = 0
    unstored = []

    def store(arrived: Sequence[tuple[int, Reply]]) -> None:
        nonlocal stored
        time.sleep(0.02)
        unstored.append(len(served.asked) - stored)
        stored += len(arrived)

    with LabelClient(at(served.url), llm_config) as client:
        client.ask(prompts(40), store, list)
    assert stored == 40
    assert max(unstored) <= llm_config.concurrency
    assert len(unstored) < 20, "replies that arrive together are stored together"


def test_a_pause_that_the_server_asks_for_holds_for_all(serve: Serve, llm_config: LLMConfig) -> None:
    asked_at: list[float] = []

    def busy(number: int) -> Response:
        asked_at.append(time.perf_counter())
        return refusal(429, "slow down", **{"Retry-After": "0.5"}) if number == 1 else completion()

    replies = ask(serve(busy), llm_config.model_copy(update={"max_retries": 2, "concurrency": 2}), 30)
    assert all(isinstance(reply, Answer) for reply in replies)
    assert sum(1 for at in asked_at[2:] if at < asked_at[1] + 0.5) <= 2, "only what was on its way"


@pytest.mark.parametrize(
    ("date", "calls"), [("Wed, 21 Oct 2099 07:28:00 GMT", 1), ("Wed, 21 Oct 99999999999 07:28:00 GMT", 4)]
)
def test_a_pause_of_hours_is_a_failure_and_no_nap(serve: Serve, llm_config: LLMConfig, date: str, calls: int) -> None:
    served = serve(lambda _: refusal(429, "tomorrow", **{"Retry-After": date}))
    (reply,) = ask(served, llm_config.model_copy(update={"max_retries": 3}))
    assert isinstance(reply, Failure)
    assert reply.kind == "http 429"
    assert len(served.asked) == calls


def test_requests_keep_to_the_configured_rate(serve: Serve, llm_config: LLMConfig) -> None:
    served = serve(lambda _: completion())
    rates = llm_config.rates.model_copy(update={"requests_per_minute": 120})  # a bucket of 5 s: 10, then 2 a second
    started = time.perf_counter()
    ask(served, llm_config.model_copy(update={"rates": rates}), 13)
    assert time.perf_counter() - started > 1.4
    tokens = llm_config.rates.model_copy(update={"tokens_per_minute": 60_000})  # 5,000 at once; some 600 a prompt
    started = time.perf_counter()
    ask(served, llm_config.model_copy(update={"rates": tokens}), 12)
    assert time.perf_counter() - started > 0.8


def test_a_prompt_that_is_larger_than_a_bucket_takes_as_long_as_it_is(serve: Serve, llm_config: LLMConfig) -> None:
    rates = llm_config.rates.model_copy(update={"tokens_per_minute": 5_000})  # 417 at once, 83 a second
    started = time.perf_counter()
    ask(serve(lambda _: completion()), llm_config.model_copy(update={"rates": rates}), 1)
    assert time.perf_counter() - started > 1


@pytest.mark.parametrize(
    ("takes", "told"),
    [
        ({"json_schema", "json_object"}, "takes a JSON schema; it answers as gpt-x-2025"),
        ({"json_object"}, "takes JSON without a schema"),
        (set(), "takes text only"),
    ],
)
def test_what_the_server_can_do_is_found_out_with_the_first_question(
    serve: Serve, llm_config: LLMConfig, caplog: pytest.LogCaptureFixture, takes: set[str], told: str
) -> None:
    def answer(number: int) -> Response:
        asked = served.asked[number].get("response_format", {"type": None})["type"]
        return completion() if asked is None or asked in takes else refusal(400, f"{asked} is not supported")

    served = serve(answer)
    with caplog.at_level(logging.INFO, logger="dynaq"):
        replies = ask(served, llm_config, 10)
    assert all(isinstance(reply, Answer) for reply in replies)
    assert told in caplog.text
    assert len(served.asked) == 10 + 2 - len(takes)


def test_a_first_prompt_that_is_refused_says_nothing_about_the_server(serve: Serve, llm_config: LLMConfig) -> None:
    served = serve(lambda number: completion() if number >= 3 else refusal(400, "too long", "invalid_prompt"))
    first, *others = ask(served, llm_config.model_copy(update={"max_retries": 4}), 5)
    assert first == Failure("http 400 invalid_prompt")
    assert all(isinstance(reply, Answer) for reply in others)
    assert all(body["response_format"]["type"] == "json_schema" for body in served.asked[3:])


def test_a_schema_that_is_an_internal_error_is_given_up(serve: Serve, llm_config: LLMConfig) -> None:
    def answer(number: int) -> Response:
        asks = served.asked[number].get("response_format", {}).get("type") == "json_schema"
        return refusal(500, "unknown type") if asks else completion()

    served = serve(answer)
    assert all(isinstance(reply, Answer) for reply in ask(served, llm_config, 4))
    assert len(served.asked) == 1 + 4


def test_the_action_is_read_from_log_probabilities_where_there_are_any(serve: Serve, llm_config: LLMConfig) -> None:
    def token(text: str, **chances: float) -> dict[str, object]:
        return {
            "token": text,
            "logprob": -0.1,
            "top_logprobs": [{"token": t, "logprob": p} for t, p in chances.items()],
        }

    content = '{"action": "SAVE", "reason": "pay"}'
    tokens = [token('{"action": "'), token("SAVE", SAVE=-0.7, APPLY=-1.2, IGNORE=-1.6), token('", "reason": "pay"}')]
    body = json.loads(completion(content).body)
    body["choices"][0]["logprobs"] = {"content": tokens}
    served = serve(lambda number: Response(200, json.dumps(body).encode()) if number < 1 else completion(content))
    first, second = ask(served, llm_config.model_copy(update={"answer": "action"}), 2)
    assert served.asked[0]["logprobs"] is True
    assert served.asked[0]["top_logprobs"] >= 3
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    odds = [math.exp(p) for p in (-1.2, -0.7, -1.6)]
    shares = [first.label.apply, first.label.save, first.label.ignore]
    assert shares == pytest.approx([each / sum(odds) for each in odds])
    assert (first.logprobs, second.logprobs) == (True, False)
    assert second.label == Label(0.0, 1.0, 0.0, "pay")


def test_one_client_serves_many_batches(serve: Serve, llm_config: LLMConfig) -> None:
    served = serve(lambda _: completion())
    with LabelClient(at(served.url), llm_config) as client:
        assert client.ask([], lambda _: None, list) == []
        for _ in range(3):
            assert len(client.ask(prompts(2), lambda _: None, list)) == 2
    assert len(served.asked) == 6


def test_logs_and_reprs_hold_no_key_address_or_prompt(
    serve: Serve, llm_config: LLMConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    served = serve(lambda number: completion() if number else refusal(500, f"key {KEY}"))
    with LabelClient(at(served.url), llm_config.model_copy(update={"max_retries": 1})) as client:
        replies = client.ask(prompts(3), lambda _: None, list)
        shown = f"{caplog.text} {client!r} {vars(client)} {replies}"
    for secret in (KEY, served.url.removeprefix("http://"), "Job 1"):
        assert secret not in shown


@pytest.mark.parametrize(
    "environ",
    [
        {"OPENAI_BASE_URL": "{url}/v1"},
        {"AZURE_OPENAI_ENDPOINT": "{url}", "AZURE_OPENAI_API_KEY": KEY, "OPENAI_API_VERSION": "2025-01-01"},
    ],
)
def test_a_password_in_the_address_is_sent_and_shown_nowhere(
    serve: Serve, llm_config: LLMConfig, caplog: pytest.LogCaptureFixture, environ: dict[str, str]
) -> None:
    answers = [refusal(500, "oops"), completion(), Response(200, b"", cut=0), refusal(401, "who is S3ntinel?")]
    served = serve(lambda number: answers[min(number, 3)])
    url = served.url.removesuffix("/v1").replace("//", "//user:S3ntinel@")
    endpoint = resolve_endpoint(
        {name: value.format(url=url) for name, value in environ.items()} | {"DYNAQ_LLM_MODEL": "gpt-x"}
    )
    assert endpoint is not None
    with LabelClient(endpoint, llm_config.model_copy(update={"max_retries": 1, "concurrency": 1})) as client:
        for name in ("openai", "httpx", "httpx2"):  # after the client, which has silenced them
            caplog.set_level(logging.INFO, logger=name)
        caplog.set_level(logging.DEBUG)
        replies = client.ask(prompts(1), lambda _: None, list)
        with pytest.raises(ConfigError) as caught:
            client.ask(prompts(2), lambda _: None, list)
        shown = f"{caplog.text} {client!r} {vars(client)} {replies} {endpoint!r} {endpoint} {endpoint.provenance}"
    shown += "".join(traceback.format_exception(caught.value))
    credentials = base64.b64encode(b"user:S3ntinel").decode()
    assert {headers["authorization"] for headers in served.headers} == {f"Basic {credentials}"}
    assert "HTTP Request: POST" in caplog.text
    assert "S3ntinel" not in shown
    assert credentials not in shown
