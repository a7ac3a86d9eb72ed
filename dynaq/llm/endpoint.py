"""Which LLM plays the applicant: resolved from the environment, or nothing, never from half a setting."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks /chat/completions. Address and key show in no repr.

    Attributes:
        model: the model, for Azure the deployment.
        url: base URL, for Azure the resource's endpoint; may hold a name and password for HTTP Basic.
        key: sent as the credential.
        azure_version: API version of an Azure resource; None elsewhere.
    """

    model: str
    url: SecretStr
    key: SecretStr
    azure_version: str | None = None

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
    given = {name: value for name in (MODEL, *_OPENAI, *_AZURE) if (value := environ.get(name, "").strip())}
    if not given:
        return None
    openai, azure = ([name for name in names if name in given] for names in (_OPENAI, _AZURE))
    if openai and azure:
        raise ConfigError(f"{' and '.join(openai + azure)} are set: unset those of OpenAI or those of Azure")
    if not openai and not azure:
        raise ConfigError(f"{MODEL} is set, but no server: set OPENAI_API_KEY or OPENAI_BASE_URL, or unset it")
    needed = (MODEL, *_AZURE) if azure else (MODEL,)
    if missing := [name for name in needed if name not in given]:
        raise ConfigError(f"{' and '.join(openai + azure)} set, but not {' and '.join(missing)}: set it too")
    if azure:
        url, key = _url(given, _AZURE[0]), _key(given, _AZURE[1])
        return Endpoint(given[MODEL], url, key, given["OPENAI_API_VERSION"])
    return Endpoint(given[MODEL], _url(given, "OPENAI_BASE_URL"), _key(given, "OPENAI_API_KEY"))


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
