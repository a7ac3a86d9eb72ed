from __future__ import annotations

import hashlib

import pytest

from dynaq.errors import ConfigError
from dynaq.llm.endpoint import resolve_endpoint, resolve_judge, rule_sim_endpoint

KEY = "sk-very-secret-0123456789"
URL = "https://resource-of-ours.example"
OPENAI = {"OPENAI_API_KEY": KEY, "DYNAQ_LLM_MODEL": "gpt-x"}
AZURE = {
    "AZURE_OPENAI_ENDPOINT": URL,
    "AZURE_OPENAI_API_KEY": KEY,
    "OPENAI_API_VERSION": "2025-01-01",
    "DYNAQ_LLM_MODEL": "deployed",
}


def hashed(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:8]


def provenance(url: str) -> str:
    endpoint = resolve_endpoint(OPENAI | {"OPENAI_BASE_URL": url})
    assert endpoint is not None
    return endpoint.provenance


def test_nothing_set_is_no_endpoint() -> None:
    assert resolve_endpoint({}) is None
    assert resolve_endpoint({"OPENAI_API_KEY": " ", "DYNAQ_LLM_MODEL": ""}) is None


@pytest.mark.parametrize(
    ("environ", "provenance", "url", "key"),
    [
        (OPENAI, "openai:gpt-x", "https://api.openai.com/v1", KEY),
        (
            OPENAI | {"OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_KEY": f"{KEY}\n"},
            f"openai:gpt-x@{hashed(f'{URL}/v1')}",
            f"{URL}/v1",
            KEY,
        ),
        (
            {"OPENAI_BASE_URL": "http://[::1]:8000/v1", "DYNAQ_LLM_MODEL": "q"},
            f"openai:q@{hashed('http://[::1]:8000/v1')}",
            "http://[::1]:8000/v1",
            "none",
        ),
        (AZURE, f"azure:deployed@{hashed(URL)}", URL, KEY),
    ],
)
def test_a_whole_setting(environ: dict[str, str], provenance: str, url: str, key: str) -> None:
    endpoint = resolve_endpoint(environ)
    assert endpoint is not None
    assert endpoint.provenance == provenance
    assert (endpoint.url.get_secret_value(), endpoint.key.get_secret_value()) == (url, key)
    assert KEY not in repr(endpoint)
    assert "example" not in f"{endpoint} {endpoint!r}"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OPENAI_API_KEY": KEY}, "DYNAQ_LLM_MODEL"),
        ({"OPENAI_BASE_URL": URL}, "DYNAQ_LLM_MODEL"),
        ({"DYNAQ_LLM_MODEL": "gpt-x"}, "OPENAI_API_KEY or OPENAI_BASE_URL"),
        ({"AZURE_OPENAI_ENDPOINT": URL}, "DYNAQ_LLM_MODEL and AZURE_OPENAI_API_KEY and OPENAI_API_VERSION"),
        ({"OPENAI_API_VERSION": "2025-01-01"}, "AZURE_OPENAI_ENDPOINT"),
        ({name: value for name, value in AZURE.items() if name != "DYNAQ_LLM_MODEL"}, "DYNAQ_LLM_MODEL"),
        (
            {name: value for name, value in AZURE.items() if name != "AZURE_OPENAI_API_KEY"},
            "AZURE_OPENAI_API_KEY",
        ),
        (AZURE | OPENAI, "unset"),
        (OPENAI | {"OPENAI_BASE_URL": "secret.example/v1"}, "OPENAI_BASE_URL"),
        (OPENAI | {"OPENAI_BASE_URL": "http://secret.example:99999/v1"}, "OPENAI_BASE_URL"),
        (OPENAI | {"OPENAI_BASE_URL": "http://[secret/v1"}, "OPENAI_BASE_URL"),
        (OPENAI | {"OPENAI_BASE_URL": "http://name:secret/word@host/v1"}, "OPENAI_BASE_URL"),
        (OPENAI | {"OPENAI_API_KEY": "sk-secret\xe9"}, "OPENAI_API_KEY"),
        (OPENAI | {"OPENAI_API_KEY": "sk-secret two"}, "OPENAI_API_KEY"),
    ],
)
def test_half_a_setting_is_an_error_and_never_the_stand_in(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        resolve_endpoint(environ)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert URL not in str(caught.value)


def test_labels_of_another_server_are_others() -> None:
    addresses = ("http://a/v1", "https://a/v1", "http://b/v1", "http://a:81/v1", "http://a/v2", "http://a/V1")
    assert len({provenance(url) for url in addresses} | {"openai:gpt-x"}) == len(addresses) + 1


@pytest.mark.parametrize("url", ["HTTP://A/v1", "http://a:80/v1/", "http://name:S3ntinel@a/v1", "http://a/v1?key=k"])
def test_a_server_is_the_same_however_its_address_is_written(url: str) -> None:
    assert provenance(url) == provenance("http://a/v1")


def test_openais_own_address_may_be_written_out() -> None:
    assert provenance("https://api.openai.com/v1/") == "openai:gpt-x"


def test_the_stand_in_is_named_for_what_it_is() -> None:
    assert rule_sim_endpoint("http://127.0.0.1:1/v1").provenance == "rule-sim-v1"
    by_hand = resolve_endpoint({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "DYNAQ_LLM_MODEL": "rule-sim-v1"})
    assert by_hand is not None
    assert by_hand.provenance == "rule-sim-v1"


JUDGE = {"DYNAQ_JUDGE_API_KEY": KEY, "DYNAQ_JUDGE_MODEL": "other", "DYNAQ_JUDGE_BASE_URL": f"{URL}/v1"}


def test_the_judge_has_variables_of_its_own() -> None:
    assert resolve_judge(OPENAI) is None
    assert resolve_endpoint(JUDGE) is None
    judge = resolve_judge(JUDGE | OPENAI)
    assert judge is not None
    assert judge.provenance == f"openai:other@{hashed(f'{URL}/v1')}"
    assert judge.variables == ("DYNAQ_JUDGE_MODEL", "DYNAQ_JUDGE_API_KEY", "DYNAQ_JUDGE_BASE_URL")
    keyless = resolve_judge({name: value for name, value in JUDGE.items() if "KEY" not in name} | OPENAI)
    assert keyless is not None
    assert keyless.key.get_secret_value() == "none", "the applicant's key is not for the judge's server"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"DYNAQ_JUDGE_MODEL": "other"}, "DYNAQ_JUDGE_API_KEY or DYNAQ_JUDGE_BASE_URL"),
        ({"DYNAQ_JUDGE_API_KEY": KEY}, "DYNAQ_JUDGE_API_KEY set, but not DYNAQ_JUDGE_MODEL"),
        (JUDGE | {"DYNAQ_JUDGE_BASE_URL": "secret.example/v1"}, "DYNAQ_JUDGE_BASE_URL is no address"),
        (JUDGE | {"DYNAQ_LLM_MODEL": "gpt-x"}, "DYNAQ_LLM_MODEL is set, but no server"),
        (OPENAI | {"DYNAQ_JUDGE_API_KEY": KEY, "DYNAQ_JUDGE_MODEL": "gpt-x"}, "'gpt-x', which plays the applicant too"),
        (JUDGE | {"DYNAQ_JUDGE_MODEL": "rule-sim-v1"}, "'rule-sim-v1', which plays the applicant too"),
    ],
)
def test_a_judge_that_cannot_be_or_must_not(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        resolve_judge(environ)
    assert "secret" not in str(caught.value)
