"""Many prompts to one server at once: bounded, and nothing paid for is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self, TypeVar

from dynaq.config import LLMConfig
from dynaq.llm.abilities import Abilities, asks_too_much, ladder
from dynaq.llm.endpoint import Endpoint
from dynaq.llm.prompt import Prompt, new_boundary
from dynaq.llm.reply import Answer, Failure, Reply, read_completion
from dynaq.llm.server import Server

log = logging.getLogger(__name__)

Arrived = tuple[int, Reply]  # index into the prompts
Group = TypeVar("Group", bound=list[Arrived])


class LabelClient:
    """Asks an LLM from synchronous code; keeps its connections between calls. A context manager.

    Attributes:
        unasked: prompts of the present ``ask`` whose call has not begun.
    """

    def __init__(self, endpoint: Endpoint, config: LLMConfig, share: float = 1.0) -> None:
        """Sends nothing yet; ``share`` of the configured rates is this client's."""
        self.endpoint = endpoint
        self._config = config
        self._boundary = new_boundary()
        self._abilities = ladder(config.answer)  # from most to least, until a reply shows which
        self._probed = False
        self.unasked = 0
        self._runner = asyncio.Runner()
        _silence_transport_logs()
        self._server = Server(endpoint, config, share)

    def __enter__(self) -> Self:
        """Enter."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections and the event loop."""
        try:
            self._runner.run(self._server.close())
        finally:
            self._runner.close()

    def ask(
        self, prompts: Sequence[Prompt], on_replies: Callable[[Group], None], new_group: Callable[[], Group]
    ) -> list[Reply]:
        """Ask all, ``concurrency`` at a time; the very first alone, because it shows what the server can do.

        Args:
            prompts: those of an applicant together, for the provider's prefix cache.
            on_replies: called from another thread with all that arrived since its last call. No prompt takes the
                place of a reply before it returned: what it stores is stored at once, and in groups.
            new_group: a list to which (index into prompts, reply) is appended when it arrives, whatever
                ``on_replies`` is about; the next that it is called with.

        Returns:
            One reply a prompt, in order.

        Raises:
            ConfigError: the server refuses the key or knows no such model. No call starts after that; those
                in flight are waited for and delivered. An error of ``on_replies`` ends asking likewise.
            KeyboardInterrupt: calls in flight are given up, but what had arrived has been delivered.
        """
        return self._runner.run(self._ask_all(prompts, on_replies, new_group))

    async def _ask_all(
        self, prompts: Sequence[Prompt], on_replies: Callable[[Group], None], new_group: Callable[[], Group]
    ) -> list[Reply]:
        replies: dict[int, Reply] = {}
        arrived = new_group()
        delivery = asyncio.Lock()

        async def work(waiting: Iterator[tuple[int, Prompt]]) -> None:
            nonlocal arrived
            for index, prompt in waiting:
                replies[index] = await self._ask(prompt)
                ours = arrived
                ours.append((index, replies[index]))
                async with delivery:  # whoever gets here first takes along what others brought meanwhile
                    if arrived is ours:
                        arrived = new_group()
                        storing = asyncio.ensure_future(asyncio.to_thread(on_replies, ours))
                        try:
                            await asyncio.shield(storing)
                        finally:
                            await storing  # after Ctrl-C too: what was taken is stored before this ends

        def in_turn() -> Generator[tuple[int, Prompt], None, None]:
            for index, prompt in enumerate(prompts):
                self.unasked = len(prompts) - index - 1
                yield index, prompt

        numbered = in_turn()
        try:
            if not self._probed and prompts:
                await work(iter([next(numbered)]))

            async def worker() -> None:
                with closing(numbered):  # shared, and closed by an error: then nobody starts another call
                    await work(numbered)

            workers = (worker() for _ in range(min(self._config.concurrency, len(prompts) - len(replies))))
            for ended in await asyncio.gather(*workers, return_exceptions=True):
                if ended is not None:
                    raise ended
        finally:  # after Ctrl-C: what was paid for is delivered all the same
            if arrived:
                on_replies(arrived)
        return [replies[index] for index in range(len(prompts))]

    async def _ask(self, prompt: Prompt) -> Reply:
        form = self._config.answer
        body = {
            "model": self.endpoint.model,
            "messages": prompt.messages(self._boundary, form),
            "temperature": self._config.temperature,
        }
        started = time.perf_counter()
        for abilities in self._abilities:
            # With less in the request a refusal is told apart from a server that is down: no retries for that.
            retries = self._config.max_retries if abilities is self._abilities[0] else 0
            completion = await self._server.complete(body | abilities.parameters(form), retries)
            if not isinstance(completion, Failure):
                break
            failure = completion
            if self._probed or not asks_too_much(failure.kind):
                return failure
        else:
            return failure  # however little was asked for: it is the prompt, and shows nothing about the server
        reply = read_completion(completion, form, time.perf_counter() - started)
        if not self._probed:
            self._probed, self._abilities = True, [abilities]
            self._say(abilities, reply)
        return reply

    def _say(self, abilities: Abilities, reply: Reply) -> None:
        """What the server turned out to be able to do."""
        words = str(abilities)
        if isinstance(reply, Answer):
            if abilities.logprobs and not reply.logprobs:
                words += " (but gives none)"
            words += f"; it answers as {reply.model or 'a model without a name'}"
        log.info("%s takes %s", self.endpoint.provenance, words)


def _silence_transport_logs() -> None:
    """At INFO they log each URL, at DEBUG some log headers and prompts."""
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
