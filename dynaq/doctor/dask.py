"""Dask: the scheduler answers, and has workers."""

from __future__ import annotations

from dynaq.doctor.finding import Finding

_ANSWER_S = 5


def check_dask(address: str) -> Finding:
    """Whether the scheduler at tcp:// or tls://HOST:PORT answers, and somebody works for it."""
    from distributed import Client  # an extra

    try:
        with Client(address, timeout=_ANSWER_S, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            workers = len(client.nthreads())
    except OSError as error:
        todo = "start it (dask scheduler), or correct dask"
        return Finding("FAIL", f"the scheduler {address} does not answer ({type(error).__name__})", todo)
    seen = f"{address} answers, workers: {workers}"
    return Finding("ok", seen) if workers else Finding("FAIL", seen, f"start some: dask worker {address} --nthreads 1")
