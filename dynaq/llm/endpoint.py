"""Which LLM plays the applicant, and which one judges: from the environment, or none, never from half a setting."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from dynaq.errors import ConfigError

RULE_SIM = "rule-sim-v1"
"""Name of the offline stand-in, wherever its labels appear."""

MODEL = "DYNAQ_LLM_MODEL"
_OPENAI = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
_AZURE = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "OPENAI_API_VERSION")
_OPENAI_URL = "https://api.openai.com/v1"
_JUDGE_MODEL = "DYNAQ_JUDGE_MODEL"
_JUDGE = ("DYNAQ_JUDGE_API_KEY", "DYNAQ_JUDGE_BASE_URL")


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks /chat/completions. Address and key show in no repr.

    Attributes:
        model: the model, for Azure the deployment.
        url: base URL, for Azure the resource's endpoint; may hold a name and password for HTTP Basic.
        key: sent as the credential.
        azure_version: API version of an Azure resource; None elsewhere.
        variables: where model, key and address were set, for errors.
    """

    model: str
    url: SecretStr
    key: SecretStr
    azure_version: str | None = None
    variables: tuple[str, str, str] = (MODEL, *_OPENAI)

    @property
    def provenance(self) -> str:
        """Stored with each label, and part of the key of what is trained on it.

        ``openai:<model>`` is OpenAI's own server. Any other may call anything by the same name, so a hash of its
        address follows: ``openai:<model>@<hash>``, ``azure:<deployment>@<hash>``. A server that moves, be it to
        another port, is another one, and its labels are asked for anew. The stand-in is ``rule-sim-v1`` anywhere.
        """
        if self.model == RULE_SIM:
            return RULE_SIM
        address = _plain(self.url.get_secret_value())
        if self.azure_version is None and address == _OPENAI_URL:
            return f"openai:{self.model}"
        kind = "openai" if self.azure_version is None else "azure"
        return f"{kind}:{self.model}@{hashlib.sha256(address.encode()).hexdigest()[:8]}"


def rule_sim_endpoint(base_url: str) -> Endpoint:
    """The stand-in at the address that ``rule_sim_server`` gave."""
    return Endpoint(RULE_SIM, SecretStr(base_url), SecretStr("none"))


def resolve_endpoint(environ: Mapping[str, str] = os.environ) -> Endpoint | None:
    """Read OPENAI_API_KEY, OPENAI_BASE_URL or their three AZURE counterparts, and DYNAQ_LLM_MODEL.

    A server of your own needs no key: OPENAI_BASE_URL and DYNAQ_LLM_MODEL do.

    Returns:
        None where none of them is set: the caller then starts the stand-in, and says so.

    Raises:
        ConfigError: some are set, but not all that are needed, or one holds what it cannot. Never falls back.
    """
    given = _given(environ, (MODEL, *_OPENAI, *_AZURE))
    openai, azure = ([name for name in names if name in given] for names in (_OPENAI, _AZURE))
    if openai and azure:
        raise ConfigError(f"{' and '.join(openai + azure)} are set: unset those of OpenAI or those of Azure")
    if not azure:
        return _openai_endpoint(given, MODEL, _OPENAI)
    if missing := [name for name in (MODEL, *_AZURE) if name not in given]:
        raise ConfigError(f"{' and '.join(azure)} set, but not {' and '.join(missing)}: set it too")
    url, key = _url(given, _AZURE[0]), _key(given, _AZURE[1])
    return Endpoint(given[MODEL], url, key, given["OPENAI_API_VERSION"], (MODEL, _AZURE[1], _AZURE[0]))


def resolve_judge(environ: Mapping[str, str] = os.environ) -> Endpoint | None:
    """Read DYNAQ_JUDGE_API_KEY, DYNAQ_JUDGE_BASE_URL and DYNAQ_JUDGE_MODEL, as their OpenAI counterparts are read.

    Returns:
        None where none of them is set: then no LLM judges. The stand-in never does unless it is named.

    Raises:
        ConfigError: as resolve_endpoint; or the LLM that plays the applicant would judge what it has taught.
    """
    judge = _openai_endpoint(_given(environ, (_JUDGE_MODEL, *_JUDGE)), _JUDGE_MODEL, _JUDGE)
    if judge is None:
        return None
    teacher = resolve_endpoint(environ)
    if judge.provenance == (teacher.provenance if teacher else RULE_SIM):
        raise ConfigError(
            f"{_JUDGE_MODEL} is {judge.model!r}, which plays the applicant too, and would judge what it has taught:"
            " name another model or server"
        )
    return judge


def _given(environ: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: value for name in names if (value := environ.get(name, "").strip())}


def _openai_endpoint(given: Mapping[str, str], model: str, server: tuple[str, str]) -> Endpoint | None:
    """From the variables of a model and of a server's key and address; None where none of the three is given."""
    key, url = server
    found = [name for name in server if name in given]
    if not found and model not in given:
        return None
    if not found:
        raise ConfigError(f"{model} is set, but no server: set {key} or {url}, or unset it")
    if model not in given:
        raise ConfigError(f"{' and '.join(found)} set, but not {model}: set it too")
    return Endpoint(given[model], _url(given, url), _key(given, key), variables=(model, key, url))


def _plain(url: str) -> str:
    """scheme://host[:port]/path, one spelling for an address, without credentials and query."""
    address = urlsplit(url)
    default_port = {"http": ":80", "https": ":443"}[address.scheme]
    host = address.netloc.rpartition("@")[2].lower().removesuffix(default_port)
    return f"{address.scheme}://{host}{address.path.rstrip('/')}"


def _url(given: Mapping[str, str], name: str) -> SecretStr:
    url = given.get(name, _OPENAI_URL)
    try:
        address = urlsplit(url)
        usable = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # of an impossible host or port; its message quotes the address
        usable = False
    if not usable:
        raise ConfigError(f"{name} is no address such as https://host/v1")
    return SecretStr(url)


def _key(given: Mapping[str, str], name: str) -> SecretStr:
    key = given.get(name, "none")  # the SDK wants one; servers without keys ignore it
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"{name} holds a character that no HTTP header may carry: copy the key again")
    return SecretStr(key)
