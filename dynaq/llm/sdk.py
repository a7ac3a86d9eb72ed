"""The SDK's clients: they know the addresses and credentials of OpenAI, of Azure, and of whoever speaks alike."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
import openai

from dynaq.llm.endpoint import RULE_SIM, Endpoint


def http_client(endpoint: Endpoint, tls: ssl.SSLContext) -> httpx2.AsyncClient:
    """Connections to a server, with the name and password that its address may hold."""
    address = urlsplit(endpoint.url.get_secret_value())
    named = "@" in address.netloc
    return openai.DefaultAsyncHttpxClient(
        auth=(unquote(address.username or ""), unquote(address.password or "")) if named else None,
        # The stand-in is on loopback, where a proxy from the environment would not find it.
        trust_env=endpoint.provenance != RULE_SIM,
        verify=tls,
    )


def sdk(endpoint: Endpoint, timeout_s: float, http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    """The SDK's client of OpenAI or of Azure, on these connections and without retries."""
    address, key = urlsplit(endpoint.url.get_secret_value()), endpoint.key.get_secret_value()
    # Without the credentials that it may hold: httpx logs each URL with its password.
    url = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
    patience: dict[str, Any] = {"timeout": timeout_s, "max_retries": 0, "http_client": http}
    if endpoint.azure_version is not None:
        return openai.AsyncAzureOpenAI(azure_endpoint=url, api_key=key, api_version=endpoint.azure_version, **patience)
    return openai.AsyncOpenAI(base_url=url, api_key=key, **patience)
