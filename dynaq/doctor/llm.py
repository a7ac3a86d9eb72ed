"""The LLMs that play the applicant and that judge: the server answers, takes the key and knows the model."""

from __future__ import annotations

from dynaq.doctor.finding import Finding
from dynaq.llm.endpoint import RULE_SIM, Endpoint, resolve_endpoint, resolve_judge
from dynaq.llm.models import list_models
from dynaq.llm.rule_sim.process import rule_sim_server

_NAMED = 5  # models of a server that are told


def check_llm() -> Finding:
    """The LLM of the environment, or the stand-in that is used where there is none."""
    endpoint = resolve_endpoint()
    if endpoint is not None:
        return check_endpoint(endpoint)
    with rule_sim_server():
        return Finding(
            "warn",
            f"none is configured: the stand-in {RULE_SIM} answers, which is no LLM",
            "for real labels set DYNAQ_LLM_MODEL, and OPENAI_API_KEY or OPENAI_BASE_URL (or those of Azure)",
        )


def check_judge() -> Finding:
    """The LLM that judges where the configuration has one."""
    endpoint = resolve_judge()
    if endpoint is not None:
        return check_endpoint(endpoint)
    return Finding("warn", "none is configured: nothing is judged", "set DYNAQ_JUDGE_MODEL and its server")


def check_endpoint(endpoint: Endpoint) -> Finding:
    """Whether a server lists the model; nothing is asked that would be paid for."""
    model, _, address = endpoint.variables
    models = list_models(endpoint)
    seen = f"the server of {endpoint.provenance} answers"
    if models is None or endpoint.azure_version is not None:
        return Finding("warn", f"{seen}, but does not list what it can be asked for", f"see that {model} is right")
    if endpoint.model in models:
        return Finding("ok", f"{seen} and has the model")
    told = ", ".join(sorted(models)[:_NAMED]) + (f" and {len(models) - _NAMED} more" if len(models) > _NAMED else "")
    return Finding("FAIL", f"{seen}, but has only {told or 'no model at all'}", f"correct {model} or {address}")
