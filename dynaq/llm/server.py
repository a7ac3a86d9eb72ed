"""One server that speaks the OpenAI protocol: how it is reached, how often it may be called, what is tried again.

The SDK reaches it first: it knows the addresses and credentials of OpenAI and Azure. What follows repeats that request
with another body, on the same connections: half of the SDK's time for a call goes into copies of what we check
ourselves. Retries are ours alone; tenacity was considered, its 84 us a call are more than the loop below is lines.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai
from aiolimiter import AsyncLimiter

from dynaq.config import LLMConfig, RatesConfig
from dynaq.errors import ConfigError
from dynaq.llm.endpoint import Endpoint
from dynaq.llm.reply import Failure
from dynaq.llm.sdk import http_client, sdk

log = logging.getLogger(__name__)

QUOTA_USED_UP = "http 429 insufficient_quota"
_UNREACHABLE = "no connection"
_MAY_PASS = re.compile(r"(no )?connection|timeout|http (429|5\d\d)( .*)?")
_GONE = re.compile(rf"{_UNREACHABLE}|http 50[23]( .*)?")  # not 504: a text may be what took too long
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 20.0  # between tries, where the server does not say
_LONGEST_RETRY_AFTER_S = 300.0


def may_pass(kind: str) -> bool:
    """Whether the same call may go through later: 429, 5xx, timeouts and dropped connections; not an empty account."""
    return kind != QUOTA_USED_UP and _MAY_PASS.fullmatch(kind) is not None


class Server:
    """Posts chat completions; for one event loop.

    Args:
        endpoint: where.
        config: patience and rates.
        share: of the rates that are this process's.
    """

    def __init__(self, endpoint: Endpoint, config: LLMConfig, share: float) -> None:
        self._endpoint, self._config = endpoint, config
        self._tls = httpx2.create_ssl_context()
        self._idle = [http_client(endpoint, self._tls)]
        self._sdk = sdk(endpoint, config.timeout_s, self._idle[0])
        # Address and headers, once the SDK has made them.
        self._request: tuple[httpx2.URL, dict[str, str]] | None = None
        self._rates = _Rates(config.rates, share)
        self._not_before = 0.0
        self._served = False
        self._gone_since: float | None = None

    async def close(self) -> None:
        """Close the connections."""
        for http in self._idle:
            await http.aclose()

    async def complete(self, body: dict[str, Any], retries: int) -> Any:
        """The parsed body of a chat completion, or a ``Failure`` after so many retries.

        While the server is gone no try counts: every call would become a missing label.

        Raises:
            ConfigError: the server refuses the key or knows no such model.
        """
        tried = 0
        for waits in itertools.count():
            completion = await self._try(body)
            if not isinstance(completion, Failure) or not may_pass(completion.kind):
                return completion
            gone, wait_s = self._is_gone(completion), completion.retry_after_s
            if (tried == retries and not gone) or wait_s > _LONGEST_RETRY_AFTER_S:
                return completion
            tried += not gone
            if wait_s:  # for everyone: the calls of the others would be turned down too
                self._not_before = max(self._not_before, time.monotonic() + wait_s)
            pause_s = max(0.0, self._not_before - time.monotonic())
            most = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(waits, 10))
            await asyncio.sleep(pause_s + random.uniform(0, most))  # noqa: S311 - so that they do not return at once
        raise AssertionError("unreachable: tries are counted, and patience ends")

    def _is_gone(self, failure: Failure) -> bool:
        """Whether a server that has answered before is away, and for less long than we are patient."""
        if not self._served or not _GONE.fullmatch(failure.kind):
            return False
        now, patience_s = time.monotonic(), self._config.patience_s
        if self._gone_since is None:
            self._gone_since = now
            log.warning("the LLM server is gone (%s): waiting up to %g s for it", failure.kind, patience_s)
        return now - self._gone_since < patience_s

    async def _try(self, body: dict[str, Any]) -> Any:
        await self._rates.wait(body)
        while (wait_s := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(wait_s * random.uniform(1, 1.2))  # noqa: S311
        try:
            async with asyncio.timeout(self._config.timeout_s):
                response = await (self._post(body) if self._request else self._post_by_sdk(body))
        except (TimeoutError, httpx2.TimeoutException):
            return Failure("timeout")
        except httpx2.ConnectError:
            return Failure(_UNREACHABLE)
        except httpx2.RequestError:  # dropped, or not decodable
            return Failure("connection")
        if response.status_code != httpx2.codes.OK:
            return self._refused(response)
        try:
            completion = json.loads(response.content)
        except (ValueError, RecursionError):  # a body that says it is JSON and is not
            return Failure("invalid reply")
        if self._gone_since is not None:
            log.warning("the LLM server is back after %.0f s", time.monotonic() - self._gone_since)
        self._served, self._gone_since = True, None
        self._rates.learn(body, completion)
        return completion

    async def _post(self, body: dict[str, Any]) -> httpx2.Response:
        assert self._request is not None
        url, headers = self._request
        # A client for each call in flight: a shared one looks over all its connections for each request.
        http = self._idle.pop() if self._idle else http_client(self._endpoint, self._tls)
        try:
            # Not http.post, which would merge and parse the same address and headers for each body.
            return await http.send(httpx2.Request("POST", url, headers=headers, content=json.dumps(body).encode()))
        finally:
            self._idle.append(http)

    async def _post_by_sdk(self, body: dict[str, Any]) -> httpx2.Response:
        try:
            raw = await self._sdk.chat.completions.with_raw_response.create(**body)
        except openai.APIStatusError as error:
            response: httpx2.Response = error.response
        except openai.APITimeoutError:
            raise TimeoutError from None
        except openai.APIConnectionError as error:
            raise httpx2.RequestError("no connection") from error
        else:
            response = raw.http_response
        # The length is of this one body; what the SDK says about itself is of no use to anyone.
        dropped = ("content-length", "x-stainless-")
        sent = response.request.headers
        headers = {name: value for name, value in sent.items() if not name.startswith(dropped)}
        self._request = response.request.url, headers
        return response

    def _refused(self, response: httpx2.Response) -> Failure:
        """A missing label, or the end where every further call would be refused too."""
        status, code = response.status_code, _code(response)
        model, key, url = self._endpoint.variables
        # A 403 to one of many is a gateway that dislikes a text, and no question of the key.
        if status == httpx2.codes.UNAUTHORIZED or (status == httpx2.codes.FORBIDDEN and not self._served):
            raise ConfigError(f"the LLM server refused the key (HTTP {status}): check {key}")
        if status == httpx2.codes.NOT_FOUND:
            raise ConfigError(
                f"the LLM server has no model {self._endpoint.model!r} at this address (HTTP 404):"
                f" check {model} and {url}"
            )
        return Failure(f"http {status} {code}" if code else f"http {status}", retry_after_s=_retry_after_s(response))


class _Rates:
    """Requests and tokens a minute, spread over it; tokens are guessed from what earlier prompts of a length took."""

    def __init__(self, rates: RatesConfig, share: float) -> None:
        self._requests = _limiter(rates.requests_per_minute, share)
        self._tokens = _limiter(rates.tokens_per_minute, share)
        self._tokens_per_character = 0.3

    async def wait(self, body: dict[str, Any]) -> None:
        if self._requests:
            await self._requests.acquire()
        if self._tokens:
            guess = self._tokens_per_character * _characters(body)
            while guess > 0:  # what a bucket does not hold waits for the next
                await self._tokens.acquire(min(guess, self._tokens.max_rate))
                guess -= self._tokens.max_rate

    def learn(self, body: dict[str, Any], completion: Any) -> None:
        if self._tokens:
            used = completion.get("usage") if isinstance(completion, dict) else None
            total = used.get("total_tokens") if isinstance(used, dict) else None
            if isinstance(total, int) and total > 0:
                self._tokens_per_character += 0.1 * (total / _characters(body) - self._tokens_per_character)


def _limiter(a_minute: int | None, share: float) -> AsyncLimiter | None:
    if a_minute is None:
        return None
    # A bucket of some seconds: with one of a minute, twice the rate could pass within a minute.
    period_s = max(5.0, 60 / (a_minute * share))
    return AsyncLimiter(max(1.0, a_minute * share * period_s / 60), period_s)


def _characters(body: dict[str, Any]) -> int:
    return sum(len(message["content"]) for message in body["messages"])


def _retry_after_s(response: httpx2.Response) -> float:
    """Seconds of the Retry-After header, which may be a date; 0 without one."""
    text = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _code(response: httpx2.Response) -> str:
    """The error's code or type, only if it is a word such as insufficient_quota: more could quote the request."""
    try:
        error = json.loads(response.content)["error"]
        named = [error.get("code"), error.get("type")]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return ""
    return next((name for name in named if isinstance(name, str) and re.fullmatch("[a-z_]{1,40}", name)), "")
