"""Which models a server has: the one question to it that costs nothing."""

from __future__ import annotations

import asyncio

import httpx2
import openai

from dynaq.errors import ConfigError, TransientError
from dynaq.llm.endpoint import Endpoint
from dynaq.llm.sdk import http_client, sdk

_TIMEOUT_S = 5.0


def list_models(endpoint: Endpoint) -> set[str] | None:
    """The names of a server's models; None where it does not list them.

    Raises:
        ConfigError: the server refuses the key.
        TransientError: it did not answer, or not as the protocol says.
    """
    return asyncio.run(_list(endpoint))


async def _list(endpoint: Endpoint) -> set[str] | None:
    _, key, address = endpoint.variables
    async with http_client(endpoint, httpx2.create_ssl_context()) as http:
        try:
            return {str(model.id) async for model in sdk(endpoint, _TIMEOUT_S, http).models.list()}
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ConfigError(f"the LLM server refused the key (HTTP {error.status_code}): check {key}") from None
        except openai.NotFoundError:
            return None
        except openai.OpenAIError as error:
            why = f"HTTP {error.status_code}" if isinstance(error, openai.APIStatusError) else type(error).__name__
            raise TransientError(
                f"the LLM server did not answer as it should ({why}): see that it runs, and check {address}"
            ) from None
